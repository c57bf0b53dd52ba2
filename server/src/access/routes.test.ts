import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createAuditLog } from '../audit/log.ts';
import type { Change } from '../db/notify.ts';
import { type DatabaseHandle, openDatabase } from '../db/pool.ts';
import { registerIdempotency } from '../http/idempotency.ts';
import { type Permission, ROLES } from '../http/permissions.ts';
import { createHttpServer, type HttpServer } from '../http/server.ts';
import { systemClock } from '../kernel/clock.ts';
import { createIdSource, formatId } from '../kernel/ids.ts';
import { createLogger } from '../kernel/logger.ts';
import { ensureDefaultTenant } from '../tenants/default-tenant.ts';
import { createTenantDirectory } from '../tenants/directory.ts';
import { registerTenantRoutes } from '../tenants/routes.ts';
import { DEFAULT_SETTINGS } from '../tenants/types.ts';
import { createTestDatabase, type TestDatabase } from '../testing/database.ts';
import { testSecretBox } from '../testing/secret-box.ts';
import { type Authenticator, createAuthenticator } from './authenticator.ts';
import { API_KEY_PATTERN } from './key.ts';
import { API_KEY_ROLES, type ApiKeyRole } from './key-roles.ts';
import { registerApiKeyRoutes } from './routes.ts';

const noDocument = () => Promise.reject(new Error('Nothing is to be fetched here.'));
const OPERATOR_KEY = 'operator-key-of-the-tests';
const PERMISSIONS: Permission[] = ['public', 'read', 'publish', 'develop', 'administer', 'operate'];

let database: TestDatabase;
let handle: DatabaseHandle;
let authenticator: Authenticator;
let app: HttpServer;
let nowMs = Date.parse('2026-03-01T10:20:30.456Z');
const newId = createIdSource();
const logLines: string[] = [];

beforeAll(async () => {
  database = await createTestDatabase();
  const logger = createLogger('trace', { write: (line) => void logLines.push(line) });
  handle = openDatabase({ connection: database.connection, logger });
  const { db } = handle;
  const clock = { ...systemClock, now: () => nowMs };
  const box = testSecretBox();
  const tenants = createTenantDirectory({ db, clock });
  authenticator = createAuthenticator({
    db,
    box,
    clock,
    logger,
    tenants,
    operatorKey: OPERATOR_KEY,
    fetchDocument: noDocument,
  });
  app = createHttpServer({ logger, authenticate: authenticator.authenticate });
  const onChange = (change: Change) => {
    if (change.topic === 'tenants') tenants.invalidate(change.tenantId);
    authenticator.invalidate(change.tenantId);
  };
  const audit = createAuditLog({ newId });
  registerIdempotency(app, { db, box, clock });
  registerTenantRoutes(app, { db, clock, newId, audit, onChange });
  registerApiKeyRoutes(app, { db, clock, newId, audit, box, onChange });
  for (const permission of PERMISSIONS) {
    app.get(`/needs/${permission}`, { config: { permission } }, async () => ({ permission }));
  }
  await ensureDefaultTenant({ db, clock, newId, settings: DEFAULT_SETTINGS });
});

afterAll(async () => {
  await app.close();
  await authenticator.stop();
  await handle.close();
  await database.drop();
});

interface Call {
  key?: string | undefined;
  tenant?: string;
  environment?: string;
  idempotencyKey?: string;
  body?: unknown;
}

async function call(method: 'GET' | 'POST' | 'PATCH' | 'DELETE', url: string, options: Call = {}) {
  const headers: Record<string, string> = { authorization: `Bearer ${options.key ?? OPERATOR_KEY}` };
  if (options.tenant !== undefined) headers['x-tenant-id'] = options.tenant;
  if (options.environment !== undefined) headers['x-environment'] = options.environment;
  if (options.idempotencyKey !== undefined) headers['idempotency-key'] = options.idempotencyKey;
  if (options.body !== undefined) headers['content-type'] = 'application/json';
  const payload = options.body === undefined ? {} : { payload: JSON.stringify(options.body) };
  const response = await app.inject({ method, url, headers, ...payload });
  // biome-ignore lint/suspicious/noExplicitAny: answers are looked into freely here
  return { status: response.statusCode, body: (response.body === '' ? undefined : response.json()) as any };
}

let tenantCount = 0;
async function makeTenant(): Promise<string> {
  tenantCount += 1;
  const slug = `keys-${tenantCount}`;
  expect((await call('POST', '/api/v1/tenants', { body: { name: slug, slug } })).status).toBe(201);
  return slug;
}

async function makeKey(role: ApiKeyRole, options: Call = {}, more: Record<string, unknown> = {}) {
  const body = { name: `a ${role}`, role, ...more };
  const answer = await call('POST', '/api/v1/api-keys', { ...options, body });
  expect(answer.status).toBe(201);
  return answer.body as { id: string; key: string };
}

test('a key is shown once, works, and is nowhere in the database or the logs', async () => {
  const tenant = await makeTenant();
  const body = { name: 'CI', role: 'developer', expires_at: '2026-03-02T00:00:00+02:00' };
  const made = await call('POST', '/api/v1/api-keys', { tenant, body });
  expect(made.status).toBe(201);
  expect(made.body).toEqual({
    id: expect.stringMatching(/^key_[0-7][0-9a-z]{25}$/),
    name: 'CI',
    role: 'developer',
    environment: 'production',
    scopes: null,
    key: expect.stringMatching(API_KEY_PATTERN),
    key_hint: made.body.key.slice(0, 12),
    expires_at: '2026-03-01T22:00:00.000Z',
    last_used_at: null,
    revoked_at: null,
    rotated_at: null,
    old_key_expires_at: null,
    requests_per_second: null,
    created_at: '2026-03-01T10:20:30.456Z',
  });
  const { key, ...shown } = made.body;
  expect((await call('GET', '/needs/develop', { key })).status).toBe(200);
  await authenticator.flushLastUsed();
  const withUse = { ...shown, last_used_at: '2026-03-01T10:20:30.456Z' };
  expect((await call('GET', `/api/v1/api-keys/${shown.id}`, { tenant })).body).toEqual(withUse);
  expect((await call('GET', '/api/v1/api-keys', { tenant })).body.data).toEqual([withUse]);

  const rows = await handle.db.selectFrom('api_keys').selectAll().execute();
  const stored = rows.map((row) => JSON.stringify({ ...row, key_hash: row.key_hash.toString('latin1') })).join();
  const secretPart = key.slice(shown.key_hint.length);
  expect(stored).not.toContain(secretPart);
  expect(logLines.join()).not.toContain(secretPart);
});

test('each role is let in to what its permissions say, and to nothing else', async () => {
  const tenant = await makeTenant();
  const expected: Record<(typeof ROLES)[number], Permission[]> = {
    operator: ['public', 'read', 'publish', 'develop', 'administer', 'operate'],
    owner: ['public', 'read', 'publish', 'develop', 'administer'],
    admin: ['public', 'read', 'publish', 'develop', 'administer'],
    developer: ['public', 'read', 'publish', 'develop'],
    publisher: ['public', 'publish'],
    viewer: ['public', 'read'],
  };
  for (const role of ROLES) {
    const key = role === 'operator' ? OPERATOR_KEY : (await makeKey(role, { tenant })).key;
    const allowed: Permission[] = [];
    for (const permission of PERMISSIONS) {
      const { status, body } = await call('GET', `/needs/${permission}`, { key });
      if (status === 200) allowed.push(permission);
      else expect([status, body.error.code]).toEqual([403, 'forbidden']);
    }
    expect([role, allowed]).toEqual([role, expected[role]]);
  }
});

test.each([
  [undefined, API_KEY_ROLES],
  ['owner', API_KEY_ROLES],
  ['admin', ['admin', 'developer', 'publisher', 'viewer']],
  ['developer', []],
  ['publisher', []],
  ['viewer', []],
] as const)('a key of role %s makes and revokes keys of the roles %j and no others', async (role, grantable) => {
  const tenant = await makeTenant();
  const caller = role === undefined ? { tenant } : { key: (await makeKey(role, { tenant })).key };
  const made: string[] = [];
  const revoked: string[] = [];
  for (const wanted of API_KEY_ROLES) {
    const answer = await call('POST', '/api/v1/api-keys', { ...caller, body: { name: 'x', role: wanted } });
    expect([201, 403]).toContain(answer.status);
    if (answer.status === 201) made.push(wanted);
    const victim = await makeKey(wanted, { tenant });
    const removal = await call('DELETE', `/api/v1/api-keys/${victim.id}`, caller);
    expect([204, 403]).toContain(removal.status);
    if (removal.status === 204) revoked.push(wanted);
  }
  expect(made).toEqual(grantable);
  expect(revoked).toEqual(grantable);
});

test('nobody makes a key with the role operator, or one that is no role', async () => {
  for (const role of ['operator', 'Owner', '', '__proto__', 'constructor', null, ['owner']]) {
    const { status, body } = await call('POST', '/api/v1/api-keys', { body: { name: 'x', role } });
    expect([status, body.error.details.fields[0].path]).toEqual([422, 'role']);
  }
});

test.each([
  [{ expires_at: '2026-03-01T10:20:30.456Z' }, 'expires_at'],
  [{ expires_at: '2020-01-01T00:00:00Z' }, 'expires_at'],
  [{ expires_at: '2030-02-30T00:00:00Z' }, 'expires_at'],
  [{ expires_at: '2030-12-31T23:59:60Z' }, 'expires_at'],
  [{ expires_at: 'tomorrow' }, 'expires_at'],
  [{ expires_at: 1_900_000_000 }, 'expires_at'],
  [{ environment: 'no-such' }, 'environment'],
  [{ environment: '../x' }, 'environment'],
  [{ environment: 'a\0' }, 'environment'],
  [{ name: '' }, 'name'],
  [{ name: 'a\0' }, 'name'],
  [{ key: 'ph_prod_chosen' }, 'key'],
  [{ tenant_id: 'tnt_1' }, 'tenant_id'],
])('a key with %j is refused', async (more, path) => {
  const body = { name: 'x', role: 'viewer', ...more };
  const { status, body: answer } = await call('POST', '/api/v1/api-keys', { body });
  expect([status, answer.error.details.fields[0].path]).toEqual([422, path]);
});

test('an owner makes keys for every environment, an admin only for its own', async () => {
  const tenant = await makeTenant();
  const owner = await makeKey('owner', { tenant, environment: 'development' });
  const admin = await makeKey('admin', { tenant, environment: 'development' });
  const body = { name: 'x', role: 'viewer', environment: 'production' };
  const byOwner = await call('POST', '/api/v1/api-keys', { key: owner.key, body });
  expect([byOwner.status, byOwner.body.environment]).toEqual([201, 'production']);
  const byAdmin = await call('POST', '/api/v1/api-keys', { key: admin.key, body });
  expect([byAdmin.status, byAdmin.body.error.code]).toEqual([403, 'forbidden']);
  const own = await call('POST', '/api/v1/api-keys', { key: admin.key, body: { name: 'x', role: 'viewer' } });
  expect(own.body.environment).toBe('development');

  const seenBy = async (key: string) =>
    (await call('GET', '/api/v1/api-keys', { key })).body.data.map((row: { id: string }) => row.id);
  expect(await seenBy(owner.key)).toEqual([own.body.id, byOwner.body.id, admin.id, owner.id]);
  expect(await seenBy(admin.key)).toEqual([own.body.id, admin.id, owner.id]);
  for (const method of ['GET', 'DELETE'] as const) {
    const answer = await call(method, `/api/v1/api-keys/${byOwner.body.id}`, { key: admin.key });
    expect(answer.status).toBe(404);
  }
});

test('another tenant’s key, an unknown one and no id at all have the same answer', async () => {
  const [a, b] = [await makeTenant(), await makeTenant()];
  const owner = await makeKey('owner', { tenant: a });
  const foreign = await makeKey('viewer', { tenant: b });
  const ids = [foreign.id, formatId('apiKey', newId()), formatId('tenant', newId()), '..%2Fx', '%00', '__proto__'];
  for (const id of ids) {
    for (const method of ['GET', 'DELETE'] as const) {
      const { status, body } = await call(method, `/api/v1/api-keys/${id}`, { key: owner.key });
      expect(status).toBe(404);
      expect({ ...body.error, request_id: '' }).toEqual({
        code: 'not_found',
        message: 'No such API key.',
        details: {},
        request_id: '',
      });
    }
  }
  expect((await call('GET', '/needs/read', { key: foreign.key })).status).toBe(200);
  const list = await call('GET', '/api/v1/api-keys', { key: owner.key });
  expect(list.body.data.map((row: { id: string }) => row.id)).toEqual([owner.id]);
});

test('a revoked key is refused by the next request, also by one that was in memory, and stays on record', async () => {
  const tenant = await makeTenant();
  const { id, key } = await makeKey('viewer', { tenant });
  expect((await call('GET', '/needs/read', { key })).status).toBe(200);
  expect((await call('DELETE', `/api/v1/api-keys/${id}`, { tenant })).status).toBe(204);
  expect((await call('GET', '/needs/read', { key })).status).toBe(401);
  const first = await call('GET', `/api/v1/api-keys/${id}`, { tenant });
  expect(first.body.revoked_at).toBe(new Date(nowMs).toISOString());
  nowMs += 5000;
  expect((await call('DELETE', `/api/v1/api-keys/${id}`, { tenant })).status).toBe(204);
  expect((await call('GET', `/api/v1/api-keys/${id}`, { tenant })).body).toEqual(first.body);
  expect((await call('GET', '/api/v1/api-keys', { tenant })).body.data).toHaveLength(1);
  expect((await call('GET', '/api/v1/api-keys?active_only=true', { tenant })).body.data).toHaveLength(0);
});

test('a revocation is told to every node', async () => {
  const tenant = await makeTenant();
  const { id } = await makeKey('viewer', { tenant });
  const listener = new pg.Client(database.connection);
  await listener.connect();
  const notices: Change[] = [];
  listener.on('notification', (message) => notices.push(JSON.parse(message.payload ?? '')));
  await listener.query('LISTEN posthorn_changes');
  await call('DELETE', `/api/v1/api-keys/${id}`, { tenant });
  await listener.query('SELECT 1');
  await listener.end();
  const found = await call('GET', `/api/v1/tenants/${tenant}`);
  expect(notices.map((notice) => [notice.topic, formatId('tenant', notice.tenantId)])).toEqual([
    ['api_keys', found.body.id],
  ]);
});

test('a key ends with its environment and with its tenant', async () => {
  const tenant = await makeTenant();
  const staging = await makeKey('viewer', { tenant, environment: 'staging' });
  const production = await makeKey('viewer', { tenant });
  const read = async (key: string) => (await call('GET', '/needs/read', { key })).status;
  expect([await read(staging.key), await read(production.key)]).toEqual([200, 200]);
  await call('DELETE', `/api/v1/tenants/${tenant}/environments/staging`);
  expect([await read(staging.key), await read(production.key)]).toEqual([401, 200]);
  await call('DELETE', `/api/v1/tenants/${tenant}`);
  expect(await read(production.key)).toBe(401);
});

test('of twenty identical requests with one Idempotency-Key, one makes a key, which a retry is shown again', async () => {
  const tenant = await makeTenant();
  const request = { tenant, idempotencyKey: 'make-one', body: { name: 'once', role: 'viewer' } };
  const answers = await Promise.all(Array.from({ length: 20 }, () => call('POST', '/api/v1/api-keys', request)));
  const made = answers.filter((answer) => answer.status === 201);
  expect(new Set(made.map((answer) => answer.body.key)).size).toBe(1);
  expect(answers.filter((answer) => answer.status !== 201 && answer.status !== 409)).toEqual([]);
  expect((await call('POST', '/api/v1/api-keys', request)).body).toEqual(made[0]?.body);
  expect((await call('GET', '/api/v1/api-keys', { tenant })).body.data).toHaveLength(1);
  expect((await call('GET', '/needs/read', { key: made[0]?.body.key })).status).toBe(200);
  // A refusal that depends on the caller's rights is not kept: the same request by one who may is done.
  const admin = await makeKey('admin', { tenant });
  const owner = await makeKey('owner', { tenant });
  const wanted = { idempotencyKey: 'make-owner', body: { name: 'second', role: 'owner' } };
  expect((await call('POST', '/api/v1/api-keys', { ...wanted, key: admin.key })).status).toBe(403);
  expect((await call('POST', '/api/v1/api-keys', { ...wanted, key: owner.key })).status).toBe(201);
});

test('pages of the list hold every key once, newest first', async () => {
  const tenant = await makeTenant();
  const made: string[] = [];
  for (let count = 0; count < 5; count += 1) made.unshift((await makeKey('viewer', { tenant })).id);
  const seen: string[] = [];
  let cursor: string | null = null;
  do {
    const url: string = `/api/v1/api-keys?limit=2${cursor === null ? '' : `&cursor=${cursor}`}`;
    const { body } = await call('GET', url, { tenant });
    seen.push(...body.data.map((row: { id: string }) => row.id));
    cursor = body.next_cursor;
  } while (cursor !== null);
  expect(seen).toEqual(made);
});
