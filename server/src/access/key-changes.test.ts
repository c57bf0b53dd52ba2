import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { formatId } from '../kernel/ids.ts';
import { type Access, type Call, startAccess } from './access-fixture.ts';

let access: Access;
beforeAll(async () => {
  access = await startAccess();
});
afterAll(() => access.stop());

async function makeKey(tenant: string, fields: object, options: Call = {}) {
  const { status, body } = await access.call('POST', '/api/v1/api-keys', {
    tenant,
    ...options,
    body: { name: 'Key', role: 'developer', ...fields },
  });
  expect(status, JSON.stringify(body)).toBe(201);
  return body as { id: string; key: string; key_hint: string };
}

const change = (id: string, body: unknown, options: Call = {}) =>
  access.call('PATCH', `/api/v1/api-keys/${id}`, { ...options, body });
const rotate = (id: string, seconds: number | undefined, options: Call = {}) =>
  access.call('POST', `/api/v1/api-keys/${id}/rotate`, {
    ...options,
    ...(seconds !== undefined && { body: { grace_period_seconds: seconds } }),
  });
const works = async (key: string) => (await access.call('GET', '/needs/publish', { key })).status === 200;

test('one change may name the limit and all else, and what it leaves out stays', async () => {
  const { slug: tenant } = await access.makeTenant();
  const { id } = await makeKey(tenant, { scopes: ['read'], requests_per_second: 5 });
  const limited = await change(id, { requests_per_second: 7 }, { tenant });
  expect(limited.body).toMatchObject({ name: 'Key', scopes: ['read'], expires_at: null, requests_per_second: 7 });
  const all = { name: 'New', scopes: ['publish'], expires_at: '2100-01-01T00:00:00.000Z', requests_per_second: 9 };
  expect((await change(id, all, { tenant })).body).toMatchObject(all);
  const { body } = await change(id, { name: 'Newer' }, { tenant });
  expect(body).toMatchObject({ ...all, name: 'Newer' });
  expect((await rotate(id, 0, { tenant })).body).toMatchObject({ ...all, name: 'Newer' });
  expect((await change(id, { requests_per_second: null }, { tenant })).body.requests_per_second).toBeNull();
  expect((await access.call('GET', `/api/v1/api-keys/${id}`, { tenant })).body.requests_per_second).toBeNull();
});

describe('scopes', () => {
  test('leave of a role’s permissions those that they name', async () => {
    const { slug: tenant } = await access.makeTenant();
    const none = await makeKey(tenant, {});
    expect(await access.permissions(none.key)).toEqual(['read', 'publish', 'develop']);
    const one = await makeKey(tenant, { scopes: ['publish'] });
    expect(await access.permissions(one.key)).toEqual(['publish']);
    const two = await makeKey(tenant, { role: 'owner', scopes: ['administer', 'read'] });
    expect(await access.permissions(two.key)).toEqual(['read', 'administer']);
    expect((await access.call('GET', `/api/v1/api-keys/${two.id}`, { tenant })).body.scopes).toEqual([
      'administer',
      'read',
    ]);
    const refused = await access.call('GET', '/needs/read', { key: one.key });
    expect(refused.body.error.message).toBe(
      'This needs the permission "read", which is not among the scopes of this API key.',
    );
  });

  test('apply to a key in memory from the next request on, and null lifts them', async () => {
    const { slug: tenant } = await access.makeTenant();
    const { id, key } = await makeKey(tenant, {});
    expect(await works(key)).toBe(true);
    expect((await change(id, { scopes: ['read'] }, { tenant })).body.scopes).toEqual(['read']);
    expect(await access.permissions(key)).toEqual(['read']);
    expect((await change(id, { scopes: null }, { tenant })).body.scopes).toBeNull();
    expect(await access.permissions(key)).toEqual(['read', 'publish', 'develop']);
  });

  test.each([
    [[]],
    [['operate']],
    [['public']],
    [['Read']],
    [['administer']],
    [['read', 'read']],
    ['read'],
    [[null]],
    [['__proto__']],
  ])('%j are refused for a developer', async (scopes) => {
    const { slug: tenant } = await access.makeTenant();
    const body = { name: 'x', role: 'developer', scopes };
    const made = await access.call('POST', '/api/v1/api-keys', { tenant, body });
    expect([made.status, made.body.error.details.fields[0].path]).toEqual([422, expect.stringMatching(/^scopes/)]);
    const { id } = await makeKey(tenant, {});
    expect((await change(id, { scopes }, { tenant })).status).toBe(422);
  });

  test('that a stored key has and this version does not know permit nothing', async () => {
    const { slug: tenant } = await access.makeTenant();
    const { key, key_hint } = await makeKey(tenant, {});
    const row = { scopes: ['operate', 'public', 'fly'] };
    await access.db.updateTable('api_keys').set(row).where('key_hint', '=', key_hint).execute();
    expect(await access.permissions(key)).toEqual([]);
  });

  test('of a key bound what it makes, changes and rotates; it cannot widen itself', async () => {
    const { slug: tenant } = await access.makeTenant();
    const narrow = await makeKey(tenant, { role: 'owner', scopes: ['administer', 'read'] });
    const { key } = narrow;
    const wide = await makeKey(tenant, { role: 'viewer', scopes: null });
    const publisher = await makeKey(tenant, { role: 'publisher' });
    const tries = [
      await access.call('POST', '/api/v1/api-keys', { key, body: { name: 'x', role: 'owner' } }),
      await access.call('POST', '/api/v1/api-keys', { key, body: { name: 'x', role: 'publisher' } }),
      await access.call('POST', '/api/v1/api-keys', { key, body: { name: 'x', role: 'admin', scopes: ['publish'] } }),
      await change(narrow.id, { scopes: null }, { key }),
      await change(narrow.id, { scopes: ['administer', 'publish'] }, { key }),
      await change(publisher.id, { name: 'x' }, { key }),
      await rotate(publisher.id, 0, { key }),
    ];
    expect(tries.map(({ status }) => status)).toEqual(tries.map(() => 403));
    expect(await works(publisher.key)).toBe(true);
    expect((await rotate(wide.id, 0, { key })).status).toBe(200);
    expect((await change(narrow.id, { scopes: ['administer'] }, { key })).status).toBe(200);
    expect(await access.permissions(key)).toEqual(['administer']);
  });
});

describe('rotation', () => {
  test('gives the key another secret, and the old one works to the millisecond of its grace', async () => {
    const { slug: tenant } = await access.makeTenant();
    const made = await makeKey(tenant, { scopes: ['publish'] });
    expect(await works(made.key)).toBe(true);
    const rotated = await rotate(made.id, 600, { tenant });
    expect(rotated.status).toBe(200);
    expect(rotated.body).toMatchObject({
      id: made.id,
      scopes: ['publish'],
      rotated_at: new Date(access.clock.now()).toISOString(),
      old_key_expires_at: new Date(access.clock.now() + 600_000).toISOString(),
      key_hint: rotated.body.key.slice(0, 12),
    });
    expect(rotated.body.key).not.toBe(made.key);
    const shown = await access.call('GET', `/api/v1/api-keys/${made.id}`, { tenant });
    expect({ ...shown.body, last_used_at: null, key: rotated.body.key }).toEqual({
      ...rotated.body,
      last_used_at: null,
    });
    expect(await access.permissions(rotated.body.key)).toEqual(['publish']);
    expect(await access.permissions(made.key)).toEqual(['publish']);
    const ask = (key: string) => access.call('GET', '/needs/publish', { key });
    expect((await ask(made.key)).body.actor).toEqual((await ask(rotated.body.key)).body.actor);
    access.clock.advance(599_999);
    expect(await works(made.key)).toBe(true);
    access.clock.advance(1);
    expect([await works(made.key), await works(rotated.body.key)]).toEqual([false, true]);
    // Also when it has to be looked up.
    access.authenticator.invalidateAll();
    expect([await works(made.key), await works(rotated.body.key)]).toEqual([false, true]);
    expect((await access.call('GET', `/api/v1/api-keys/${made.id}`, { tenant })).body.old_key_expires_at).toBeNull();
  });

  test('with a grace of 0 ends all older secrets at once, and without one it is a day', async () => {
    const { slug: tenant } = await access.makeTenant();
    const { id, key } = await makeKey(tenant, {});
    const second = (await rotate(id, undefined, { tenant })).body;
    expect(Date.parse(second.old_key_expires_at) - access.clock.now()).toBe(86_400_000);
    expect([await works(key), await works(second.key)]).toEqual([true, true]);
    const third = (await rotate(id, 0, { tenant })).body;
    expect(third.old_key_expires_at).toBeNull();
    expect([await works(key), await works(second.key), await works(third.key)]).toEqual([false, false, true]);
  });

  test('twice keeps both older secrets for their own grace, and none longer than the last one’s', async () => {
    const { slug: tenant } = await access.makeTenant();
    const { id, key } = await makeKey(tenant, {});
    const second = (await rotate(id, 1_000, { tenant })).body;
    const third = (await rotate(id, 2_000, { tenant })).body;
    access.clock.advance(1_000_000);
    expect([await works(key), await works(second.key), await works(third.key)]).toEqual([false, true, true]);
    const fourth = (await rotate(id, 10, { tenant })).body;
    access.clock.advance(10_000);
    expect([await works(second.key), await works(third.key), await works(fourth.key)]).toEqual([false, false, true]);
  });

  test('is bounded: a sixth secret has to wait, unless the old ones end', async () => {
    const { slug: tenant } = await access.makeTenant();
    const { id } = await makeKey(tenant, {});
    const statuses = [];
    for (let count = 0; count < 5; count += 1) statuses.push((await rotate(id, 60, { tenant })).status);
    expect(statuses).toEqual([200, 200, 200, 200, 409]);
    expect((await rotate(id, 0, { tenant })).status).toBe(200);
    expect((await rotate(id, 60, { tenant })).status).toBe(200);
  });

  test('ten at the same time give ten answers, and the last secret on record works', async () => {
    const { slug: tenant } = await access.makeTenant();
    const { id, key } = await makeKey(tenant, {});
    const answers = await Promise.all(Array.from({ length: 10 }, () => rotate(id, 0, { tenant })));
    expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 200));
    const working = [];
    for (const { body } of answers) if (await works(body.key)) working.push(body.key.slice(0, 12));
    const { body } = await access.call('GET', `/api/v1/api-keys/${id}`, { tenant });
    expect(working).toEqual([body.key_hint]);
    expect(await works(key)).toBe(false);
  });

  test('ends with the key: revoking it ends all of its secrets, and so does its own end', async () => {
    const { slug: tenant } = await access.makeTenant();
    const revoked = await makeKey(tenant, {});
    const next = (await rotate(revoked.id, 600, { tenant })).body;
    expect([await works(revoked.key), await works(next.key)]).toEqual([true, true]);
    expect((await access.call('DELETE', `/api/v1/api-keys/${revoked.id}`, { tenant })).status).toBe(204);
    expect([await works(revoked.key), await works(next.key)]).toEqual([false, false]);
    expect((await rotate(revoked.id, 0, { tenant })).body.error.code).toBe('key_revoked');
    expect((await change(revoked.id, { name: 'x' }, { tenant })).body.error.code).toBe('key_revoked');

    const ending = await makeKey(tenant, { expires_at: new Date(access.clock.now() + 5_000).toISOString() });
    const after = (await rotate(ending.id, 600, { tenant })).body;
    access.clock.advance(5_000);
    expect([await works(ending.key), await works(after.key)]).toEqual([false, false]);
  });

  test.each([[-1], [604_801], [1.5], ['60'], [null], [1e308]])('a grace of %j is refused', async (seconds) => {
    const { slug: tenant } = await access.makeTenant();
    const { id } = await makeKey(tenant, {});
    expect((await rotate(id, seconds as number, { tenant })).status).toBe(422);
  });

  test('leaves no secret in the database or the logs', async () => {
    const { slug: tenant } = await access.makeTenant();
    const { id, key } = await makeKey(tenant, {});
    const { key: next } = (await rotate(id, 60, { tenant })).body;
    await Promise.all([works(key), works(next)]);
    const rows = [
      ...(await access.db.selectFrom('api_keys').selectAll().execute()),
      ...(await access.db.selectFrom('api_key_old_secrets').selectAll().execute()),
    ];
    const stored = rows.map((row) => JSON.stringify({ ...row, key_hash: row.key_hash.toString('latin1') })).join();
    for (const secret of [key, next]) {
      expect(stored + access.logLines.join()).not.toContain(secret.slice(12));
    }
  });
});

test('a key’s name and end are changed, and the end counts from the next request on', async () => {
  const { slug: tenant } = await access.makeTenant();
  const { id, key } = await makeKey(tenant, {});
  expect(await works(key)).toBe(true);
  const expires_at = new Date(access.clock.now() + 1_000).toISOString();
  expect((await change(id, { name: 'Other', expires_at }, { tenant })).body).toMatchObject({
    name: 'Other',
    expires_at,
  });
  access.clock.advance(1_000);
  expect(await works(key)).toBe(false);
  expect((await change(id, { expires_at: null }, { tenant })).body).toMatchObject({ name: 'Other', expires_at: null });
  expect(await works(key)).toBe(true);
  const past = new Date(access.clock.now()).toISOString();
  for (const body of [
    { expires_at: past },
    { name: '' },
    { role: 'owner' },
    { key: 'x' },
    { environment: 'staging' },
  ]) {
    expect((await change(id, body, { tenant })).status, JSON.stringify(body)).toBe(422);
  }
});

test('nobody changes or rotates a key above himself, or of another environment or tenant', async () => {
  const { slug: tenant } = await access.makeTenant();
  const { slug: other } = await access.makeTenant();
  const owner = await makeKey(tenant, { role: 'owner' });
  const admin = await makeKey(tenant, { role: 'admin' });
  const staging = await makeKey(tenant, { role: 'viewer', environment: 'staging' });
  const foreign = await makeKey(other, { role: 'viewer' });
  const stranger = await makeKey(other, { role: 'owner' });
  const { key } = admin;
  expect([
    (await rotate(owner.id, 0, { key })).status,
    (await change(owner.id, { name: 'x' }, { key })).status,
  ]).toEqual([403, 403]);
  const nobodys = formatId('apiKey', access.newId());
  for (const [id, asking] of [
    [staging.id, key],
    [foreign.id, owner.key],
    [owner.id, stranger.key],
    [nobodys, owner.key],
    ['..%2Fx', owner.key],
  ] as const) {
    for (const { status, body } of [
      await rotate(id, 0, { key: asking }),
      await change(id, { name: 'x' }, { key: asking }),
      await change(id, {}, { key: asking }),
    ]) {
      expect([status, body.error.message]).toEqual([404, 'No such API key.']);
    }
  }
  for (const { key: untouched } of [owner, stranger]) expect(await works(untouched)).toBe(true);
});
