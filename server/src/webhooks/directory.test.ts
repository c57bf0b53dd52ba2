import { Kysely, PostgresDialect } from 'kysely';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Tables } from '../db/tables.ts';
import type { Scope } from '../http/caller.ts';
import { parseId } from '../kernel/ids.ts';
import { createLogger } from '../kernel/logger.ts';
import { testSecretBox } from '../testing/secret-box.ts';
import { createWebhookDirectory, type WebhookDirectory, type WebhookDirectoryOptions } from './directory.ts';
import type { WebhookTarget } from './target.ts';
import { openWebhookFixture, type WebhookFixture } from './webhook-fixture.ts';

let api: WebhookFixture;
let scope: Scope;
/** Reads of an environment from the database so far. */
let loads: number;

beforeAll(async () => {
  api = await openWebhookFixture();
});
afterAll(() => api.close());
beforeEach(async () => {
  scope = await api.addEnvironment();
  loads = 0;
});

function open(options: Partial<WebhookDirectoryOptions> = {}): WebhookDirectory {
  const db = new Kysely<Tables>({
    dialect: new PostgresDialect({ pool: api.handle.pool }),
    log: ({ query }) => {
      if (query.sql.includes('from "environments"')) loads += 1;
    },
  });
  const { clock, box } = api;
  return createWebhookDirectory({
    db,
    clock,
    box,
    logger: createLogger('silent'),
    defaultUserAgent: 'Posthorn/1.2.3',
    ...options,
  });
}

async function create(fields: Record<string, unknown> = {}, where = scope): Promise<string> {
  const { status, body } = await api.call(where, 'POST', '', {
    name: 'W',
    url: 'https://e.example/hook',
    events: ['lead.*'],
    ...fields,
  });
  expect(status).toBe(201);
  return parseId('webhook', body.id) ?? '';
}

const ids = (targets: readonly WebhookTarget[]) => targets.map((target) => target.id);

describe('WebhookDirectory', () => {
  it('answers at once, without a promise, what it has read', async () => {
    const id = await create();
    const directory = open();
    expect(ids(await directory.match(scope, 'lead.created'))).toEqual([id]);
    const again = directory.match(scope, 'lead.created');
    expect(again).not.toBeInstanceOf(Promise);
    expect(directory.find(scope, id)).toBe((again as readonly WebhookTarget[])[0]);
    expect(directory.match(scope, 'call.ended')).toEqual([]);
    expect(directory.find(scope, api.newId())).toBeUndefined();
    expect(loads).toBe(1);
  });

  it('reads once for all who ask at the same time', async () => {
    await create();
    const directory = open();
    const answers = await Promise.all(Array.from({ length: 50 }, () => directory.match(scope, 'lead.created')));
    expect(new Set(answers).size).toBe(1);
    expect(loads).toBe(1);
  });

  it('knows neither another tenant’s nor another environment’s webhooks', async () => {
    const id = await create({ events: ['*'] });
    const directory = open();
    for (const other of [await api.addEnvironment(), await api.addEnvironment({ tenantId: scope.tenantId })]) {
      expect(await directory.match(other, 'lead.created')).toEqual([]);
      expect(await directory.find(other, id)).toBeUndefined();
    }
    expect(await directory.find(scope, id)).toBeDefined();
    expect(await directory.find({ ...scope, environmentId: api.newId() }, id)).toBeUndefined();
  });

  it('also matches paused and disabled webhooks: they are owed their events', async () => {
    const paused = await create({ status: 'paused' });
    const disabled = await create({ is_active: false });
    const targets = await open().match(scope, 'lead.created');
    expect(targets.map(({ id, status }) => [id, status])).toEqual([
      [paused, 'paused'],
      [disabled, 'disabled'],
    ]);
  });

  it('shows each change that was made through the API to the next question of the same node', async () => {
    const matched = async () => ids(await api.directory.match(scope, 'lead.created'));
    const id = await create();
    expect(await matched()).toEqual([id]);
    for (let n = 0; n < 10; n++) {
      const second = await create({ name: `n${n}` });
      expect(await matched()).toEqual([id, second]);
      const path = `/${(await api.call(scope, 'GET', '')).body.data[0].id}`;
      await api.call(scope, 'PATCH', path, { events: ['call.*'] });
      expect(await matched()).toEqual([id]);
      await api.call(scope, 'DELETE', path);
      expect(await api.directory.find(scope, second)).toBeUndefined();
    }
  });

  it('does not keep what it was reading when a change came, and reads anew for who asks after it', async () => {
    const id = await create();
    const directory = open();
    const { blocked, unblock } = await lockSecrets();
    const early = directory.find(scope, id);
    await blocked();
    await api.handle.pool.query(`UPDATE webhooks SET priority = 42 WHERE id = $1`, [id]);
    directory.invalidate(scope.tenantId, scope.environmentId);
    const late = directory.find(scope, id);
    const later = directory.find(scope, id);
    await unblock();
    expect((await early)?.priority).toBe(0);
    expect((await late)?.priority).toBe(42);
    expect((await later)?.priority).toBe(42);
    expect(directory.find(scope, id)).toMatchObject({ priority: 42 });
    expect(loads).toBe(2);
  });

  it('does not keep what a change made untrue although nobody asked in between', async () => {
    const id = await create();
    const directory = open();
    const { blocked, unblock } = await lockSecrets();
    const early = directory.find(scope, id);
    await blocked();
    await api.handle.pool.query(`UPDATE webhooks SET priority = 42 WHERE id = $1`, [id]);
    directory.invalidate(scope.tenantId, scope.environmentId);
    await unblock();
    await early;
    expect(await directory.find(scope, id)).toMatchObject({ priority: 42 });
  });

  it.each([
    ['the environment', (directory: WebhookDirectory) => directory.invalidate(scope.tenantId, scope.environmentId)],
    ['the tenant', (directory: WebhookDirectory) => directory.invalidate(scope.tenantId)],
    ['everything', (directory: WebhookDirectory) => directory.invalidateAll()],
  ])('forgets when %s is invalidated, and nothing else', async (what, invalidate) => {
    const other = await api.addEnvironment();
    const directory = open();
    await directory.match(scope, 'a');
    await directory.match(other, 'a');
    invalidate(directory);
    expect(directory.match(other, 'a') instanceof Promise).toBe(what === 'everything');
    const again = directory.match(scope, 'a');
    expect(again).toBeInstanceOf(Promise);
    await again;
  });

  it('reads anew only what changed, and keeps the targets of the rest as they are', async () => {
    const [a, b] = [await create(), await create()];
    const directory = open();
    const [beforeA, beforeB] = await directory.match(scope, 'lead.created');
    const path = (await api.call(scope, 'GET', '')).body.data[0].id;
    const changes = [
      () => api.call(scope, 'PATCH', `/${path}`, { priority: 1 }),
      () => api.call(scope, 'POST', `/${path}/secret/rotate`, { grace_period_seconds: 60 }),
      () => api.call(scope, 'PATCH', `/${path}`, { secret: 'another secret' }),
      () => api.call(scope, 'POST', `/${path}/pause`),
      async () => api.clock.advance(60_000),
    ];
    let last = beforeB;
    for (const change of changes) {
      await change();
      directory.invalidate(scope.tenantId);
      const found = [await directory.find(scope, a), await directory.find(scope, b)];
      expect(found[0]).toBe(beforeA);
      expect(found[1]).toBeDefined();
      expect(found[1]).not.toBe(last);
      last = found[1];
    }
    directory.invalidateAll();
    expect(await directory.find(scope, a)).not.toBe(beforeA);
    const again = await directory.find(scope, a);
    await api.handle.pool.query(`UPDATE environments SET preset = 'call-center' WHERE id = $1`, [scope.environmentId]);
    directory.invalidate(scope.tenantId, scope.environmentId);
    expect(await directory.find(scope, a)).toMatchObject({ envelope: 'event_type' });
    expect(again).toMatchObject({ envelope: 'standard' });
  });

  it('keeps a bounded number of environments, those used last', async () => {
    const directory = open({ maxEnvironments: 2 });
    const [a, b, c] = [await api.addEnvironment(), await api.addEnvironment(), await api.addEnvironment()];
    await directory.match(a, 'x');
    await directory.match(b, 'x');
    directory.match(a, 'x');
    await directory.match(c, 'x');
    expect(directory.match(a, 'x')).not.toBeInstanceOf(Promise);
    expect(directory.match(c, 'x')).not.toBeInstanceOf(Promise);
    expect(await directory.match(b, 'x')).toEqual([]);
    expect(loads).toBe(4);
  });

  it('goes on after a read that failed', async () => {
    const id = await create();
    const { clock, box, handle } = api;
    let broken = true;
    const pool = {
      connect: () => (broken ? Promise.reject(new Error('no connection')) : handle.pool.connect()),
      end: async () => {},
    };
    const db = new Kysely<Tables>({ dialect: new PostgresDialect({ pool: pool as never }) });
    const directory = createWebhookDirectory({ db, clock, box, logger: createLogger('silent'), defaultUserAgent: 'P' });
    await expect(directory.find(scope, id)).rejects.toThrow('no connection');
    broken = false;
    expect(await directory.find(scope, id)).toMatchObject({ id });
  });

  it('serves the other webhooks when one cannot be opened, whose signing then fails', async () => {
    const good = await create();
    const sealed = await create({ headers: { 'X-Key': 'value' } });
    const directory = open({ box: testSecretBox(9) });
    const targets = await directory.match(scope, 'lead.created');
    expect(ids(targets)).toEqual([good, sealed]);
    for (const target of targets) expect(() => target.signer.sign('evt_1', 1, Buffer.from('{}'))).toThrow();
    expect(targets[1]?.customHeaders).toEqual([]);
  });

  it('finds more webhooks than are read at a stretch', async () => {
    await api.handle.pool.query(
      `INSERT INTO webhooks (tenant_id, id, environment_id, name, url, events, status, http_method, created_at, updated_at)
       SELECT $1, gen_random_uuid(), $2, 'n', 'https://e.example', '{a.b}', 'active', 'POST', now(), now()
       FROM generate_series(1, 1000)`,
      [scope.tenantId, scope.environmentId],
    );
    const targets = await open().match(scope, 'a.b');
    expect(new Set(ids(targets)).size).toBe(1000);
  });
});

describe('WebhookTarget', () => {
  it('holds what the webhook says, and what its preset says where it is silent', async () => {
    const where = await api.addEnvironment({ preset: 'support-autoresponder' });
    const plain = await open().find(where, await create({ events: ['*'] }, where));
    expect(plain).toMatchObject({
      ...where,
      status: 'active',
      method: 'POST',
      envelope: 'event',
      userAgent: 'AI-Support-Autoresponder/1.0',
      eventHeader: 'X-Webhook-Event',
      timeoutMs: 15_000,
      maxConcurrency: null,
      rateLimitPerMinute: null,
      ordering: null,
      bound: false,
      circuitBreaker: { failureRate: 0.5, minimumRequests: 20, windowMs: 60_000, openMs: 30_000 },
      failoverUrl: null,
      ipWhitelist: null,
      priority: 0,
      verifyTls: true,
      customHeaders: [],
      retryPolicy: {
        enabled: true,
        maxAttempts: 8,
        strategy: 'exponential',
        scheduleSeconds: [5, 300, 1800, 7200, 18000, 36000, 36000],
      },
    });
    expect(plain?.url.href).toBe('https://e.example/hook');
    expect(plain?.signer.sign('evt_1', 1, Buffer.from('{}'))).toContain('X-Webhook-Signature');

    const own = await create({
      http_method: 'PUT',
      envelope: 'raw',
      headers: { 'X-A': '1', Authorization: 'Bearer t', 'user-agent': 'Mine/1' },
      timeout_seconds: 3,
      max_concurrency: 4,
      rate_limit_per_minute: 600,
      ordering: { enabled: true, key_path: 'items.0.id', on_dead: 'park' },
      circuit_breaker: { failure_rate: 1, minimum_requests: 3, window_seconds: 5, open_seconds: 1 },
      failover_url: 'https://standby.example/hook',
      ip_whitelist: ['2001:DB8:0:0::1'],
      priority: -5,
      verify_tls: false,
      retry_count: 0,
    });
    expect(await open().find(scope, own)).toMatchObject({
      method: 'PUT',
      envelope: 'raw',
      userAgent: 'Mine/1',
      customHeaders: ['X-A', '1', 'Authorization', 'Bearer t'],
      maskedHeaders: ['X-A', '1', 'Authorization', '***'],
      timeoutMs: 3_000,
      maxConcurrency: 4,
      rateLimitPerMinute: 600,
      ordering: { keyPath: ['items', '0', 'id'], onDead: 'park' },
      bound: true,
      circuitBreaker: { failureRate: 1, minimumRequests: 3, windowMs: 5_000, openMs: 1_000 },
      failoverUrl: new URL('https://standby.example/hook'),
      ipWhitelist: ['2001:db8::1/128'],
      priority: -5,
      verifyTls: false,
      retryPolicy: { maxAttempts: 1 },
    });
    expect((await open().find(scope, await create()))?.userAgent).toBe('Posthorn/1.2.3');
  });

  it.each([
    [{ rate_limit_per_minute: 60 }, { bound: true, ordering: null }],
    [{ max_concurrency: 1_000 }, { bound: true, ordering: null }],
    [{ ordering: { enabled: true } }, { bound: true, ordering: { keyPath: null, onDead: 'skip' } }],
    [{ ordering: { key_path: 'a', on_dead: 'park' } }, { bound: false, ordering: null }],
    [{ circuit_breaker: { enabled: false, open_seconds: 9 } }, { bound: false, circuitBreaker: null }],
  ])('with %j has %j', async (fields, expected) => {
    expect(await open().find(scope, await create(fields))).toMatchObject(expected);
  });

  it('sends a signature header once, although the webhook had a header of that name before its preset did', async () => {
    const id = await create({ headers: { 'X-Hub-Signature': 'mine', 'X-B': '2' } });
    await api.handle.pool.query(`UPDATE webhooks SET signature = $1 WHERE id = $2`, [
      { method: 'hmac_sha1', header: 'x-hub-signature' },
      id,
    ]);
    const target = await open().find(scope, id);
    expect(target?.customHeaders).toEqual(['X-B', '2']);
    expect(target?.signer.sign('evt_1', 1, Buffer.from('{}')).filter((part) => /^x-hub/i.test(part))).toHaveLength(1);
  });
});

/** Makes every read of secrets wait. `blocked` resolves when one does. */
async function lockSecrets(): Promise<{ blocked: () => Promise<void>; unblock: () => Promise<void> }> {
  const client = await api.handle.pool.connect();
  await client.query('BEGIN');
  await client.query('LOCK TABLE webhook_secrets IN ACCESS EXCLUSIVE MODE');
  return {
    async blocked() {
      const waiting = `SELECT FROM pg_locks WHERE NOT granted AND relation = 'webhook_secrets'::regclass`;
      for (;;) if ((await client.query(waiting)).rowCount === 1) return;
    },
    async unblock() {
      await client.query('ROLLBACK');
      client.release();
    },
  };
}
