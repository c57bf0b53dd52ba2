import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { hintOfRefused } from '../access/credentials.ts';
import { createApiKey } from '../access/key.ts';
import { type DatabaseHandle, openDatabase } from '../db/pool.ts';
import type { Caller } from '../http/caller.ts';
import { createHttpServer, type HttpServer } from '../http/server.ts';
import { ERROR_CODES, type ErrorCode } from '../kernel/error-codes.ts';
import { AppError, forbidden, unauthorized } from '../kernel/errors.ts';
import { createIdSource, formatId } from '../kernel/ids.ts';
import { createLogger } from '../kernel/logger.ts';
import { insertTenant } from '../tenants/queries.ts';
import { closeTenant } from '../tenants/removal.ts';
import { DEFAULT_SETTINGS } from '../tenants/types.ts';
import { createTestDatabase, type TestDatabase } from '../testing/database.ts';
import { eventually } from '../testing/eventually.ts';
import { ManualClock } from '../testing/manual-clock.ts';
import { type Answer, startTestPosthorn, type TestPosthorn } from '../testing/posthorn.ts';
import { createDenials, type Denials } from './denials.ts';
import { PLATFORM_CHAIN } from './hash.ts';
import { verifyChain } from './verify.ts';

test.each<[string, ErrorCode, number]>([
  ['401 unauthorized', 'unauthorized', 1],
  ['403 forbidden', 'forbidden', 1],
  ['429 too_many_failed_attempts', 'too_many_failed_attempts', 1],
  ['429 rate_limited, which is no question of who asks', 'rate_limited', 0],
])('a refusal is denied or not: %s', async (_name, code, expected) => {
  const denied: string[] = [];
  const app = createHttpServer({
    logger: createLogger('silent'),
    authenticate: () => {
      throw new AppError({ code, message: 'Refused.' });
    },
    onDenied: (_request, error) => denied.push(error.code),
  });
  app.get('/thing', { config: { permission: 'read' } }, () => ({}));
  expect((await app.inject('/thing')).statusCode).toBe(ERROR_CODES[code].status);
  expect(denied).toEqual(expected === 1 ? [code] : []);
  await app.close();
});

describe('gathering', () => {
  let database: TestDatabase;
  let handle: DatabaseHandle;
  let clock: ManualClock;
  let newId: ReturnType<typeof createIdSource>;
  let app: HttpServer;
  let denials: Denials;
  let broken = false;
  const callers = new Map<string, Caller>();
  beforeAll(async () => {
    database = await createTestDatabase();
    handle = openDatabase({ connection: database.connection, logger: createLogger('silent') });
  });
  afterAll(async () => {
    await handle.close();
    await database.drop();
  });
  beforeEach(() => {
    clock = new ManualClock();
    newId = createIdSource(clock);
    const logger = createLogger('silent');
    const db = new Proxy(handle.db, {
      get: (target, name) => {
        if (broken && name === 'transaction') throw new Error('no database');
        const value = Reflect.get(target, name);
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
    denials = createDenials({ db, clock, newId, logger, hintOf: hintOfRefused });
    app = createHttpServer({
      logger,
      authenticate: (request) => {
        const caller = callers.get(String(request.headers.authorization));
        if (caller === undefined) throw unauthorized();
        return caller;
      },
      onDenied: denials.add,
    });
    for (const name of ['a', 'b']) app.get(`/${name}/:id`, { config: { permission: 'administer' } }, async () => 'ok');
    app.get('/forbidden', { config: { permission: 'read' } }, async () => {
      throw forbidden('Not this one.');
    });
  });
  afterEach(async () => {
    broken = false;
    await denials.stop();
    await app.close();
  });

  const ask = (url: string, remoteAddress = '192.0.2.1', headers: Record<string, string> = {}) =>
    app.inject({ url, remoteAddress, headers });
  const seen = new Map<string, number>();
  /** What was written to a chain since the last call, oldest first. */
  async function written(tenantId = PLATFORM_CHAIN) {
    const rows = await handle.db
      .selectFrom('audit_log')
      .selectAll()
      .where('tenant_id', '=', tenantId)
      .where('sequence', '>', seen.get(tenantId) ?? 0)
      .orderBy('sequence')
      .execute();
    seen.set(tenantId, rows.at(-1)?.sequence ?? seen.get(tenantId) ?? 0);
    // biome-ignore lint/suspicious/noExplicitAny: details are looked into freely here
    return rows.map((row) => ({ ...row, details: row.details as any }));
  }
  async function makeCaller(role: Caller['role']): Promise<Caller> {
    const tenant = { slug: `t-${callers.size}`, name: 'T', settings: DEFAULT_SETTINGS };
    const row = await handle.db.transaction().execute((trx) => insertTenant(trx, tenant, newId, new Date()));
    const tenantId = row?.id as string;
    const actor = { kind: 'api_key', id: formatId('apiKey', newId()) } as const;
    const caller = { actor, tenantId, environmentId: newId(), environmentName: 'production', role };
    callers.set(`Bearer ${role}-${callers.size}`, caller);
    return caller;
  }
  const keyOf = (caller: Caller) => [...callers].find(([, each]) => each === caller)?.[0] as string;

  test('those that are alike are one entry a minute, with their count and times', async () => {
    const firstAt = new Date(clock.now()).toISOString();
    const { headers } = await ask('/a/1');
    clock.advance(10_000);
    for (let count = 0; count < 4; count += 1) await ask(`/a/${count}`);
    await ask('/b/1');
    await ask('/a/1', '192.0.2.2');
    expect(clock.pending).toBe(1);
    clock.advance(50_000);
    const entries = await eventually(written, (found) => found.length > 0);
    expect(entries.map(({ address, details }) => [address, details.route, details.count])).toEqual([
      ['192.0.2.1', 'GET /a/:id', 5],
      ['192.0.2.1', 'GET /b/:id', 1],
      ['192.0.2.2', 'GET /a/:id', 1],
    ]);
    expect(entries[0]).toMatchObject({
      outcome: 'denied',
      actor_kind: null,
      role: null,
      request_id: headers['x-request-id'],
      details: { status: 401, first_at: firstAt, last_at: '2026-01-15T12:00:10.000Z' },
    });
    // Nothing was refused since: nothing is waited for.
    expect(clock.pending).toBe(0);
  });

  test('a flood from everywhere is 51 entries, and hides nothing of a tenant', async () => {
    const viewer = await makeCaller('viewer');
    for (let count = 0; count < 1_000; count += 1) await ask('/a/1', `198.51.${count >> 8}.${count & 255}`);
    expect((await ask('/a/1', '192.0.2.1', { authorization: keyOf(viewer) })).statusCode).toBe(403);
    await denials.flush();
    const entries = await written();
    expect(entries).toHaveLength(51);
    expect(entries.at(-1)?.details).toEqual({ count: 950, others: true });
    const [own] = await written(viewer.tenantId);
    expect(own).toMatchObject({
      actor_kind: 'api_key',
      actor_id: viewer.actor.id,
      role: 'viewer',
      environment_id: viewer.environmentId,
      details: { status: 403, count: 1, reason: expect.stringContaining('"administer"') },
    });
    for (const chain of [PLATFORM_CHAIN, viewer.tenantId]) {
      expect((await verifyChain(handle.db, chain, () => {})).fault).toBeUndefined();
    }
  });

  test('a refusal in a handler is one too', async () => {
    const owner = await makeCaller('owner');
    await ask('/forbidden', '192.0.2.1', { authorization: keyOf(owner) });
    await denials.flush();
    expect((await written(owner.tenantId))[0]?.details).toMatchObject({ route: 'GET /forbidden', status: 403 });
  });

  test('of a credential there is the hint that a list of keys shows, and only of an API key', async () => {
    const { key, hint } = createApiKey('production');
    await ask('/a/1', '192.0.2.1', { 'x-api-key': key });
    await ask('/b/1', '192.0.2.1', { authorization: 'Bearer pho_the-operator-key-with-a-typo' });
    await denials.flush();
    const entries = await written();
    expect(entries.map(({ details }) => details.key_hint)).toEqual([hint, undefined]);
    expect(JSON.stringify(entries)).not.toContain(key.slice(hint.length, hint.length + 6));
    expect(JSON.stringify(entries)).not.toContain('typo');
  });

  test('what cannot be written is kept, added to what comes, and written later', async () => {
    await ask('/a/1');
    broken = true;
    await expect(denials.flush()).rejects.toThrow('no database');
    await ask('/a/1');
    clock.advance(60_000);
    broken = false;
    await ask('/b/1');
    await denials.flush();
    expect((await written()).map(({ details }) => [details.route, details.count])).toEqual([
      ['GET /a/:id', 2],
      ['GET /b/:id', 1],
    ]);
  });

  test('those of a tenant that was deleted meanwhile go to the platform', async () => {
    const viewer = await makeCaller('viewer');
    await ask('/a/1', '192.0.2.1', { authorization: keyOf(viewer) });
    await handle.db.transaction().execute((trx) => closeTenant(trx, viewer.tenantId, new Date()));
    await denials.flush();
    expect((await written()).map(({ actor_id }) => actor_id)).toEqual([viewer.actor.id]);
  });

  test('a stop writes the rest', async () => {
    await ask('/a/1');
    await denials.stop();
    expect(await written()).toHaveLength(1);
  });
});

describe('in the whole program', () => {
  let posthorn: TestPosthorn;
  beforeAll(async () => {
    posthorn = await startTestPosthorn();
  });
  afterAll(() => posthorn.stop());

  const denied = async (chain: string): Promise<Answer['body'][]> => {
    // A stop writes what was gathered.
    await posthorn.restart();
    return (await posthorn.call('GET', `/api/v1/audit?chain=${chain}&outcome=denied`)).body.data;
  };

  test('refusals of the plain publish, of a foreign tenant and of an unknown key are recorded', async () => {
    const { body: viewer } = await posthorn.call('POST', '/api/v1/api-keys', { name: 'V', role: 'viewer' });
    const as = { authorization: `Bearer ${viewer.key}` };
    const event = { event_type: 'a.b', data: {} };
    for (const _ of [1, 2, 3]) expect((await posthorn.call('POST', '/api/v1/events', event, as)).status).toBe(403);
    const elsewhere = { ...as, 'x-tenant-id': 'elsewhere' };
    expect((await posthorn.call('GET', '/api/v1/webhooks', undefined, elsewhere)).status).toBe(403);
    const unknown = { authorization: `Bearer ${createApiKey('production').key}` };
    for (const _ of [1, 2]) expect((await posthorn.call('POST', '/api/v1/events', event, unknown)).status).toBe(401);
    const own = await denied('tenant');
    expect(own.map(({ actor, details }) => [actor.id, details.route, details.count])).toEqual([
      [viewer.id, 'GET /api/v1/webhooks', 1],
      [viewer.id, 'POST /api/v1/events', 3],
    ]);
    const [nobodys] = await denied('platform');
    expect(nobodys).toMatchObject({
      actor: null,
      tenant_id: null,
      address: '127.0.0.1',
      details: { route: 'POST /api/v1/events', status: 401, count: 2 },
    });
  });
});
