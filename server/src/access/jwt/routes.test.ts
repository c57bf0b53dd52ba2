import { afterAll, beforeAll, expect, test } from 'vitest';
import { formatId } from '../../kernel/ids.ts';
import { type Access, startAccess } from '../access-fixture.ts';

const SECRET = 'a secret that the issuer and we share';

let access: Access;
beforeAll(async () => {
  access = await startAccess();
});
afterAll(() => access.stop());

const BODY = { name: 'Login', issuer: 'https://login.example', audience: 'posthorn', secret: SECRET };
const URL_BODY = { ...BODY, secret: undefined, jwks_url: 'https://login.example/jwks.json' };
const create = (fields: object = {}) => access.call('POST', '/api/v1/jwt-issuers', { body: { ...BODY, ...fields } });
const change = (id: string, body: object) => access.call('PATCH', `/api/v1/jwt-issuers/${id}`, { body });
const read = (id: string) => access.call('GET', `/api/v1/jwt-issuers/${id}`);

test('an issuer has defaults for all that its tokens may leave open, and its secret is never shown', async () => {
  const from = access.logLines.length;
  const { status, body } = await create();
  expect(status).toBe(201);
  expect(body).toEqual({
    id: expect.stringMatching(/^iss_[0-7][0-9a-z]{25}$/),
    name: 'Login',
    issuer: 'https://login.example',
    audience: 'posthorn',
    algorithms: ['HS256'],
    jwks_url: null,
    tenant: null,
    clock_skew_seconds: 60,
    max_lifetime_seconds: 86_400,
    claims: { tenant: 'tenant', environment: 'environment', role: 'role' },
    roles: null,
    default_role: null,
    default_environment: 'production',
    created_at: new Date(access.clock.now()).toISOString(),
    updated_at: new Date(access.clock.now()).toISOString(),
  });
  expect((await read(body.id)).body).toEqual(body);
  const stored = JSON.stringify(
    (await access.db.selectFrom('jwt_issuers').selectAll().execute()).map((row) => ({
      ...row,
      secret_box: row.secret_box?.toString('latin1'),
    })),
  );
  const list = JSON.stringify((await access.call('GET', '/api/v1/jwt-issuers')).body);
  for (const text of [stored, list, access.logLines.slice(from).join()]) expect(text).not.toContain(SECRET);
});

test('a change leaves what it does not name, and null brings the default back', async () => {
  const { slug, id: tenantId } = await access.makeTenant();
  const all = {
    tenant: slug,
    clock_skew_seconds: 0,
    max_lifetime_seconds: 3_600,
    claims: { role: 'a.b', tenant: 'org' },
    roles: { boss: 'owner', constructor: 'viewer' },
    default_role: 'viewer',
    default_environment: 'staging',
  };
  const { body: made } = await create(all);
  const claims = { tenant: 'org', environment: 'environment', role: 'a.b' };
  expect(made).toMatchObject({ ...all, tenant: tenantId, claims });
  access.clock.advance(1_000);
  const updated_at = new Date(access.clock.now()).toISOString();
  expect((await change(made.id, {})).body).toEqual({ ...made, updated_at });
  expect((await change(made.id, { claims: { role: null, environment: 'env' } })).body.claims).toEqual({
    tenant: 'org',
    environment: 'env',
    role: 'role',
  });
  const nothing = Object.fromEntries(Object.keys(all).map((name) => [name, null]));
  const { body: reset } = await change(made.id, nothing);
  expect(reset).toMatchObject({
    tenant: null,
    clock_skew_seconds: 60,
    max_lifetime_seconds: 86_400,
    claims: { tenant: 'tenant', environment: 'environment', role: 'role' },
    roles: null,
    default_role: null,
    default_environment: 'production',
  });
  const moved = await change(made.id, { secret: null, jwks_url: 'https://login.example/keys' });
  expect(moved.body).toMatchObject({ jwks_url: 'https://login.example/keys', algorithms: ['RS256', 'ES256', 'EdDSA'] });
});

test.each([
  ['name', { name: '' }],
  ['name', { name: 'a\0' }],
  ['issuer', { issuer: '' }],
  ['issuer', { issuer: 'a\nb' }],
  ['issuer', { issuer: 'x'.repeat(513) }],
  ['issuer', { issuer: undefined }],
  ['audience', { audience: undefined }],
  ['audience', { audience: null }],
  ['audience', { audience: ['posthorn'] }],
  ['secret', { secret: 'x'.repeat(31) }],
  ['secret', { secret: '' }],
  ['secret', { secret: 'x'.repeat(1_025) }],
  ['secret', { secret: undefined }],
  ['secret', { secret: null }],
  ['secret', { jwks_url: 'https://login.example/jwks.json' }],
  ['jwks_url', { secret: undefined, jwks_url: 'http://login.example/jwks.json' }],
  ['jwks_url', { secret: undefined, jwks_url: 7 }],
  ['tenant', { tenant: 'no-such' }],
  ['tenant', { tenant: '__proto__' }],
  ['tenant', { tenant: '' }],
  ['clock_skew_seconds', { clock_skew_seconds: 301 }],
  ['clock_skew_seconds', { clock_skew_seconds: -1 }],
  ['clock_skew_seconds', { clock_skew_seconds: 0.5 }],
  ['max_lifetime_seconds', { max_lifetime_seconds: 59 }],
  ['max_lifetime_seconds', { max_lifetime_seconds: 2_592_001 }],
  ['claims.tenants', { claims: { tenants: 'x' } }],
  ['claims', { claims: 'x' }],
  ['claims.role', { claims: { role: '' } }],
  ['roles', { roles: ['owner'] }],
  ['roles.boss', { roles: { boss: 'operator' } }],
  ['roles.boss', { roles: { boss: 'root' } }],
  ['roles', { roles: Object.fromEntries(Array.from({ length: 101 }, (_, n) => [`r${n}`, 'viewer'])) }],
  ['default_role', { default_role: 'operator' }],
  ['default_environment', { default_environment: 'Production' }],
  ['algorithms', { algorithms: ['none'] }],
])('%s is refused as in %j', async (path, fields) => {
  const { status, body } = await create(fields);
  expect([status, body.error?.details.fields[0].path], JSON.stringify(body)).toEqual([422, path]);
  if (Object.values(fields).some((value) => value !== undefined)) {
    const { body: made } = await create();
    const before = (await read(made.id)).body;
    expect((await change(made.id, fields)).status).toBe(422);
    expect((await read(made.id)).body).toEqual(before);
  }
});

test('a secret has to have 32 bytes, however many characters that are', async () => {
  expect((await create({ secret: 'ü'.repeat(15) })).status).toBe(422);
  expect((await create({ secret: 'ü'.repeat(16) })).status).toBe(201);
});

test('issuers are listed page by page, newest first', async () => {
  const made = [await create(), await create(URL_BODY), await create()].map(({ body }) => body.id);
  const first = await access.call('GET', '/api/v1/jwt-issuers?limit=2');
  expect(first.body.data.map(({ id }: { id: string }) => id)).toEqual([made[2], made[1]]);
  const second = await access.call('GET', `/api/v1/jwt-issuers?limit=1&cursor=${first.body.next_cursor}`);
  expect(second.body.data.map(({ id }: { id: string }) => id)).toEqual([made[0]]);
});

test('one that is not there is a 404, and removing one twice too', async () => {
  const { body: made } = await create();
  expect((await access.call('DELETE', `/api/v1/jwt-issuers/${made.id}`)).status).toBe(204);
  for (const id of [
    made.id,
    formatId('jwtIssuer', access.newId()),
    'x',
    '..%2Fx',
    formatId('tenant', access.newId()),
  ]) {
    const answers = [await read(id), await change(id, {}), await access.call('DELETE', `/api/v1/jwt-issuers/${id}`)];
    expect(answers.map(({ status }) => status)).toEqual([404, 404, 404]);
  }
});

test('one goes with the tenant that it speaks for', async () => {
  const { slug } = await access.makeTenant();
  const [own, all] = [await create({ tenant: slug }), await create()];
  expect((await access.call('DELETE', `/api/v1/tenants/${slug}`)).status).toBe(204);
  expect([(await read(own.body.id)).status, (await read(all.body.id)).status]).toEqual([404, 200]);
});

test('nobody but the operator sees or changes one', async () => {
  const { slug: tenant } = await access.makeTenant();
  const { body: made } = await create({ tenant });
  const { body: owner } = await access.call('POST', '/api/v1/api-keys', {
    tenant,
    body: { name: 'Owner', role: 'owner' },
  });
  const { key } = owner;
  const path = `/api/v1/jwt-issuers/${made.id}`;
  const answers = [
    await access.call('POST', '/api/v1/jwt-issuers', { key, body: BODY }),
    await access.call('GET', '/api/v1/jwt-issuers', { key }),
    await access.call('GET', path, { key }),
    await access.call('PATCH', path, { key, body: {} }),
    await access.call('PUT', path, { key, body: {} }),
    await access.call('DELETE', path, { key }),
  ];
  expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 403));
});
