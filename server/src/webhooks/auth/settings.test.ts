import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Scope } from '../../http/caller.ts';
import { parseId } from '../../kernel/ids.ts';
import { openWebhookFixture, type WebhookFixture } from '../webhook-fixture.ts';
import { CERTIFICATE, CERTIFICATE_KEY, OTHER_KEY } from './certificate-fixture.ts';

let fixture: WebhookFixture;
let scope: Scope;
beforeAll(async () => {
  fixture = await openWebhookFixture();
  scope = await fixture.addEnvironment();
});
afterAll(() => fixture.close());

const create = (fields: object) =>
  fixture.call(scope, 'POST', '', { name: 'W', url: 'https://hooks.example.com/', events: ['*'], ...fields });
const change = (id: string, fields: object) => fixture.call(scope, 'PATCH', `/${id}`, fields);

const SECRET = 'a secret of more than 32 characters';
const OAUTH2 = {
  type: 'oauth2_client_credentials',
  token_url: 'https://login.example.com/token',
  client_id: 'posthorn',
  client_secret: 'hidden-client-secret',
};

/** As given, as shown. */
const KINDS: [given: Record<string, unknown>, shown: object, secrets: string[]][] = [
  [{ type: 'none' }, { type: 'none' }, []],
  [
    { type: 'basic', username: 'ann', password: 'hidden-password' },
    { type: 'basic', username: 'ann', password: '***' },
    ['hidden-password'],
  ],
  [{ type: 'bearer', token: 'hidden-token' }, { type: 'bearer', token: '***' }, ['hidden-token']],
  [{ type: 'api_key', value: 'hidden-key' }, { type: 'api_key', header: 'X-API-Key', value: '***' }, ['hidden-key']],
  [
    { type: 'jwt', secret: SECRET, claims: { iss: 'posthorn' } },
    { type: 'jwt', secret: '***', claims: { iss: 'posthorn' }, lifetime_seconds: 300 },
    [SECRET],
  ],
  [OAUTH2, { ...OAUTH2, client_secret: '***', client_authentication: 'basic' }, ['hidden-client-secret']],
  [
    { type: 'mtls', certificate: CERTIFICATE, private_key: CERTIFICATE_KEY },
    { type: 'mtls', certificate: CERTIFICATE, private_key: '***' },
    [CERTIFICATE_KEY.split('\n')[1] ?? ''],
  ],
];

describe('auth', () => {
  test.each(KINDS)('%j is shown without its secrets, and these are nowhere in clear', async (given, shown, secrets) => {
    const made = await create({ auth: given });
    expect(made.status).toBe(201);
    expect(made.body.auth).toEqual(shown);
    expect((await fixture.call(scope, 'GET', `/${made.body.id}`)).body.auth).toEqual(shown);
    const rows = await fixture.handle.pool.query(
      'SELECT w::text AS webhook, (SELECT array_agg(a::text) FROM audit_log a) AS audit FROM webhooks w',
    );
    const kept = JSON.stringify(rows.rows);
    // bytea is written in hex: what was not sealed would be found in that form.
    for (const secret of secrets) {
      expect(kept).not.toContain(secret);
      expect(kept).not.toContain(Buffer.from(secret).toString('hex'));
    }
  });

  test.each(KINDS)('%j sent back as it was shown stays as it is', async (given) => {
    const { body } = await create({ auth: given });
    const before = await storedAuth(body.id);
    expect((await change(body.id, { auth: body.auth })).status).toBe(200);
    expect(await storedAuth(body.id)).toEqual(before);
  });

  test('is merged while its type stays, and replaced when that changes', async () => {
    const { body } = await create({ auth: { type: 'basic', username: 'ann', password: 'first' } });
    await change(body.id, { auth: { username: 'ben' } });
    expect(await storedAuth(body.id)).toEqual({ type: 'basic', username: 'ben', password: 'first' });
    const changed = await change(body.id, { auth: { type: 'bearer', token: 't' } });
    expect(changed.body.auth).toEqual({ type: 'bearer', token: '***' });
    expect(await storedAuth(body.id)).toEqual({ type: 'bearer', token: 't' });
    await change(body.id, { name: 'Other' });
    expect(await storedAuth(body.id)).toEqual({ type: 'bearer', token: 't' });
    expect((await change(body.id, { auth: null })).body.auth).toEqual({ type: 'none' });
    expect(await storedAuth(body.id)).toBeNull();
  });

  test('a changed secret is noticed in the audit log, and not written there', async () => {
    const { body } = await create({ auth: { type: 'bearer', token: 'first' } });
    await change(body.id, { auth: { token: 'second' } });
    const { rows } = await fixture.handle.pool.query(
      'SELECT before, after FROM audit_log WHERE resource_id = $1 ORDER BY sequence DESC LIMIT 1',
      [body.id],
    );
    const hidden = { auth: { token: '***' } };
    expect(rows[0]).toEqual({ before: hidden, after: hidden });
  });

  test.each([
    [{ type: 'basic', username: 'ann' }, 'auth.password'],
    [{ type: 'basic', username: 'an:n', password: 'p' }, 'auth.username'],
    [{ type: 'basic', username: 'ann', password: 'p', token: 't' }, 'auth.token'],
    [{ type: 'bearer', token: '***' }, 'auth.token'],
    [{ type: 'bearer', token: 'two words' }, 'auth.token'],
    [{ type: 'bearer', token: 'a\r\nx: y' }, 'auth.token'],
    [{ type: 'bearer' }, 'auth.token'],
    [{ type: 'digest' }, 'auth.type'],
    [{ token: 't' }, 'auth.token'],
    [{ type: 'api_key', header: 'webhook-id', value: 'v' }, 'auth.header'],
    [{ type: 'api_key', header: 'Content-Length', value: 'v' }, 'auth.header'],
    [{ type: 'api_key', header: 'x y', value: 'v' }, 'auth.header'],
    [{ type: 'api_key', value: 'a\nb' }, 'auth.value'],
    [{ type: 'jwt', secret: 'short' }, 'auth.secret'],
    [{ type: 'jwt', secret: SECRET, claims: { exp: 1 } }, 'auth.claims'],
    [{ type: 'jwt', secret: SECRET, claims: { a: 'x'.repeat(2_048) } }, 'auth.claims'],
    [{ type: 'jwt', secret: SECRET, lifetime_seconds: 9 }, 'auth.lifetime_seconds'],
    [{ ...OAUTH2, token_url: 'https://169.254.169.254/token' }, 'auth.token_url'],
    [{ ...OAUTH2, token_url: 'http://login.example.com/token' }, 'auth.token_url'],
    [{ ...OAUTH2, token_url: null }, 'auth.token_url'],
    [{ type: 'mtls', certificate: 'none', private_key: CERTIFICATE_KEY }, 'auth.certificate'],
    [{ type: 'mtls', certificate: CERTIFICATE, private_key: 'none' }, 'auth.private_key'],
    [{ type: 'mtls', certificate: CERTIFICATE, private_key: OTHER_KEY }, 'auth.private_key'],
  ])('%j is refused by name', async (auth, path) => {
    const answer = await create({ auth });
    expect(answer.status).toBe(422);
    expect(answer.body.error.details.fields.map((field: { path: string }) => field.path)).toContain(path);
  });

  test('the header of a credential is named once', async () => {
    const bearer = { type: 'bearer', token: 't' };
    for (const fields of [
      { auth: bearer, headers: { authorization: 'Basic x' } },
      {
        auth: { type: 'api_key', header: 'X-Signature', value: 'v' },
        signature: { method: 'hmac_sha1', header: 'x-signature' },
      },
    ]) {
      expect((await create(fields)).status).toBe(422);
    }
  });

  test('a client certificate goes to https URLs alone', async () => {
    const auth = { type: 'mtls', certificate: CERTIFICATE, private_key: CERTIFICATE_KEY };
    const answer = await create({ auth, url: 'http://127.0.0.1/' });
    expect(answer.status).toBe(422);
    expect(answer.body.error.details.fields).toMatchObject([{ path: 'url' }]);
  });

  test('of another tenant’s webhook it cannot be changed', async () => {
    const { body } = await create({ auth: { type: 'bearer', token: 'first' } });
    const other = await fixture.addEnvironment();
    const answer = await fixture.call(other, 'PATCH', `/${body.id}`, { auth: { type: 'none' } });
    expect(answer.status).toBe(404);
    expect(await storedAuth(body.id)).toEqual({ type: 'bearer', token: 'first' });
  });
});

/** What is sealed in the row; null: nothing. */
async function storedAuth(shownId: string): Promise<unknown> {
  const { rows } = await fixture.handle.pool.query<{ id: string; auth_box: Buffer | null }>(
    'SELECT id, auth_box FROM webhooks WHERE tenant_id = $1 ORDER BY id',
    [scope.tenantId],
  );

  const row = rows.find(({ id }) => id === parseId('webhook', shownId));
  if (row?.auth_box == null) return null;
  return JSON.parse(fixture.box.open(row.auth_box, `webhooks/${scope.tenantId}/${row.id}/auth`));
}
