import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Scope } from '../http/caller.ts';
import { parseId } from '../kernel/ids.ts';
import { verifyStandard } from '../signing/verify.ts';
import { openWebhookFixture, type WebhookFixture } from './webhook-fixture.ts';

let api: WebhookFixture;
let scope: Scope;

beforeAll(async () => {
  api = await openWebhookFixture();
  scope = await api.addEnvironment();
});
afterAll(() => api.close());

const HOUR_MS = 3_600_000;
const body = Buffer.from('{"a":1}');

async function create(fields: Record<string, unknown> = {}) {
  const { body } = await api.call(scope, 'POST', '', {
    name: 'W',
    url: 'https://e.example/',
    events: ['*'],
    ...fields,
  });
  return body;
}

async function rotate(id: string, options?: object) {
  return api.call(scope, 'POST', `/${id}/secret/rotate`, options);
}

/** Which of the secrets a delivery would carry a valid signature of. */
async function signing(id: string, secrets: string[]): Promise<boolean[]> {
  const target = await api.directory.find(scope, parseId('webhook', id) ?? '');
  const flat = target?.signer.sign('evt_1', Math.floor(api.clock.now() / 1000), body) ?? [];
  const headers: Record<string, string> = {};
  for (let at = 0; at < flat.length; at += 2) headers[flat[at] ?? ''] = flat[at + 1] ?? '';
  return secrets.map((secret) => verifyStandard(headers, body, secret, api.clock.now()).valid);
}

describe('secrets', () => {
  it('has old secrets sign beside the new one until each one’s grace ends', async () => {
    const { id, secret: first } = await create();
    expect(await signing(id, [first])).toEqual([true]);

    const rotated = await rotate(id);
    expect(rotated.status).toBe(200);
    const second = rotated.body.secret;
    expect(second).not.toBe(first);
    expect(rotated.body.previous).toEqual([
      { kind: 'symmetric', expires_at: new Date(api.clock.now() + 24 * HOUR_MS).toISOString() },
    ]);
    const third = (await rotate(id, { secret: 'a third, given secret', grace_period_seconds: 3600 })).body.secret;
    expect(third).toBe('a third, given secret');
    expect(await signing(id, [first, second, third])).toEqual([true, true, true]);

    api.clock.advance(HOUR_MS);
    expect(await signing(id, [first, second, third])).toEqual([true, false, true]);
    expect((await api.call(scope, 'GET', `/${id}/secret`)).body).toMatchObject({ secret: third, previous: [{}] });
    api.clock.advance(23 * HOUR_MS);
    expect(await signing(id, [first, second, third])).toEqual([false, false, true]);
    expect((await api.call(scope, 'GET', `/${id}/secret`)).body).toEqual({ secret: third, previous: [] });
  });

  it('ends the old secret at once with a grace of 0', async () => {
    const { id, secret: first } = await create();
    const second = (await rotate(id, { grace_period_seconds: 0 })).body.secret;
    expect(await signing(id, [first, second])).toEqual([false, true]);
  });

  it('lets five sign side by side and not six, until one has ended', async () => {
    const { id } = await create();
    for (let n = 0; n < 4; n++) expect((await rotate(id)).status).toBe(200);
    const refused = await rotate(id);
    expect([refused.status, refused.body.error.code]).toEqual([409, 'too_many_secrets']);
    expect((await rotate(id, { grace_period_seconds: 0 })).status).toBe(200);
    api.clock.advance(24 * HOUR_MS);
    expect((await rotate(id)).body.previous).toHaveLength(1);
  });

  it('leaves one newest secret when two rotations come at once', async () => {
    const { id } = await create();
    await Promise.all([rotate(id), rotate(id)]);
    const { body } = await api.call(scope, 'GET', `/${id}/secret`);
    expect(body.previous).toHaveLength(2);
  });

  it('takes a new secret in a change, with the default grace', async () => {
    const { id, secret } = await create();
    expect((await api.call(scope, 'PATCH', `/${id}`, { secret: 'another secret' })).body.secret).toBeUndefined();
    expect(await signing(id, [secret, 'another secret'])).toEqual([true, true]);
  });

  it('shows the public key of a webhook that signs asymmetrically, from when it does', async () => {
    const { id, ...created } = await create();
    expect(created.signing_public_key).toBeUndefined();
    const changed = await api.call(scope, 'PATCH', `/${id}`, { signature: { asymmetric: true } });
    const first = changed.body.signing_public_key;
    expect(first).toMatch(/^whpk_/);
    expect((await api.call(scope, 'GET', '')).body.data[0].signing_public_key).toBe(first);
    const rotated = await rotate(id);
    const second = rotated.body.public_key;
    expect(second).toMatch(/^whpk_/);
    expect(second).not.toBe(first);
    expect(await signing(id, [first, second, rotated.body.secret])).toEqual([true, true, true]);
    const given = await rotate(id, { secret: 'only the shared one' });
    expect(given.body.public_key).toBe(second);
    const off = await api.call(scope, 'PATCH', `/${id}`, { signature: { asymmetric: false } });
    expect(off.body.signing_public_key).toBeUndefined();
    expect(await signing(id, [second, 'only the shared one'])).toEqual([false, true]);
  });

  it.each([
    { secret: 'short' },
    { secret: 'whsk_AAAA' },
    { secret: 'line\nbreak in it' },
    { secret: 7 },
    { grace_period_seconds: -1 },
    { grace_period_seconds: 604_801 },
    { grace_period_seconds: 1.5 },
    { grace: 5 },
    [],
  ])('refuses the rotation %j', async (options) => {
    const { id, secret } = await create();
    expect((await rotate(id, options)).status).toBe(422);
    expect((await api.call(scope, 'GET', `/${id}/secret`)).body).toEqual({ secret, previous: [] });
  });

  it('never tells a secret outside of /secret and the answer of its creation', async () => {
    const { id, secret } = await create({ secret: 'the very secret', headers: { 'X-Api-Key': 'the header secret' } });
    for (const [method, path, change] of [
      ['GET', `/${id}`, undefined],
      ['GET', '', undefined],
      ['PATCH', `/${id}`, { name: 'x' }],
      ['POST', `/${id}/pause`, undefined],
      ['PATCH', `/${id}`, { secret: 'the very secret', url: 'nonsense' }],
    ] as const) {
      const text = JSON.stringify((await api.call(scope, method, path, change)).body);
      expect(text).not.toContain(secret);
      expect(text).not.toContain('the header secret');
    }
  });

  it('stores neither secrets nor header values readably, and each only for its own row', async () => {
    const planted = ['plainly a secret', 'Bearer plainly-a-token', 'plainly-a-value'];
    const { id } = await create({
      secret: planted[0],
      headers: { Authorization: planted[1], 'X-Other': planted[2] },
      signature: { asymmetric: true },
    });
    const dump: string[] = [];
    for (const table of ['webhooks', 'webhook_secrets']) {
      const { rows } = await api.handle.pool.query(`SELECT t::text AS line, t.* FROM ${table} t`);
      for (const row of rows) {
        dump.push(row.line);
        for (const value of Object.values(row)) if (Buffer.isBuffer(value)) dump.push(value.toString('latin1'));
      }
    }
    const everything = dump.join('\n');
    for (const secret of [...planted, 'whsk_', 'Authorization']) {
      expect(everything).not.toContain(secret);
      expect(everything).not.toContain(Buffer.from(secret).toString('hex'));
      expect(everything).not.toContain(Buffer.from(secret).toString('base64').slice(0, -4));
    }

    const other = await create({ headers: { 'X-Other': 'mine' } });
    await api.handle.pool.query(
      `UPDATE webhooks SET headers_box = (SELECT headers_box FROM webhooks WHERE id = $1) WHERE id = $2`,
      [parseId('webhook', id), parseId('webhook', other.id)],
    );
    const stolen = await api.call(scope, 'GET', `/${other.id}`);
    expect(stolen.status).toBe(500);
    expect(JSON.stringify(stolen.body)).not.toContain('plainly');
    await api.handle.pool.query(
      `UPDATE webhook_secrets SET secret_box = (SELECT secret_box FROM webhook_secrets WHERE webhook_id = $1 LIMIT 1)
       WHERE webhook_id = $2`,
      [parseId('webhook', id), parseId('webhook', other.id)],
    );
    expect((await api.call(scope, 'GET', `/${other.id}/secret`)).status).toBe(500);
    expect((await api.call(scope, 'DELETE', `/${other.id}`)).status).toBe(204);
  });
});
