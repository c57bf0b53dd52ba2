import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { gunzipSync } from 'node:zlib';
import { jwtVerify } from 'jose';
import { Webhook } from 'standardwebhooks';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type ReceivedRequest, type Receiver, startReceiver } from '../../src/testing/receiver.ts';
import {
  CERTIFICATE,
  CERTIFICATE_KEY,
  OTHER_CERTIFICATE,
  OTHER_KEY,
} from '../../src/webhooks/auth/certificate-fixture.ts';
import { type Cluster, startCluster } from './cluster.ts';

let cluster: Cluster;
let receiver: Receiver;
/** Where access tokens come from. */
let issuer: Receiver;
beforeAll(async () => {
  cluster = await startCluster(1);
});
afterAll(() => cluster.stop());
beforeEach(async () => {
  [receiver, issuer] = await Promise.all([startReceiver(), startReceiver()]);
});
afterEach(async () => {
  await cluster.deleteWebhooks();
  await Promise.all([receiver.stop(), issuer.stop()]);
  await cluster.query('TRUNCATE deliveries, events, attempts, dead_letters');
});

const isSigned = (secret: string, body: string, { headers }: ReceivedRequest) =>
  new Webhook(secret).verify(body, headers as Record<string, string>, { jsonParse: false } as never) !== undefined;

describe('the method', () => {
  test.each(['POST', 'PUT', 'PATCH', 'DELETE'])('%s carries the body', async (method) => {
    await cluster.webhook({ url: receiver.url, http_method: method });
    await cluster.publish({ data: { n: 1 } });
    const [request] = await receiver.received(1);
    expect(request?.method).toBe(method);
    expect(JSON.parse(request?.body.toString() ?? '').data).toEqual({ n: 1 });
  });

  test('GET carries no body and no content type, and signs the empty body', async () => {
    const { secret } = await cluster.webhook({
      url: `${receiver.url}/?a=b`,
      http_method: 'GET',
      compression: 'gzip',
      signature_method: 'hmac_sha256_hex',
    });
    await cluster.publish({ data: { n: 1 } });
    const [request] = await receiver.received(1);
    expect(request).toMatchObject({ method: 'GET', path: '/?a=b', body: Buffer.alloc(0) });
    expect(Object.keys(request?.headers ?? {}).filter((name) => name.startsWith('content-'))).toEqual([]);
    expect(request?.headers).toMatchObject({ 'x-webhook-event': 'order.paid', 'x-webhook-attempt': '1' });
    const key = secret.startsWith('whsec_') ? Buffer.from(secret.slice(6), 'base64') : secret;
    const signed = `${request?.headers['webhook-id']}.${request?.headers['webhook-timestamp']}.`;
    const expected = `v1,${createHmac('sha256', key).update(signed).digest('base64')}`;
    expect(request?.headers['webhook-signature']).toBe(expected);
  });
});

describe('compression', () => {
  test.each([
    ['a small body', 10],
    ['a large one', 500_000],
  ])('%s comes in gzip, and its signature is of what it was before', async (_, length) => {
    const { secret } = await cluster.webhook({ url: receiver.url, compression: 'gzip' });
    const event = await cluster.publish({ data: { text: 'ä'.repeat(length) } });
    const [request] = await receiver.received(1);
    expect(request?.headers).toMatchObject({ 'content-encoding': 'gzip', 'content-type': 'application/json' });
    expect(request?.headers['content-length']).toBe(String(request?.body.length));
    const body = gunzipSync(request?.body ?? '').toString();
    expect(JSON.parse(body).data.text).toBe('ä'.repeat(length));
    expect(() => isSigned(secret, body, request as ReceivedRequest)).not.toThrow();
    // What is on record can be read.
    const { attempts } = await cluster.becomes(event, 'delivered');
    expect(attempts[0].request_headers['content-encoding']).toBe('gzip');
    expect(attempts[0].request_body.slice(0, 1_000)).toBe(body.slice(0, 1_000));
  });

  test('without it bodies come as they are', async () => {
    const { id } = await cluster.webhook({ url: receiver.url, compression: 'gzip' });
    await cluster.first.call('PATCH', `/api/v1/webhooks/${id}`, { compression: null });
    await cluster.publish();
    const [request] = await receiver.received(1);
    expect(request?.headers['content-encoding']).toBeUndefined();
    expect(JSON.parse(request?.body.toString() ?? '').type).toBe('order.paid');
  });
});

describe('auth', () => {
  const SECRET = 'a secret of more than 32 characters';

  test.each([
    [{ type: 'basic', username: 'ann', password: 'pässword' }, 'authorization', `Basic ${btoaUtf8('ann:pässword')}`],
    [
      { type: 'basic', username: 'ännchen', password: ':a:ß€ ' },
      'authorization',
      `Basic ${btoaUtf8('ännchen::a:ß€ ')}`,
    ],
    [{ type: 'bearer', token: 'hidden-token' }, 'authorization', 'Bearer hidden-token'],
    [{ type: 'api_key', value: 'hidden-key' }, 'x-api-key', 'hidden-key'],
    [{ type: 'api_key', header: 'X-Partner', value: 'hidden-key' }, 'x-partner', 'hidden-key'],
  ])('%j stands in its header, and is masked on record', async (auth, header, value) => {
    await cluster.webhook({ url: receiver.url, auth });
    const event = await cluster.publish();
    const [request] = await receiver.received(1);
    expect(request?.headers[header]).toBe(value);
    const delivery = await cluster.becomes(event, 'delivered');
    expect(delivery.attempts[0].request_headers[header]).toBe('***');
    expect(JSON.stringify(await cluster.query('SELECT * FROM attempts'))).not.toContain(value);
  });

  test('jwt is signed anew for each attempt, with its claims, times and an id of its own', async () => {
    const auth = { type: 'jwt', secret: SECRET, claims: { iss: 'posthorn', aud: ['crm'] }, lifetime_seconds: 60 };
    await cluster.webhook({ url: receiver.url, auth, retry_policy: { initial_delay_seconds: 0, jitter: 0 } });
    receiver.onRequest = (request) => request.respond(receiver.requests.length < 2 ? 500 : 200);
    const event = await cluster.publish();
    const requests = await receiver.received(2);
    const tokens = requests.map(({ headers }) => String(headers.authorization).replace('Bearer ', ''));
    for (const token of tokens) {
      const algorithms = { algorithms: ['HS256'], issuer: 'posthorn', audience: 'crm' };
      await jwtVerify(token, Buffer.from(SECRET), algorithms);
      await expect(jwtVerify(token, Buffer.from(`${SECRET}.`), algorithms)).rejects.toThrow('signature');
    }
    const payloads = tokens.map((token) => {
      const [head, payload, signature] = token.split('.');
      expect(signature).toBe(createHmac('sha256', SECRET).update(`${head}.${payload}`).digest('base64url'));
      expect(JSON.parse(Buffer.from(head ?? '', 'base64url').toString())).toEqual({ alg: 'HS256', typ: 'JWT' });
      return JSON.parse(Buffer.from(payload ?? '', 'base64url').toString());
    });
    for (const payload of payloads) {
      expect(payload).toMatchObject({ iss: 'posthorn', aud: ['crm'], exp: payload.iat + 60 });
      expect(Math.abs(payload.iat * 1000 - Date.now())).toBeLessThan(60_000);
    }
    expect(payloads[0].jti).not.toBe(payloads[1].jti);
    const { attempts } = await cluster.becomes(event, 'delivered');
    expect(attempts.map((each: { request_headers: object }) => each.request_headers)).toMatchObject([
      { authorization: '***' },
      { authorization: '***' },
    ]);
  });

  test('mtls shows the client certificate to a receiver that asks for one, and its key to nobody', async () => {
    const shown: string[] = [];
    const options = { cert: CERTIFICATE, key: CERTIFICATE_KEY, ca: OTHER_CERTIFICATE, requestCert: true };
    const server = https.createServer(options, (request, response) => {
      shown.push((request.socket as TLSSocket).getPeerCertificate().subject.CN as string);
      response.end();
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    try {
      const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}/`;
      const auth = { type: 'mtls', certificate: OTHER_CERTIFICATE, private_key: OTHER_KEY };
      const retry_policy = { max_attempts: 1 };
      const { id } = await cluster.webhook({ url, auth, verify_tls: false, retry_policy });
      const { body } = await cluster.first.call('GET', `/api/v1/webhooks/${id}`);
      expect(body.auth).toEqual({ ...auth, private_key: '***' });
      await cluster.becomes(await cluster.publish(), 'delivered');
      expect(shown).toEqual(['other.test']);
      await cluster.first.call('PATCH', `/api/v1/webhooks/${id}`, { auth: null });
      const refused = await cluster.becomes(await cluster.publish(), 'dead');
      expect(refused.attempts[0].error_class).toMatch(/^(tls|reset)$/);
      expect(shown).toHaveLength(1);
    } finally {
      server.closeAllConnections();
      server.close();
    }
  });

  describe('oauth2_client_credentials', () => {
    const oauth2 = (fields: object = {}) => ({
      type: 'oauth2_client_credentials',
      token_url: `${issuer.url}/token`,
      client_id: 'post horn',
      client_secret: 'hidden:secret',
      ...fields,
    });
    const AT_ONCE = { max_attempts: 3, initial_delay_seconds: 0, max_delay_seconds: 0, jitter: 0 };
    /** Gives tokens `t1`, `t2`, … */
    const issue = (expiresIn = 3_600) => {
      issuer.onRequest = (request) =>
        request.respond(
          200,
          { 'content-type': 'application/json' },
          JSON.stringify({ access_token: `t${issuer.requests.length}`, token_type: 'Bearer', expires_in: expiresIn }),
        );
    };
    const tokens = () => receiver.requests.map(({ headers }) => headers.authorization);

    test('one token is fetched for many deliveries, as the client says who it is', async () => {
      issue();
      await cluster.webhook({ url: receiver.url, auth: oauth2({ scope: 'a b', audience: 'crm' }) });
      await cluster.publishAll(Array.from({ length: 50 }, () => ({})));
      await cluster.allBecome('delivered');
      expect(issuer.requests).toHaveLength(1);
      const [request] = issuer.requests;
      expect(request).toMatchObject({ method: 'POST', path: '/token' });
      expect(request?.headers['content-type']).toBe('application/x-www-form-urlencoded');
      expect(Object.fromEntries(new URLSearchParams(request?.body.toString()))).toEqual({
        grant_type: 'client_credentials',
        scope: 'a b',
        audience: 'crm',
      });
      expect(request?.headers.authorization).toBe(`Basic ${btoaUtf8('post+horn:hidden%3Asecret')}`);
      expect(new Set(tokens())).toEqual(new Set(['Bearer t1']));
      expect(JSON.stringify(await cluster.query('SELECT * FROM attempts'))).not.toMatch(/Bearer|hidden/);
    });

    test('a token that has expired is not sent again', async () => {
      issue(0.001);
      await cluster.webhook({ url: receiver.url, auth: oauth2() });
      await cluster.becomes(await cluster.publish(), 'delivered');
      issue(3_600);
      await cluster.becomes(await cluster.publish(), 'delivered');
      await cluster.becomes(await cluster.publish(), 'delivered');
      expect(tokens()).toEqual(['Bearer t1', 'Bearer t2', 'Bearer t2']);
    });

    test('the client may say it in the body', async () => {
      issue();
      await cluster.webhook({ url: receiver.url, auth: oauth2({ client_authentication: 'body' }) });
      await cluster.publish();
      await receiver.received(1);
      const [request] = issuer.requests;
      expect(request?.headers.authorization).toBeUndefined();
      const form = Object.fromEntries(new URLSearchParams(request?.body.toString()));
      expect(form).toMatchObject({ client_id: 'post horn', client_secret: 'hidden:secret' });
    });

    test('a token that the receiver refuses after it had accepted it is replaced, and the delivery tried at once', async () => {
      issue();
      await cluster.webhook({ url: receiver.url, auth: oauth2(), retry_policy: { ...AT_ONCE, max_attempts: 1 } });
      await cluster.becomes(await cluster.publish(), 'delivered');
      receiver.onRequest = (request) => request.respond(request.headers.authorization === 'Bearer t1' ? 401 : 200);
      const delivery = await cluster.becomes(await cluster.publish(), 'delivered');
      expect(delivery.attempts).toMatchObject([
        { number: 1, response_status: 401 },
        { number: 2, response_status: 200 },
      ]);
      expect(tokens()).toEqual(['Bearer t1', 'Bearer t1', 'Bearer t2']);
    });

    test('a new token that is refused is not replaced: the delivery fails by its policy', async () => {
      issue();
      receiver.onRequest = (request) => request.respond(401);
      await cluster.webhook({ url: receiver.url, auth: oauth2(), retry_policy: AT_ONCE });
      const delivery = await cluster.becomes(await cluster.publish(), 'dead');
      expect(delivery).toMatchObject({ attempt_count: 3, status_reason: 'attempts_used_up' });
      expect(issuer.requests).toHaveLength(1);
    });

    test.each([
      [
        'answers with an error',
        (request: ReceivedRequest) => request.respond(400, {}, '{"error":"hidden"}'),
        'response',
      ],
      ['answers with no token', (request: ReceivedRequest) => request.respond(200, {}, 'hidden'), 'response'],
      ['leads elsewhere', (request: ReceivedRequest) => request.respond(302, { location: '/' }), 'response'],
      ['is not there', (request: ReceivedRequest) => request.reset(), 'reset'],
    ])('when the token URL %s the attempt says so, and nothing is sent', async (_, onRequest, errorClass) => {
      issuer.onRequest = onRequest;
      await cluster.webhook({ url: receiver.url, auth: oauth2(), retry_policy: AT_ONCE });
      const event = await cluster.publish();
      const { attempts } = await cluster.becomes(event, 'dead');
      expect(attempts).toHaveLength(3);
      expect(attempts[0]).toMatchObject({ error_class: errorClass, response_status: null });
      expect(attempts[0].error_message).toMatch(/token/);
      expect(JSON.stringify(attempts)).not.toContain('hidden');
      expect(receiver.requests).toEqual([]);
    });

    test('a token URL is judged as the webhook’s own is', async () => {
      issue();
      const { id } = await cluster.webhook({ url: receiver.url, auth: oauth2(), retry_policy: AT_ONCE });
      const answer = await cluster.first.call('PATCH', `/api/v1/webhooks/${id}`, {
        auth: { token_url: 'http://10.0.0.1/token' },
      });
      expect(answer.status).toBe(422);
    });

    test('new credentials are used at once, a test gets a token as well, and tokens are no other webhook’s', async () => {
      issue();
      const { id } = await cluster.webhook({ url: receiver.url, auth: oauth2() });
      await cluster.becomes(await cluster.publish(), 'delivered');
      await cluster.first.call('PATCH', `/api/v1/webhooks/${id}`, { auth: { client_secret: 'another' } });
      const tested = await cluster.first.call('POST', `/api/v1/webhooks/${id}/test`, {});
      expect(tested.body.response_status).toBe(200);
      await cluster.webhook({ url: receiver.url, auth: oauth2(), events: ['alone'] });
      await cluster.becomes(await cluster.publish({ event_type: 'alone' }), 'delivered');
      expect(tokens().slice(0, 2)).toEqual(['Bearer t1', 'Bearer t2']);
      expect(new Set(tokens())).toEqual(new Set(['Bearer t1', 'Bearer t2', 'Bearer t3']));
    });

    test('while a token is fetched the webhook may be paused, and nothing is sent then', async () => {
      let asked: ReceivedRequest | undefined;
      issuer.onRequest = (request) => {
        asked = request;
      };
      const { id } = await cluster.webhook({ url: receiver.url, auth: oauth2() });
      const event = await cluster.publish();
      await issuer.received(1);
      await cluster.first.call('POST', `/api/v1/webhooks/${id}/pause`);
      asked?.respond(200, {}, JSON.stringify({ access_token: 'late', token_type: 'bearer' }));
      await cluster.becomes(event, 'held');
      expect(receiver.requests).toEqual([]);
      await cluster.first.call('POST', `/api/v1/webhooks/${id}/resume`);
      await cluster.becomes(event, 'delivered');
      expect(tokens()).toEqual(['Bearer late']);
    });
  });
});

test('a receiver’s 413 for a single event is an answer like others: the policy decides', async () => {
  receiver.onRequest = (request) => request.respond(413);
  const policy = { max_attempts: 2, initial_delay_seconds: 0, max_delay_seconds: 0, jitter: 0 };
  await cluster.webhook({ url: receiver.url, retry_policy: policy });
  const delivery = await cluster.becomes(await cluster.publish(), 'dead');
  expect(delivery).toMatchObject({ attempt_count: 2, status_reason: 'attempts_used_up', response_status: 413 });
});

test('the largest event that is taken is delivered whole', async () => {
  await cluster.webhook({ url: receiver.url });
  const most = 1_048_576 - '{"text":""}'.length;
  await cluster.becomes(await cluster.publish({ data: { text: 'x'.repeat(most) } }), 'delivered');
  expect(JSON.parse(receiver.requests[0]?.body.toString() ?? '').data.text).toHaveLength(most);
  const body = { event_type: 'order.paid', data: { text: 'x'.repeat(most + 1) } };
  expect((await cluster.first.call('POST', '/api/v1/events', body)).status).toBe(413);
});

function btoaUtf8(text: string): string {
  return Buffer.from(text).toString('base64');
}
