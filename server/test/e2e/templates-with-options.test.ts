import { createHmac } from 'node:crypto';
import { gunzipSync } from 'node:zlib';
import { Webhook } from 'standardwebhooks';
import { describe, expect, test } from 'vitest';
import { startReceiver } from '../../src/testing/receiver.ts';
import { CERTIFICATE, CERTIFICATE_KEY } from '../../src/webhooks/auth/certificate-fixture.ts';
import { queryDatabase } from '../program/folder.ts';
import {
  ask,
  createTemplate,
  createWebhook,
  ended,
  hook,
  posthorn,
  publish as publishData,
  receiver,
} from './templates-fixture.ts';

/** Templates and transforms beside what else a request may have: compression, credentials, spelling, batches. */
const publish = (data: object = { n: 1 }) => publishData(data);
async function publishText(text: string) {
  const answer = await posthorn.call('POST', '/api/v1/events', text, { 'content-type': 'application/json' });
  expect(answer.status, answer.text).toBe(202);
}
const onceOnly = { retry_policy: { enabled: false } };
const ECHO = { template: { text: '{{ data.text }}' } };

describe('gzip', () => {
  test.each([
    ['a small body', 10],
    ['a large one', 100_000],
  ])('compresses %s that a template made; signed and kept is what it was before', async (_, length) => {
    const { secret } = await createWebhook({ transformation: ECHO, compression: 'gzip' });
    const event = await publish({ text: 'ä'.repeat(length) });
    const [request] = await receiver.received(1);
    expect(request?.headers).toMatchObject({ 'content-encoding': 'gzip', 'content-type': 'application/json' });
    const body = gunzipSync(request?.body ?? '').toString();
    expect(body).toBe(`{"text":"${'ä'.repeat(length)}"}`);
    expect(() => new Webhook(secret).verify(body, request?.headers as Record<string, string>)).not.toThrow();
    await ended(event.id, 'delivered');
    const kept = await queryDatabase<{ request_body: Buffer }>(
      posthorn.database.connection,
      'SELECT request_body FROM attempts',
    );
    expect(kept.at(-1)?.request_body.toString()).toBe(body);
  });

  test('leaves a GET alone, which has headers of a template and no body', async () => {
    await createWebhook({ http_method: 'GET', compression: 'gzip', headers: { 'X-N': '{{ data.n }}' } });
    await publish({ n: 7 });
    const [request] = await receiver.received(1);
    expect(request).toMatchObject({ method: 'GET', headers: { 'x-n': '7' }, body: Buffer.alloc(0) });
    expect(Object.keys(request?.headers ?? {}).filter((name) => name.startsWith('content-'))).toEqual([]);
  });
});

describe('auth', () => {
  const SECRET = 'a secret of more than 32 characters';

  test.each([
    [{ type: 'bearer', token: 'hidden-token' }, 'authorization', /^Bearer hidden-token$/],
    [{ type: 'api_key', header: 'X-Partner', value: 'hidden-key' }, 'x-partner', /^hidden-key$/],
    [{ type: 'jwt', secret: SECRET, claims: {} }, 'authorization', /^Bearer ey/],
  ])('%j goes with what a template made, masked on record', async (auth, header, value) => {
    await createWebhook({ transformation: ECHO, headers: { 'X-N': '{{ data.n }}' }, auth });
    const event = await publish({ n: 1, text: 'a' });
    const [request] = await receiver.received(1);
    expect(request?.headers[header]).toMatch(value);
    expect(request?.headers['x-n']).toBe('1');
    expect(request?.body.toString()).toBe('{"text":"a"}');
    const { attempts } = await ended(event.id, 'delivered');
    expect(attempts[0].request_headers).toMatchObject({ [header]: '***', 'x-n': '1' });
  });

  test.each([
    [{ type: 'bearer', token: 'hidden-token' }, 'Authorization'],
    [{ type: 'api_key', header: 'X-Partner', value: 'hidden-key' }, 'x-PARTNER'],
    [{ type: 'jwt', secret: SECRET, claims: {} }, 'authorization'],
  ])('%j is not given away to a transform that sets %s', async (auth, header) => {
    const template = `() => ({ headers: { '${header}': 'mine' } })`;
    await createWebhook({ transformation: { template, language: 'javascript' }, auth });
    const event = await publish();
    const delivery = await ended(event.id, 'failed');
    expect(delivery.attempts[0]).toMatchObject({ error_class: 'template', response_status: null });
    expect(delivery.attempts[0].error_message).toContain('is a header that Posthorn sets itself');
    expect(receiver.requests).toEqual([]);
  });

  test('a header of a stored template cannot take its place either', async () => {
    await createTemplate({ name: 'taking', headers: { 'X-Partner': 'x' } });
    const auth = { type: 'api_key', header: 'x-partner', value: 'hidden-key' };
    await createWebhook({ transformation: { template: 'taking' }, auth });
    const delivery = await ended((await publish()).id, 'failed');
    expect(delivery.attempts[0]).toMatchObject({ error_class: 'template' });
    expect(receiver.requests).toEqual([]);
  });

  test('nor is a templated header taken beside it', async () => {
    const headers = { Authorization: 'Bearer {{ data.n }}' };
    const { error } = await ask(
      'POST',
      '/api/v1/webhooks',
      hook({ headers, auth: { type: 'bearer', token: 't' } }),
      422,
    );
    expect(error.details.fields).toMatchObject([{ path: 'headers.Authorization' }]);
  });

  test('an access token is fetched for requests that a template makes', async () => {
    const issuer = await startReceiver();
    issuer.onRequest = (request) =>
      request.respond(200, { 'content-type': 'application/json' }, '{"access_token":"t-1","token_type":"Bearer"}');
    const auth = { type: 'oauth2_client_credentials', token_url: issuer.url, client_id: 'c', client_secret: 's' };
    await createWebhook({ transformation: ECHO, auth });
    await publish({ text: 'a' });
    const [request] = await receiver.received(1);
    expect(request?.headers.authorization).toBe('Bearer t-1');
    expect(request?.body.toString()).toBe('{"text":"a"}');
    await issuer.stop();
  });
});

describe('body_spelling json_stringify', () => {
  const signature = { method: 'hmac_sha256_hex', body_spelling: 'json_stringify' };
  const hex = (secret: string, body: string) => createHmac('sha256', secret).update(body).digest('hex');

  test('spells JSON of a template as JavaScript does, and signs that', async () => {
    const secret = 'a secret that the receiver has as well';
    await createWebhook({
      transformation: { template: { amount: '{{ data.amount }}' }, native: true },
      signature,
      secret,
    });
    await publishText('{"event_type":"lead.created","data":{"amount":1.50}}');
    const [request] = await receiver.received(1);
    const body = request?.body.toString() ?? '';
    expect(body).toBe('{"amount":1.5}');
    expect(request?.headers['x-webhook-signature']).toContain(hex(secret, JSON.stringify(JSON.parse(body))));
  });

  test.each([
    ['text', 'text/plain', 'amount: {{ data.amount }} \\u00e9', 'amount: 1.50 \\u00e9'],
    ['JSON that nests too deep', 'application/json', `${'['.repeat(20_000)}${']'.repeat(20_000)}`, undefined],
  ])('leaves %s as it is', async (_, content_type, template, expected = template) => {
    await createWebhook({ transformation: { template, content_type }, signature });
    await publishText('{"event_type":"lead.created","data":{"amount":1.50}}');
    const [request] = await receiver.received(1);
    expect(request?.body.toString()).toBe(expected);
  });
});

describe('batching', () => {
  const batching = { enabled: true };

  test.each([
    ['a templated header', { headers: { 'X-N': '{{ data.n }}' } }],
    ['GET', { http_method: 'GET', transformation: ECHO }],
  ])('and %s are refused together, whichever comes first', async (_, shaping) => {
    const refused = [expect.objectContaining({ path: 'batching.enabled' })];
    const both = await ask('POST', '/api/v1/webhooks', hook({ batching, ...shaping }), 422);
    expect(both.error.details.fields).toEqual(refused);
    const batched = await createWebhook({ batching });
    const later = await ask('PATCH', `/api/v1/webhooks/${batched.id}`, shaping, 422);
    expect(later.error.details.fields).toEqual(refused);
    const shaped = await createWebhook(shaping);
    const other = await ask('PATCH', `/api/v1/webhooks/${shaped.id}`, { batching }, 422);
    expect(other.error.details.fields).toEqual(refused);
  });
});

test('a URL of a transform without TLS is no place for a client certificate', async () => {
  const auth = { type: 'mtls', certificate: CERTIFICATE, private_key: CERTIFICATE_KEY };
  const template = `() => ({ url: ${JSON.stringify(receiver.url)} })`;
  const url = receiver.url.replace('http:', 'https:');
  await createWebhook({ url, auth, transformation: { template, language: 'javascript' }, ...onceOnly });
  const { attempts } = await ended((await publish()).id, 'dead');
  expect(attempts[0]).toMatchObject({ error_class: 'blocked', response_status: null });
  expect(receiver.requests).toEqual([]);
});
