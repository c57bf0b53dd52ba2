import { describe, expect, test } from 'vitest';
import { signToken } from '../../src/access/jwt/token-fixture.ts';
import { posthorn, receiver, slug, tenant, testDocument } from './document-fixture.ts';
import { hasCurl, runCurl } from './printed-code.ts';

/** What isp-framework.md says beyond its events: its example commands, its two tables of paths, its payload. */
testDocument('isp-framework');

/** "Test specific webhook", as printed, with this token. */
const register = (token: string) =>
  runCurl('isp-framework.manual.sh', '/api/v1/webhooks', {
    'http://localhost:8000': posthorn.url,
    YOUR_TOKEN: token,
    'https://your-webhook-endpoint.com/webhook': `${receiver.url}/webhook`,
  });

const PRINTED_CUSTOMER = { id: 123, portal_id: '100123', full_name: 'John Doe', email: 'john@example.com' };

const registration = () => ({
  name: 'My Webhook',
  url: `${receiver.url}/webhook`,
  secret: 'your-secret-key',
  events: ['customer.created', 'invoice.paid'],
  is_active: true,
});

test.runIf(hasCurl)('the printed curl command registers with a JWT what its role may register', async () => {
  const secret = 'the secret of the framework’s own login';
  const issuer = `https://${slug}.example`;
  const framework = { name: 'ISP Framework', issuer, audience: 'posthorn', secret, tenant: slug };
  const roles = { admin_user: 'developer', support: 'viewer' };
  const made = await posthorn.call('POST', '/api/v1/jwt-issuers', { ...framework, roles });
  expect(made.status, made.text).toBe(201);
  const registerAs = (claims: object, withSecret = secret) => {
    const exp = Math.floor(Date.now() / 1000) + 600;
    return register(signToken({ iss: issuer, aud: 'posthorn', sub: 'admin_user', exp, ...claims }, withSecret));
  };
  expect(await registerAs({ role: 'admin_user' })).toMatchObject({
    ...registration(),
    id: expect.stringMatching(/^whk_/),
  });
  expect((await registerAs({ role: 'support' })).error.code).toBe('forbidden');
  expect((await registerAs({ role: 'nobody' })).error.code).toBe('unauthorized');
  expect((await registerAs({ role: 'admin_user' }, `${secret}!`)).error.code).toBe('unauthorized');
  expect((await tenant.call('GET', '/api/v1/webhooks')).body.data).toHaveLength(1);
});

test.runIf(hasCurl)('the printed curl command registers a webhook that gets its two events and no other', async () => {
  const webhook = await register(tenant.key);
  expect(webhook).toMatchObject({ ...registration(), id: expect.stringMatching(/^whk_/) });

  expect(await tenant.publish({ event_type: 'customer.updated', data: PRINTED_CUSTOMER })).toMatchObject({
    status: 'no_subscribers',
    deliveries: 0,
  });
  await tenant.publish({ event_type: 'customer.created', data: PRINTED_CUSTOMER });
  await tenant.publish({ event_type: 'invoice.paid', data: { id: 7 } });
  const requests = await receiver.received(2);
  expect(requests.map(({ path }) => path)).toEqual(['/webhook', '/webhook']);
  expect(requests.map(({ headers }) => headers['x-webhook-event']).sort()).toEqual([
    'customer.created',
    'invoice.paid',
  ]);
});

test('the printed payload is delivered with its four members, the event id and the count of retries', async () => {
  await tenant.createWebhook(receiver.url);
  const metadata = { triggered_by: 'admin_user', source: 'admin_portal' };
  const timestamp = '2024-01-15T10:30:00Z';
  const event = { event_type: 'customer.created', timestamp, data: PRINTED_CUSTOMER, metadata };
  const { id } = await tenant.publish(event);
  const [request] = await receiver.received(1);
  expect(JSON.parse(request?.body.toString() ?? '')).toEqual({
    ...event,
    timestamp: '2024-01-15T10:30:00.000Z',
    event_id: id,
    metadata: { ...metadata, retry_count: 0 },
  });
});

describe('webhook management', () => {
  const create = async () => {
    const answer = await tenant.call('POST', '/api/v1/webhooks', registration());
    expect(answer.status).toBe(201);
    return answer.body;
  };

  test('GET /api/v1/webhooks lists the webhooks and GET /{id} shows one, without its secret', async () => {
    const { secret, ...webhook } = await create();
    const list = await tenant.call('GET', '/api/v1/webhooks');
    expect(list.body).toEqual({ data: [webhook], next_cursor: null, has_more: false });
    const one = await tenant.call('GET', `/api/v1/webhooks/${webhook.id}`);
    expect(one.body).toEqual(webhook);
    expect(one.text).not.toContain(secret);
  });

  test('PUT /api/v1/webhooks/{id} changes what it names, for the next event', async () => {
    const webhook = await create();
    const answer = await tenant.call('PUT', `/api/v1/webhooks/${webhook.id}`, { events: ['ticket.*'] });
    expect(answer.status).toBe(200);
    expect(answer.body).toMatchObject({ name: 'My Webhook', events: ['ticket.*'], is_active: true });
    expect(await tenant.publish({ event_type: 'customer.created', data: PRINTED_CUSTOMER })).toMatchObject({
      deliveries: 0,
    });
    expect(await tenant.publish({ event_type: 'ticket.assigned', data: { id: 1 } })).toMatchObject({ deliveries: 1 });
  });

  test('DELETE /api/v1/webhooks/{id} ends it: 204, then 404, and nothing is sent to it', async () => {
    const { id } = await create();
    expect((await tenant.call('DELETE', `/api/v1/webhooks/${id}`)).status).toBe(204);
    for (const [method, path] of [
      ['GET', ''],
      ['PUT', ''],
      ['DELETE', ''],
      ['POST', '/test'],
      ['GET', '/deliveries'],
    ] as const) {
      const body = method === 'GET' || method === 'DELETE' ? undefined : {};
      expect((await tenant.call(method, `/api/v1/webhooks/${id}${path}`, body)).status, `${method} ${path}`).toBe(404);
    }
    expect(await tenant.publish({ event_type: 'invoice.paid', data: {} })).toMatchObject({ deliveries: 0 });
  });

  test('POST /api/v1/webhooks/{id}/test without a body sends the sample of the first event', async () => {
    const { id } = await create();
    const answer = await tenant.call('POST', `/api/v1/webhooks/${id}/test`);
    expect(answer.body).toMatchObject({ is_success: true, event_type: 'customer.created', response_status: 200 });
    const sample = (await tenant.call('GET', '/api/v1/webhooks/events/customer.created')).body.sample;
    expect(JSON.parse(receiver.requests[0]?.body.toString() ?? '')).toMatchObject({ data: sample });
  });

  test('GET /api/v1/webhooks/{id}/deliveries shows the history of one webhook, /webhooks/deliveries that of all', async () => {
    const first = await create();
    const second = await create();
    const ids: string[] = [];
    for (const n of [1, 2]) ids.push((await tenant.publish({ event_type: 'invoice.paid', data: { id: n } })).id);
    for (const id of ids) {
      for (const webhook of [first, second]) await tenant.delivery(id, webhook.id, 'delivered');
    }
    const own = (await tenant.call('GET', `/api/v1/webhooks/${first.id}/deliveries`)).body.data;
    expect(own).toMatchObject(
      [...ids].reverse().map((event_id) => ({
        event_id,
        webhook_id: first.id,
        event_type: 'invoice.paid',
        status: 'delivered',
        attempt_count: 1,
        response_status: 200,
        response_time_ms: expect.any(Number),
        error_message: null,
      })),
    );
    const all = (await tenant.call('GET', '/api/v1/webhooks/deliveries')).body.data;
    expect(all).toHaveLength(4);
    expect(all).toEqual(expect.arrayContaining(own));
  });
});

test('GET /api/v1/webhooks/events names 25 events, and /events/{type} is 404 for any other', async () => {
  const { body } = await tenant.call('GET', '/api/v1/webhooks/events');
  expect(body.data).toHaveLength(25);
  for (const type of ['customer.vanished', '__proto__', '%00', 'customer.created%27']) {
    expect((await tenant.call('GET', `/api/v1/webhooks/events/${type}`)).status, type).toBe(404);
  }
});

describe('security', () => {
  test('registering needs a token whose role may do it', async () => {
    const body = registration();
    const register = (headers: Record<string, string>) => tenant.call('POST', '/api/v1/webhooks', body, headers);
    for (const authorization of ['', 'Bearer YOUR_TOKEN', 'Basic eDp5']) {
      expect((await register({ authorization })).status, authorization).toBe(401);
    }
    for (const role of ['viewer', 'publisher']) {
      const scope = { 'x-tenant-id': slug };
      const made = await posthorn.call('POST', '/api/v1/api-keys', { name: role, role }, scope);
      expect((await register({ authorization: `Bearer ${made.body.key}` })).status, role).toBe(403);
    }
    expect((await tenant.call('GET', '/api/v1/webhooks')).body.data).toEqual([]);
  });

  test('a webhook on the internet must be https', async () => {
    const answer = await tenant.call('POST', '/api/v1/webhooks', { ...registration(), url: 'http://203.0.113.9/hook' });
    expect(answer.status).toBe(422);
    expect(answer.body.error.details.fields).toMatchObject([{ path: 'url' }]);
  });

  test('records of attempts hold request and response, with credentials masked', async () => {
    receiver.onRequest = (request) => request.respond(500, { 'x-trace': 'abc' }, 'out of order');
    const headers = { Authorization: 'Bearer very-secret', 'X-Plain': 'shown' };
    const { id } = await tenant.createWebhook(receiver.url, { headers, secret: 'your-secret-key' });
    const { body, text } = await tenant.call('POST', `/api/v1/webhooks/${id}/test`);
    const { filters_match, ...attempt } = body;
    expect(filters_match).toBe(true);
    expect(attempt).toMatchObject({
      is_success: false,
      error_class: 'response',
      error_message: expect.any(String),
      request_headers: { authorization: '***', 'x-plain': 'shown', 'x-webhook-event': expect.any(String) },
      response_status: 500,
      response_headers: { 'x-trace': 'abc' },
      response_body: 'out of order',
    });
    expect(receiver.requests[0]?.headers.authorization).toBe('Bearer very-secret');
    const logs = await tenant.call('GET', `/api/v1/webhooks/${id}/logs`);
    const { filters_match: _, ...recorded } = attempt;
    expect(logs.body.data).toEqual([recorded]);
    for (const shown of [text, logs.text]) {
      expect(shown).not.toContain('very-secret');
      expect(shown).not.toContain('your-secret-key');
    }
  });
});
