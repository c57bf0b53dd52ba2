import { CompiledQuery } from 'kysely';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type DatabaseHandle, openDatabase } from '../db/pool.ts';
import type { Caller } from '../http/caller.ts';
import { createHttpServer, type HttpServer } from '../http/server.ts';
import { systemClock } from '../kernel/clock.ts';
import { createIdSource, formatId } from '../kernel/ids.ts';
import { createLogger } from '../kernel/logger.ts';
import { ensureDefaultTenant } from '../tenants/default-tenant.ts';
import { createTenantDirectory } from '../tenants/directory.ts';
import { insertTenant } from '../tenants/queries.ts';
import { DEFAULT_SETTINGS } from '../tenants/types.ts';
import { createTestDatabase, type TestDatabase } from '../testing/database.ts';
import { testSecretBox } from '../testing/secret-box.ts';
import { type Authenticator, createAuthenticator } from './authenticator.ts';
import { createApiKey } from './key.ts';
import type { ApiKeyRole } from './key-roles.ts';
import { insertKey } from './queries.ts';

const noDocument = () => Promise.reject(new Error('Nothing is to be fetched here.'));
const OPERATOR_KEY = 'operator-key-of-the-tests';
const logger = createLogger('silent');
const box = testSecretBox();
const newId = createIdSource();

let database: TestDatabase;
let handle: DatabaseHandle;

beforeAll(async () => {
  database = await createTestDatabase();
  handle = openDatabase({ connection: database.connection, logger });
  await ensureDefaultTenant({ db: handle.db, clock: systemClock, newId, settings: DEFAULT_SETTINGS });
});

afterAll(async () => {
  await handle.close();
  await database.drop();
});

/** A node: an HTTP server whose one route says who is asking, and a clock of its own. */
function startNode(options: { maxEntries?: number } = {}) {
  const time = { ms: Date.parse('2026-03-01T10:00:00Z'), monotonicMs: 0 };
  const timers: (() => void)[] = [];
  const clock = {
    now: () => time.ms,
    monotonicMs: () => time.monotonicMs,
    after: (_delayMs: number, task: () => void) => {
      timers.push(task);
      return () => void timers.splice(timers.indexOf(task), 1);
    },
  };
  const queries: string[] = [];
  const pool = openDatabase({ connection: database.connection, logger, max: 4 });
  pool.pool.on('connect', (client) => {
    const query = client.query.bind(client) as (...args: unknown[]) => unknown;
    client.query = ((...args: unknown[]) => {
      queries.push(String(args[0]));
      return query(...args);
    }) as typeof client.query;
  });
  const tenants = createTenantDirectory({ db: pool.db, clock });
  const authenticator: Authenticator = createAuthenticator({
    ...options,
    db: pool.db,
    box,
    clock,
    logger,
    tenants,
    operatorKey: OPERATOR_KEY,
    fetchDocument: noDocument,
  });
  const app: HttpServer = createHttpServer({ logger, authenticate: authenticator.authenticate });
  app.get('/me', { config: { permission: 'public' } }, async () => 'anyone');
  app.get('/caller', { config: { permission: 'publish' } }, async (request) => request.caller);
  return {
    time,
    timers,
    queries,
    authenticator,
    tenants,
    async ask(headers: Record<string, string>) {
      const response = await app.inject({ url: '/caller', headers });
      return { status: response.statusCode, body: response.json() };
    },
    /** What the HTTP server's hook calls; a promise tells that a query was needed. */
    authenticate: (headers: Record<string, string>): Caller | Promise<Caller> =>
      authenticator.authenticate({ headers } as never),
    async stop() {
      await app.close();
      await authenticator.stop();
      await pool.close();
    },
  };
}

async function withNode(task: (node: ReturnType<typeof startNode>) => Promise<void>, options = {}): Promise<void> {
  const node = startNode(options);
  try {
    await task(node);
  } finally {
    await node.stop();
  }
}

let tenantCount = 0;
async function makeTenant() {
  tenantCount += 1;
  const slug = `auth-${tenantCount}`;
  const { db } = handle;
  const row = await db
    .transaction()
    .execute((trx) => insertTenant(trx, { slug, name: slug, settings: DEFAULT_SETTINGS }, newId, new Date()));
  if (row === undefined) throw new Error('the slug was taken');
  const rows = await db.selectFrom('environments').selectAll().where('tenant_id', '=', row.id).execute();
  return { id: row.id, slug, environments: new Map(rows.map((environment) => [environment.name, environment.id])) };
}

async function makeKey(
  tenant: Awaited<ReturnType<typeof makeTenant>>,
  options: { role?: ApiKeyRole; environment?: string; expiresAt?: Date } = {},
) {
  const environment = options.environment ?? 'production';
  const { key, hint } = createApiKey(environment);
  const id = newId();
  await handle.db.transaction().execute((trx) =>
    insertKey(trx, {
      tenantId: tenant.id,
      id,
      environment: { id: tenant.environments.get(environment) as string, name: environment },
      name: 'k',
      role: options.role ?? 'publisher',
      keyHash: box.hashKey(key),
      keyHint: hint,
      expiresAt: options.expiresAt ?? null,
      now: new Date(),
    }),
  );
  return { id, key, bearer: { authorization: `Bearer ${key}` } };
}

const OPERATOR = { authorization: `Bearer ${OPERATOR_KEY}` };

test('a key acts in its own tenant and environment', () =>
  withNode(async (node) => {
    const tenant = await makeTenant();
    const { id, key, bearer } = await makeKey(tenant, { environment: 'staging', role: 'developer' });
    const caller = {
      actor: { kind: 'api_key', id: formatId('apiKey', id) },
      tenantId: tenant.id,
      environmentId: tenant.environments.get('staging'),
      environmentName: 'staging',
      role: 'developer',
    };
    expect(await node.ask(bearer)).toEqual({ status: 200, body: caller });
    expect(await node.ask({ 'x-api-key': key })).toEqual({ status: 200, body: caller });
  }));

test('a key may name its own tenant and environment, and naming others is a 403', () =>
  withNode(async (node) => {
    const [tenant, other] = [await makeTenant(), await makeTenant()];
    const { bearer } = await makeKey(tenant);
    for (const name of [tenant.slug, formatId('tenant', tenant.id)]) {
      expect((await node.ask({ ...bearer, 'x-tenant-id': name, 'x-environment': 'production' })).status).toBe(200);
    }
    for (const name of [other.slug, formatId('tenant', other.id), 'default', 'no-such', '', '*', '__proto__']) {
      const { status, body } = await node.ask({ ...bearer, 'x-tenant-id': name });
      expect([status, body.error.message]).toEqual([
        403,
        'X-Tenant-Id names another tenant than the one of this API key.',
      ]);
    }
    for (const name of ['staging', 'no-such', '', 'PRODUCTION']) {
      expect((await node.ask({ ...bearer, 'x-environment': name })).status).toBe(403);
    }
  }));

test('the operator acts for the tenant and environment that the request names, or for the default', () =>
  withNode(async (node) => {
    const tenant = await makeTenant();
    const fallback = await node.tenants.find('default');
    const actor = { kind: 'operator', id: 'operator' };
    expect((await node.ask(OPERATOR)).body).toEqual({
      actor,
      tenantId: fallback?.id,
      environmentId: fallback?.environments.get('production')?.id,
      environmentName: 'production',
      role: 'operator',
    });
    for (const name of [tenant.slug, formatId('tenant', tenant.id)]) {
      expect((await node.ask({ ...OPERATOR, 'x-tenant-id': name, 'x-environment': 'staging' })).body).toEqual({
        actor,
        tenantId: tenant.id,
        environmentId: tenant.environments.get('staging'),
        environmentName: 'staging',
        role: 'operator',
      });
    }
  }));

test('the operator gets a 404 for a tenant or an environment that is not there', () =>
  withNode(async (node) => {
    for (const name of ['no-such', '', formatId('tenant', newId()), '../x', '__proto__', 'x'.repeat(100_000)]) {
      const { status, body } = await node.ask({ ...OPERATOR, 'x-tenant-id': name });
      expect([status, body.error.message]).toEqual([404, 'No such tenant.']);
    }
    for (const name of ['no-such', '', '__proto__', 'constructor']) {
      const { status, body } = await node.ask({ ...OPERATOR, 'x-environment': name });
      expect([status, body.error.message]).toEqual([404, 'No such environment.']);
    }
  }));

test('what is no key is refused, without a query when it cannot be one', () =>
  withNode(async (node) => {
    const { key } = await makeKey(await makeTenant());
    const bad = [
      {},
      { authorization: 'Bearer x' },
      { authorization: `Bearer ${OPERATOR_KEY}x` },
      { authorization: `Bearer ${OPERATOR_KEY.slice(1)}` },
      { authorization: `Bearer ${key} ` },
      { authorization: `Bearer ${key}, ${key}` },
      { authorization: `Basic ${key}` },
      { 'x-api-key': `${key}\0` },
      { 'x-api-key': "' OR 1=1 --" },
      { 'x-api-key': 'x'.repeat(100_000) },
      { authorization: `Bearer ${key}`, 'x-api-key': OPERATOR_KEY },
    ];
    for (const headers of bad) {
      const { status, body } = await node.ask(headers as Record<string, string>);
      expect([status, body.error.code]).toEqual([401, 'unauthorized']);
    }
    expect(node.queries).toEqual([]);
    const wellFormed = createApiKey('production').key;
    expect((await node.ask({ 'x-api-key': wellFormed })).status).toBe(401);
    expect((await node.ask({ 'x-api-key': key })).status).toBe(200);
  }));

test('a key that is in memory is answered without a promise and without a query', () =>
  withNode(async (node) => {
    const { bearer } = await makeKey(await makeTenant());
    const first = node.authenticate(bearer);
    expect(first).toBeInstanceOf(Promise);
    const caller = await first;
    const queries = node.queries.length;
    for (let count = 0; count < 100; count += 1) expect(node.authenticate(bearer)).toBe(caller);
    expect(node.queries).toHaveLength(queries);
  }));

test('a hundred first requests with one key share a query', () =>
  withNode(async (node) => {
    const { bearer } = await makeKey(await makeTenant());
    const callers = await Promise.all(Array.from({ length: 100 }, () => node.authenticate(bearer)));
    expect(new Set(callers).size).toBe(1);
    expect(node.queries).toHaveLength(1);
  }));

test('a bad key that is tried again and again costs a query every five seconds', () =>
  withNode(async (node) => {
    const headers = { 'x-api-key': createApiKey('production').key };
    for (let count = 0; count < 50; count += 1) expect((await node.ask(headers)).status).toBe(401);
    expect(node.queries).toHaveLength(1);
    node.time.monotonicMs += 5000;
    expect((await node.ask(headers)).status).toBe(401);
    expect(node.queries).toHaveLength(2);
  }));

test('a flood of bad keys pushes no good key out of memory', () =>
  withNode(
    async (node) => {
      const { bearer } = await makeKey(await makeTenant());
      await node.authenticate(bearer);
      for (let count = 0; count < 50; count += 1) await node.ask({ 'x-api-key': createApiKey('production').key });
      expect(node.authenticate(bearer)).not.toBeInstanceOf(Promise);
    },
    { maxEntries: 2 },
  ));

test('memory holds no more keys than it is told to', () =>
  withNode(
    async (node) => {
      const tenant = await makeTenant();
      const keys = [await makeKey(tenant), await makeKey(tenant), await makeKey(tenant)];
      for (const { bearer } of keys) await node.authenticate(bearer);
      expect(keys.map(({ bearer }) => node.authenticate(bearer) instanceof Promise)).toEqual([true, false, false]);
    },
    { maxEntries: 2 },
  ));

test('a key revoked on another node is refused once this one is told, and other tenants’ keys stay in memory', () =>
  withNode(async (node) => {
    const [tenant, other] = [await makeTenant(), await makeTenant()];
    const [revoked, steady] = [await makeKey(tenant), await makeKey(other)];
    await node.authenticate(revoked.bearer);
    await node.authenticate(steady.bearer);
    await handle.db.updateTable('api_keys').set({ revoked_at: new Date() }).where('id', '=', revoked.id).execute();
    node.authenticator.invalidate(tenant.id);
    expect((await node.ask(revoked.bearer)).status).toBe(401);
    expect(node.authenticate(steady.bearer)).not.toBeInstanceOf(Promise);
    node.authenticator.invalidateAll();
    expect(node.authenticate(steady.bearer)).toBeInstanceOf(Promise);
  }));

test('a revocation while the key is being looked up is not overlooked', () =>
  withNode(async (node) => {
    const tenant = await makeTenant();
    const { id, bearer } = await makeKey(tenant);
    // The look-up began before the notice and reads the key as it was before the revocation.
    const blocker = await handle.pool.connect();
    await blocker.query('BEGIN');
    await blocker.query('LOCK TABLE api_keys IN ACCESS EXCLUSIVE MODE');
    const early = node.ask(bearer);
    await expect.poll(() => node.queries.length).toBe(1);
    node.authenticator.invalidate(tenant.id);
    await blocker.query('COMMIT');
    blocker.release();
    expect((await early).status).toBe(200);
    await handle.db.updateTable('api_keys').set({ revoked_at: new Date() }).where('id', '=', id).execute();
    expect((await node.ask(bearer)).status).toBe(401);
  }));

test('even a missed notice is made up for after a minute', () =>
  withNode(async (node) => {
    const { id, bearer } = await makeKey(await makeTenant());
    await node.authenticate(bearer);
    await handle.db.updateTable('api_keys').set({ revoked_at: new Date() }).where('id', '=', id).execute();
    node.time.monotonicMs = 59_999;
    expect((await node.ask(bearer)).status).toBe(200);
    node.time.monotonicMs = 60_000;
    expect((await node.ask(bearer)).status).toBe(401);
  }));

test('a key in memory ends at the millisecond of its expiry', () =>
  withNode(async (node) => {
    const { bearer } = await makeKey(await makeTenant(), { expiresAt: new Date(node.time.ms + 1000) });
    await node.authenticate(bearer);
    node.time.ms += 999;
    expect((await node.ask(bearer)).status).toBe(200);
    node.time.ms += 1;
    expect((await node.ask(bearer)).status).toBe(401);
  }));

test('an expired key that is looked up for the first time is refused', () =>
  withNode(async (node) => {
    const { bearer } = await makeKey(await makeTenant(), { expiresAt: new Date(node.time.ms) });
    expect((await node.ask(bearer)).status).toBe(401);
  }));

test('a renamed slug is known to the tenant’s keys after the notice', () =>
  withNode(async (node) => {
    const tenant = await makeTenant();
    const { bearer } = await makeKey(tenant);
    await node.authenticate(bearer);
    await handle.db.updateTable('tenants').set({ slug: 'renamed' }).where('id', '=', tenant.id).execute();
    node.authenticator.invalidate(tenant.id);
    expect((await node.ask({ ...bearer, 'x-tenant-id': 'renamed' })).status).toBe(200);
    expect((await node.ask({ ...bearer, 'x-tenant-id': tenant.slug })).status).toBe(403);
  }));

test('a key whose role this version does not know lets nobody in', () =>
  withNode(async (node) => {
    const { id, bearer } = await makeKey(await makeTenant());
    for (const role of ['operator', 'superuser', '__proto__']) {
      await handle.db.updateTable('api_keys').set({ role }).where('id', '=', id).execute();
      expect((await node.ask(bearer)).status).toBe(500);
    }
  }));

async function lastUse(id: string): Promise<number | undefined> {
  const row = await handle.db.selectFrom('api_keys').select('last_used_at').where('id', '=', id).executeTakeFirst();
  return row?.last_used_at?.getTime();
}

test('the last use of a key is written once a minute, all keys in one statement', () =>
  withNode(async (node) => {
    const tenant = await makeTenant();
    const [a, b] = [await makeKey(tenant), await makeKey(tenant)];
    const start = node.time.ms;
    for (let count = 0; count < 10; count += 1) {
      await node.authenticate(a.bearer);
      await node.authenticate(b.bearer);
    }
    const reads = node.queries.length;
    expect(node.timers).toHaveLength(1);
    await node.authenticator.flushLastUsed();
    expect(node.queries).toHaveLength(reads + 1);
    expect([await lastUse(a.id), await lastUse(b.id)]).toEqual([start, start]);

    node.time.ms = start + 59_999;
    await node.authenticate(a.bearer);
    await node.authenticator.flushLastUsed();
    expect(node.queries).toHaveLength(reads + 1);
    node.time.ms = start + 60_000;
    await node.authenticate(a.bearer);
    await node.authenticator.flushLastUsed();
    expect([await lastUse(a.id), await lastUse(b.id)]).toEqual([start + 60_000, start]);
  }));

test('a late node does not turn the last use back', async () => {
  const { id, bearer } = await makeKey(await makeTenant());
  await withNode(async (node) => {
    await node.authenticate(bearer);
    await withNode(async (ahead) => {
      ahead.time.ms += 3_600_000;
      await ahead.authenticate(bearer);
    });
    const later = await lastUse(id);
    expect(later).toBe(node.time.ms + 3_600_000);
    await node.authenticator.flushLastUsed();
    expect(await lastUse(id)).toBe(later);
  });
});

test('uses that the database does not take are kept for the next time, and stop writes what is left', async () => {
  const { id, bearer } = await makeKey(await makeTenant());
  await withNode(async (node) => {
    await node.authenticate(bearer);
    await handle.db.executeQuery(CompiledQuery.raw('ALTER TABLE api_keys RENAME TO api_keys_away'));
    try {
      await expect(node.authenticator.flushLastUsed()).rejects.toThrow('api_keys');
    } finally {
      await handle.db.executeQuery(CompiledQuery.raw('ALTER TABLE api_keys_away RENAME TO api_keys'));
    }
    expect(node.timers).toHaveLength(1);
    expect(await lastUse(id)).toBeUndefined();
  });
  expect(await lastUse(id)).toBe(Date.parse('2026-03-01T10:00:00Z'));
});
