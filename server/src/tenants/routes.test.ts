import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createAuditLog } from '../audit/log.ts';
import type { Change } from '../db/notify.ts';
import { type DatabaseHandle, openDatabase } from '../db/pool.ts';
import type { Caller } from '../http/caller.ts';
import type { Role } from '../http/permissions.ts';
import { createHttpServer, type HttpServer } from '../http/server.ts';
import { systemClock } from '../kernel/clock.ts';
import { createIdSource, formatId } from '../kernel/ids.ts';
import { createLogger } from '../kernel/logger.ts';
import { createTestDatabase, type TestDatabase } from '../testing/database.ts';
import { ensureDefaultTenant } from './default-tenant.ts';
import { registerTenantRoutes } from './routes.ts';
import { DEFAULT_SETTINGS, NO_LIMITS } from './types.ts';

let database: TestDatabase;
let handle: DatabaseHandle;
let app: HttpServer;
let role: Role = 'operator';
let nowMs = Date.parse('2026-03-01T10:20:30.456Z');
const changes: Change[] = [];
const newId = createIdSource();
const clock = { ...systemClock, now: () => nowMs };

beforeAll(async () => {
  database = await createTestDatabase();
  const logger = createLogger('silent');
  handle = openDatabase({ connection: database.connection, logger });
  const caller = {
    actor: { kind: 'api_key', id: 'key_test' } as const,
    tenantId: newId(),
    environmentId: newId(),
    environmentName: 'production',
  };
  app = createHttpServer({ logger, authenticate: (): Caller => ({ ...caller, role }) });
  const audit = createAuditLog({ newId });
  registerTenantRoutes(app, { db: handle.db, clock, newId, audit, onChange: (change) => changes.push(change) });
  await ensureDefaultTenant({
    db: handle.db,
    clock,
    newId,
    settings: { ...DEFAULT_SETTINGS, allow_unknown_event_types: true },
  });
});

afterAll(async () => {
  await app.close();
  await handle.close();
  await database.drop();
});

async function call(method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE', path: string, body?: unknown) {
  const response = await app.inject({
    method,
    url: `/api/v1/tenants${path}`,
    ...(body !== undefined && {
      headers: { 'content-type': 'application/json' },
      payload: typeof body === 'string' ? body : JSON.stringify(body),
    }),
  });
  const text = response.body;
  // biome-ignore lint/suspicious/noExplicitAny: answers are looked into freely here
  return { status: response.statusCode, body: (text === '' ? undefined : JSON.parse(text)) as any };
}

async function environmentNames(tenant: string): Promise<string[]> {
  const { body } = await call('GET', `/${tenant}/environments`);
  return body.data.map((environment: { name: string }) => environment.name);
}

let tenantCount = 0;
async function makeTenant(): Promise<{ id: string; slug: string }> {
  tenantCount += 1;
  const { status, body } = await call('POST', '', { name: `Tenant ${tenantCount}`, slug: `made-${tenantCount}` });
  expect(status).toBe(201);
  return body;
}

test('a new tenant has the default settings and three environments', async () => {
  const { status, body } = await call('POST', '', { name: 'Acme, Inc.' });
  expect(status).toBe(201);
  expect(body).toEqual({
    id: expect.stringMatching(/^tnt_[0-7][0-9a-z]{25}$/),
    name: 'Acme, Inc.',
    slug: 'acme-inc',
    settings: DEFAULT_SETTINGS,
    limits: NO_LIMITS,
    suspended_at: null,
    suspended_reason: null,
    created_at: '2026-03-01T10:20:30.456Z',
    updated_at: '2026-03-01T10:20:30.456Z',
  });
  const environments = await call('GET', `/${body.id}/environments`);
  expect(environments.body).toEqual({
    data: ['production', 'staging', 'development'].map((name) => ({
      id: expect.stringMatching(/^env_/),
      name,
      preset: 'standard',
      retention: { payload_days: null, attempt_days: null, event_days: null, audit_days: null },
      created_at: '2026-03-01T10:20:30.456Z',
    })),
    next_cursor: null,
    has_more: false,
  });
});

test('a name that gives no slug asks for one', async () => {
  const { status, body } = await call('POST', '', { name: '日本' });
  expect(status).toBe(422);
  expect(body.error.details.fields[0].path).toBe('slug');
  expect((await call('POST', '', { name: '日本', slug: 'nihon' })).body).toMatchObject({ name: '日本', slug: 'nihon' });
});

test('of twenty tenants with one slug at the same time, one is made', async () => {
  const answers = await Promise.all(
    Array.from({ length: 20 }, () => call('POST', '', { name: 'Twice', slug: 'twice' })),
  );
  expect(answers.filter((answer) => answer.status === 201)).toHaveLength(1);
  const others = answers.filter((answer) => answer.status !== 201);
  expect(others.map((answer) => [answer.status, answer.body.error.code])).toEqual(
    Array.from({ length: 19 }, () => [409, 'slug_taken']),
  );
  const rows = await handle.db.selectFrom('tenants').select('id').where('slug', '=', 'twice').execute();
  expect(await environmentNames(formatId('tenant', rows[0]?.id as string))).toHaveLength(3);
});

test.each([
  ...[
    '../x',
    'Acme',
    '-a',
    'a-',
    '',
    'a'.repeat(64),
    'a b',
    'a\r\nb',
    'a\n',
    'a\0',
    'a/b',
    '%2e',
    "a';--",
    '__proto__',
  ],
  ...['tnt_01h455vb4pex5vsknk084sn02q', 'ä', null, 1, true, {}, ['a']],
])('the slug %j is refused', async (slug) => {
  const { status, body } = await call('POST', '', { name: 'Acme', slug });
  expect(status).toBe(422);
  expect(body.error).toMatchObject({ code: 'validation_failed', details: { fields: [{ path: 'slug' }] } });
  expect((await call('PATCH', '/default', { slug })).status).toBe(422);
});

test('a slug of 100,000 characters and a name of 500,000 are refused', async () => {
  const body = { name: ' '.repeat(500_000), slug: 'x'.repeat(100_000) };
  const answer = await call('POST', '', body);
  expect(answer.status).toBe(422);
  const paths = new Set(answer.body.error.details.fields.map((field: { path: string }) => field.path));
  expect(paths).toEqual(new Set(['name', 'slug']));
});

test.each(['', ' ', ' a', '\u0000', 'a\u0000b', 'a\r\nb', 'x'.repeat(201), null, 1, ['a']])(
  'the name %j is refused',
  async (name) => {
    const { status, body } = await call('POST', '', { name, slug: 'some-slug' });
    expect(status).toBe(422);
    expect(body.error.details.fields[0].path).toBe('name');
  },
);

test.each([
  ['{"name":"A","slug":"proto-1","settings":{"__proto__":{"allow_unknown_event_types":true}}}', 'settings.__proto__'],
  ['{"name":"A","slug":"proto-1","settings":{"constructor":{}}}', 'settings.constructor'],
  ['{"name":"A","slug":"proto-1","__proto__":{"x":1}}', '__proto__'],
  [
    '{"name":"A","slug":"proto-1","settings":{"allow_unknown_event_types":"true"}}',
    'settings.allow_unknown_event_types',
  ],
  ['{"name":"A","slug":"proto-1","settings":[]}', 'settings'],
  ['{"name":"A","slug":"proto-1","id":"tnt_1"}', 'id'],
])('%s is refused and pollutes nothing', async (payload, path) => {
  const { status, body } = await call('POST', '', payload);
  expect(status).toBe(422);
  expect(body.error.details.fields[0].path).toBe(path);
  expect(({} as Record<string, unknown>).x).toBeUndefined();
  expect((await call('GET', '/proto-1')).status).toBe(404);
});

test('a tenant is found by its id and by its slug', async () => {
  const tenant = await makeTenant();
  expect((await call('GET', `/${tenant.id}`)).body).toEqual(tenant);
  expect((await call('GET', `/${tenant.slug}`)).body).toEqual(tenant);
});

test('whatever names no tenant has one and the same answer on every path', async () => {
  const { id } = await makeTenant();
  const names = [
    formatId('tenant', newId()),
    formatId('environment', newId()),
    id.toUpperCase(),
    newId(),
    'no-such-tenant',
    '..%2Fx',
    '%00',
    'tnt_%00',
    '__proto__',
    'x'.repeat(250),
  ];
  for (const name of names) {
    for (const answer of [
      await call('GET', `/${name}`),
      await call('PATCH', `/${name}`, { name: 'X' }),
      await call('DELETE', `/${name}`),
      await call('GET', `/${name}/environments`),
      await call('POST', `/${name}/environments`, { name: 'qa' }),
      await call('DELETE', `/${name}/environments/production`),
    ]) {
      expect({ ...answer.body.error, request_id: '' }).toEqual({
        code: 'not_found',
        message: 'No such tenant.',
        details: {},
        request_id: '',
      });
      expect(answer.status).toBe(404);
    }
  }
});

test('rules of masking are merged list by list, and null brings the default back', async () => {
  const path = `/${(await makeTenant()).id}`;
  const masking = async (change: unknown) => {
    const { status, body } = await call('PATCH', path, { settings: { masking: change } });
    return status === 200 ? body.settings.masking : { status, fields: body.error.details.fields };
  };
  const none = DEFAULT_SETTINGS.masking;
  expect(await masking({ paths: ['customer.email'], detectors: ['card', 'email'] })).toEqual({
    ...none,
    paths: ['customer.email'],
    detectors: ['email', 'card'],
  });
  expect(await masking({ names: ['iban'], detectors: null })).toEqual({
    ...none,
    paths: ['customer.email'],
    names: ['iban'],
  });
  expect(await masking(null)).toEqual(none);
});

test.each([
  [{ paths: ['ok', 'a..b'] }, 'settings.masking.paths.1', /cannot be read from character 3/],
  [{ paths: ['a['] }, 'settings.masking.paths.0', /cannot be read/],
  [{ paths: ['**.a.**'] }, 'settings.masking.paths.0', /only once/],
  [{ paths: ['a'.repeat(257)] }, 'settings.masking.paths.0', /256/],
  [{ paths: Array(51).fill('a') }, 'settings.masking.paths', /50/],
  [{ names: Array(101).fill('a') }, 'settings.masking.names', /100/],
  [{ except_names: ['a', 'b\u0000'] }, 'settings.masking.except_names.1', /NUL/],
  [{ names: ['a\ud800'] }, 'settings.masking.names.0', /surrogate/],
  [{ paths: ['a\udc00'] }, 'settings.masking.paths.0', /surrogate/],
  [{ detectors: ['iban'] }, 'settings.masking.detectors.0', /email/],
  [{ detectors: ['email', 'email'] }, 'settings.masking.detectors', /duplicate/],
  [{ path: [] }, 'settings.masking.path', /known field/],
  [{ paths: 'a' }, 'settings.masking.paths', /array/],
])('refuses the rules %j of masking', async (masking, path, message) => {
  for (const [method, at] of [
    ['POST', ''],
    ['PATCH', '/default'],
  ] as const) {
    const answer = await call(method, at, { ...(method === 'POST' && { name: 'Refused' }), settings: { masking } });
    expect(answer.status).toBe(422);
    expect(answer.body.error.details.fields).toContainEqual({ path, message: expect.stringMatching(message) });
  }
});

test.each(['PUT', 'PATCH'] as const)('%s changes what it names and leaves the rest', async (method) => {
  const tenant = await makeTenant();
  nowMs += 1000;
  const path = `/${tenant.id}`;
  const set = await call(method, path, { settings: { allow_unknown_event_types: true } });
  const allowing = { ...DEFAULT_SETTINGS, allow_unknown_event_types: true };
  expect(set.body).toEqual({
    ...tenant,
    settings: allowing,
    updated_at: new Date(nowMs).toISOString(),
  });
  const renamed = await call(method, path, { name: 'New name', slug: `${tenant.slug}-b` });
  expect(renamed.body).toEqual({ ...set.body, name: 'New name', slug: `${tenant.slug}-b` });
  expect((await call(method, path, { settings: {} })).body.settings).toEqual(allowing);
  const cleared = await call(method, path, { settings: { allow_unknown_event_types: null } });
  expect(cleared.body.settings).toEqual(DEFAULT_SETTINGS);
  await call(method, path, { settings: { allow_unknown_event_types: true } });
  expect((await call(method, path, { settings: null })).body.settings).toEqual(DEFAULT_SETTINGS);
  expect((await call('GET', `/${tenant.slug}`)).status).toBe(404);
});

test('a slug that another tenant has cannot be taken, and nothing is changed by the attempt', async () => {
  const [first, second] = [await makeTenant(), await makeTenant()];
  const { status, body } = await call('PATCH', `/${second.id}`, { name: 'Changed', slug: first.slug });
  expect([status, body.error.code]).toEqual([409, 'slug_taken']);
  expect((await call('GET', `/${second.id}`)).body).toEqual(second);
});

test('the tenant "default" keeps its slug and cannot be deleted', async () => {
  const renamed = await call('PATCH', '/default', { slug: 'other' });
  expect([renamed.status, renamed.body.error.code]).toEqual([409, 'default_tenant']);
  const deleted = await call('DELETE', '/default');
  expect([deleted.status, deleted.body.error.code]).toEqual([409, 'default_tenant']);
  expect((await call('PATCH', '/default', { slug: 'default', name: 'Main' })).body.name).toBe('Main');
  expect(await environmentNames('default')).toHaveLength(3);
});

test('pages of the list hold every tenant once, newest first', async () => {
  for (let count = 0; count < 4; count += 1) await makeTenant();
  const slugs: string[] = [];
  let cursor: string | null = null;
  do {
    const query: string = cursor === null ? '' : `&cursor=${cursor}`;
    const { status, body } = await call('GET', `?limit=3${query}`);
    expect(status).toBe(200);
    expect(body.has_more).toBe(body.next_cursor !== null);
    slugs.push(...body.data.map((tenant: { slug: string }) => tenant.slug));
    cursor = body.next_cursor;
  } while (cursor !== null);
  const rows = await handle.db.selectFrom('tenants').select('slug').orderBy('id', 'desc').execute();
  expect(slugs).toEqual(rows.map((row) => row.slug));
});

test.each([
  ['?limit=0', 422],
  ['?limit=251', 422],
  ['?limit=x', 422],
  ['?cursor=x', 400],
  ["?cursor=';DROP+TABLE+tenants;--", 400],
  [`?cursor=${'A'.repeat(65)}`, 422],
  ['?limit=250', 200],
])('the list with %s answers %i', async (query, status) => {
  expect((await call('GET', query)).status).toBe(status);
});

test('an environment is added once, under a name that is a DNS label', async () => {
  const { id } = await makeTenant();
  const made = await call('POST', `/${id}/environments`, { name: 'qa-1' });
  expect(made.status).toBe(201);
  expect(made.body).toMatchObject({ name: 'qa-1', preset: 'standard' });
  const again = await call('POST', `/${id}/environments`, { name: 'qa-1' });
  expect([again.status, again.body.error.code]).toEqual([409, 'environment_exists']);
  for (const name of ['../x', 'QA', '', 'a\0', null]) {
    expect((await call('POST', `/${id}/environments`, { name })).status).toBe(422);
  }
  // Words that JavaScript's objects know are names as any other.
  expect((await call('POST', `/${id}/environments`, { name: 'constructor' })).status).toBe(201);
  expect(await environmentNames(id)).toEqual(['constructor', 'qa-1', 'production', 'staging', 'development']);
});

test('a tenant has at most 20 environments, however many are added at once', async () => {
  const { id } = await makeTenant();
  const answers = await Promise.all(
    Array.from({ length: 30 }, (_, index) => call('POST', `/${id}/environments`, { name: `env-${index}` })),
  );
  expect(answers.filter((answer) => answer.status === 201)).toHaveLength(17);
  expect(new Set(answers.filter((answer) => answer.status === 409).map((answer) => answer.body.error.code))).toEqual(
    new Set(['too_many_environments']),
  );
  expect(await environmentNames(id)).toHaveLength(20);
});

test('the last environment stays, even when all are deleted at once', async () => {
  const { id } = await makeTenant();
  const answers = await Promise.all(
    ['development', 'staging', 'production'].map((name) => call('DELETE', `/${id}/environments/${name}`)),
  );
  expect(answers.map((answer) => answer.status).sort()).toEqual([204, 204, 409]);
  expect(answers.find((answer) => answer.status === 409)?.body.error.code).toBe('last_environment');
  expect(await environmentNames(id)).toHaveLength(1);
});

test('an environment that is not there, or is another tenant’s, is not found', async () => {
  const [first, second] = [await makeTenant(), await makeTenant()];
  await call('POST', `/${second.id}/environments`, { name: 'qa' });
  for (const name of ['qa', 'no-such', '%00', '__proto__', '..%2F..']) {
    const { status, body } = await call('DELETE', `/${first.id}/environments/${name}`);
    expect([status, body.error.message]).toEqual([404, 'No such environment.']);
  }
  expect(await environmentNames(second.id)).toContain('qa');
});

test.each(['owner', 'admin', 'developer', 'publisher', 'viewer'] as const)(
  'tenants are out of reach for the role %s',
  async (other) => {
    role = other;
    try {
      for (const answer of [
        await call('POST', '', { name: 'X' }),
        await call('GET', ''),
        await call('GET', '/default'),
        await call('PUT', '/default', {}),
        await call('PATCH', '/default', {}),
        await call('DELETE', '/default'),
        await call('GET', '/default/environments'),
        await call('POST', '/default/environments', { name: 'x' }),
        await call('PATCH', '/default/environments/staging', {}),
        await call('DELETE', '/default/environments/staging'),
      ]) {
        expect([answer.status, answer.body.error.code]).toEqual([403, 'forbidden']);
      }
    } finally {
      role = 'operator';
    }
  },
);

test('every change is told to all nodes by its transaction and to this one before the answer', async () => {
  const listener = new pg.Client(database.connection);
  await listener.connect();
  const notices: Change[] = [];
  listener.on('notification', (message) => notices.push(JSON.parse(message.payload ?? '')));
  await listener.query('LISTEN posthorn_changes');
  changes.length = 0;

  const tenant = await makeTenant();
  await call('POST', '', { name: 'Again', slug: tenant.slug });
  await call('PATCH', `/${tenant.id}`, { name: 'Other' });
  await call('PATCH', `/${tenant.id}`, { slug: 'default' });
  await call('POST', `/${tenant.id}/environments`, { name: 'qa' });
  await call('DELETE', `/${tenant.id}/environments/qa`);
  expect(changes).toHaveLength(4);
  await call('DELETE', `/${tenant.id}`);
  await listener.query('SELECT 1');
  await listener.end();

  const rows = notices.map((notice) => [notice.topic, formatId('tenant', notice.tenantId)]);
  expect(rows).toEqual(Array.from({ length: 5 }, () => ['tenants', tenant.id]));
  expect(new Set(changes.map((change) => formatId('tenant', change.tenantId)))).toEqual(new Set([tenant.id]));
});

test('a deleted tenant is gone with the answer, its slug is free, and what is left of it is listed', async () => {
  const tenant = await makeTenant();
  expect((await call('DELETE', `/${tenant.slug}`)).status).toBe(204);
  expect((await call('GET', `/${tenant.id}`)).status).toBe(404);
  expect((await call('DELETE', `/${tenant.id}`)).status).toBe(404);
  const again = await call('POST', '', { name: 'Again', slug: tenant.slug });
  expect(again.status).toBe(201);
  const environments = await call('GET', `/${again.body.id}/environments`);
  const staging = environments.body.data.find((environment: { name: string }) => environment.name === 'staging');
  expect((await call('DELETE', `/${tenant.slug}/environments/staging`)).status).toBe(204);
  const { data } = (await app.inject({ url: '/api/v1/removals' })).json();
  expect(data).toContainEqual({
    tenant_id: tenant.id,
    environment_id: null,
    removed_rows: 0,
    created_at: new Date(nowMs).toISOString(),
  });
  expect(data).toContainEqual(expect.objectContaining({ tenant_id: again.body.id, environment_id: staging.id }));
});

test('retention is set for a tenant and above it for an environment, field by field', async () => {
  const { id } = await makeTenant();
  const set = await call('PATCH', `/${id}`, { settings: { retention: { payload_days: 7, event_days: 10 } } });
  expect(set.body.settings).toEqual({
    ...DEFAULT_SETTINGS,
    retention: { payload_days: 7, attempt_days: 30, event_days: 10, audit_days: 365 },
  });
  const own = await call('PATCH', `/${id}/environments/staging`, { retention: { payload_days: 1 } });
  expect(own.status).toBe(200);
  expect(own.body.retention).toEqual({ payload_days: 1, attempt_days: null, event_days: null, audit_days: null });
  const more = await call('PUT', `/${id}/environments/staging`, { retention: { attempt_days: 2, payload_days: null } });
  expect(more.body.retention).toEqual({ payload_days: null, attempt_days: 2, event_days: null, audit_days: null });
  expect((await call('PATCH', `/${id}/environments/staging`, {})).body).toEqual(more.body);
  const cleared = await call('PATCH', `/${id}/environments/staging`, { retention: null });
  expect(cleared.body.retention.attempt_days).toBeNull();
  const reset = await call('PATCH', `/${id}`, { settings: { retention: null } });
  expect(reset.body.settings).toEqual(DEFAULT_SETTINGS);
});

test.each([
  [{ payload_days: 0 }, 'retention.payload_days'],
  [{ attempt_days: 3_651 }, 'retention.attempt_days'],
  [{ event_days: 1.5 }, 'retention.event_days'],
  [{ audit_days: '30' }, 'retention.audit_days'],
  [{ days: 1 }, 'retention.days'],
  ['30', 'retention'],
])('retention of %j is refused, and the field named', async (retention, field) => {
  const { id } = await makeTenant();
  for (const [path, body, at] of [
    [`/${id}`, { settings: { retention } }, `settings.${field}`],
    [`/${id}/environments/staging`, { retention }, field],
  ] as const) {
    const { status, body: answer } = await call('PATCH', path, body);
    expect([status, answer.error.details?.fields[0].path]).toEqual([422, at]);
  }
});

test('retention of another tenant’s environment, or of none, is not found', async () => {
  const [first, second] = [await makeTenant(), await makeTenant()];
  await call('POST', `/${second.id}/environments`, { name: 'qa' });
  for (const name of ['qa', '%00']) {
    const answer = await call('PATCH', `/${first.id}/environments/${name}`, { retention: { event_days: 1 } });
    expect([answer.status, answer.body.error.message]).toEqual([404, 'No such environment.']);
  }
});

test('limits are merged field by field, and null brings the default back', async () => {
  const { body: made } = await call('POST', '', { name: 'Limited', limits: { webhooks: 5, events_per_day: 1_000 } });
  expect(made.limits).toEqual({ ...NO_LIMITS, webhooks: 5, events_per_day: 1_000 });
  const changed = await call('PATCH', `/${made.id}`, { limits: { webhooks: null, payload_bytes: 1 } });
  expect(changed.body.limits).toEqual({ ...NO_LIMITS, events_per_day: 1_000, payload_bytes: 1 });
  expect((await call('PATCH', `/${made.id}`, { name: 'Other' })).body.limits).toEqual(changed.body.limits);
  expect((await call('PUT', `/${made.id}`, { limits: null })).body.limits).toEqual(NO_LIMITS);
});

test.for([
  { requests_per_second: 0 },
  { requests_per_second: 1.5 },
  { requests_per_second: '5' },
  { events_per_day: 1e12 },
  { events_per_second: -1 },
  { unknown: 1 },
  [],
  5,
])('limits %j are refused', async (limits) => {
  const { status, body } = await call('POST', '', { name: 'Refused', limits });
  expect(status).toBe(422);
  expect(body.error.details.fields[0].path).toMatch(/^limits/);
});

test('a tenant is suspended and resumed, as often as one likes, and every node is told', async () => {
  const { body: made } = await call('POST', '', { name: 'Suspended' });
  const at = new Date(nowMs).toISOString();
  const suspended = await call('POST', `/${made.id}/suspend`, { reason: 'unpaid' });
  expect(suspended.body).toMatchObject({ suspended_at: at, suspended_reason: 'unpaid' });
  nowMs += 1_000;
  expect((await call('POST', `/${made.slug}/suspend`)).body).toMatchObject({
    suspended_at: at,
    suspended_reason: 'unpaid',
  });
  expect((await call('POST', `/${made.id}/suspend`, { reason: null })).body.suspended_reason).toBeNull();
  expect((await call('GET', `/${made.id}`)).body.suspended_at).toBe(at);
  changes.length = 0;
  expect((await call('POST', `/${made.id}/resume`)).body).toMatchObject({ suspended_at: null, suspended_reason: null });
  expect(changes.map(({ topic }) => topic)).toEqual(['tenants', 'tenant_resumed']);
  changes.length = 0;
  expect((await call('POST', `/${made.id}/resume`)).status).toBe(200);
  expect(changes.map(({ topic }) => topic)).toEqual(['tenants']);
  nowMs -= 1_000;
  for (const action of ['suspend', 'resume']) expect((await call('POST', `/nobody/${action}`)).status).toBe(404);
  for (const reason of ['', 'x'.repeat(501), 'a\u0000b', 5]) {
    expect((await call('POST', `/${made.id}/suspend`, { reason })).status).toBe(422);
  }
  role = 'owner';
  for (const action of ['suspend', 'resume']) expect((await call('POST', `/${made.id}/${action}`)).status).toBe(403);
  role = 'operator';
});
