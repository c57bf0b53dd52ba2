import { Webhook } from 'standardwebhooks';
import { describe, expect, test } from 'vitest';
import { eventually } from '../../src/testing/eventually.ts';
import { type ReceivedRequest, startReceiver } from '../../src/testing/receiver.ts';
import { posthorn, receiver, slug, tenant, testDocument } from './document-fixture.ts';
import { openTenant } from './document-tenant.ts';

/** What whatsapp-crm.md says beyond its events: its table of endpoints and the features it lists. */
testDocument('whatsapp-crm');

const typeOf = ({ headers }: ReceivedRequest) => headers['x-webhook-event'];
const bodyOf = (request: ReceivedRequest | undefined) => JSON.parse(request?.body.toString() ?? '');

describe('POST /api/v1/webhooks', () => {
  test('takes and answers with every field of the `webhooks` table', async () => {
    const fields = {
      name: 'CRM sync',
      url: `${receiver.url}/hook`,
      events: ['message.new', 'contact.created'],
      secret: 'a custom secret',
      retry_count: 3,
      timeout_seconds: 30,
      is_active: true,
    };
    const answer = await tenant.call('POST', '/api/v1/webhooks', fields);
    expect(answer.status).toBe(201);
    expect(answer.body).toMatchObject({
      ...fields,
      id: expect.stringMatching(/^whk_/),
      tenant_id: expect.stringMatching(/^tnt_/),
      status: 'active',
      total_deliveries: 0,
      successful_deliveries: 0,
      failed_deliveries: 0,
      last_triggered_at: null,
      created_at: expect.any(String),
      updated_at: expect.any(String),
    });
  });

  test('generates a secret where none is given, each another, shows it once, and signs with it', async () => {
    const { id, secret } = await tenant.createWebhook(receiver.url);
    expect(secret).toMatch(/^whsec_[A-Za-z0-9+/]{43}=$/);
    expect((await tenant.createWebhook(receiver.url, { events: ['flow.*'] })).secret).not.toBe(secret);
    expect((await tenant.call('GET', `/api/v1/webhooks/${id}`)).text).not.toContain(secret);
    expect((await tenant.call('GET', `/api/v1/webhooks/${id}/secret`)).body).toMatchObject({ secret });
    await tenant.publish({ event_type: 'message.new', data: {} });
    const [request] = (await receiver.received(1)) as [ReceivedRequest];
    const verify = (key: string) =>
      new Webhook(key).verify(request.body.toString(), request.headers as Record<string, string>);
    expect(verify(secret)).toMatchObject({ event: 'message.new' });
    expect(() => verify(`whsec_${Buffer.alloc(32).toString('base64')}`)).toThrow();
  });

  test.each([
    [['message.unknown'], 'events.0'],
    [['message.new', 'message.nwe'], 'events.1'],
    [['order.*'], 'events.0'],
    [[], 'events'],
  ])('refuses the events %j and says which', async (events, path) => {
    const answer = await tenant.call('POST', '/api/v1/webhooks', { name: 'Hook', url: receiver.url, events });
    expect(answer.status).toBe(422);
    expect(answer.body.error.details.fields).toMatchObject([{ path }]);
  });
});

test('the wildcard brings all 22 events, a list only its own', async () => {
  const all = await tenant.createWebhook(`${receiver.url}/all`, { events: ['*'] });
  expect(all.events).toEqual(['*']);
  await tenant.createWebhook(`${receiver.url}/some`, { events: ['message.read', 'template.rejected'] });
  const { data } = (await tenant.call('GET', '/api/v1/webhooks/events')).body;
  for (const { name, sample } of data) await tenant.publish({ event_type: name, data: sample });
  const requests = await receiver.received(24);
  const typesAt = (path: string) =>
    requests
      .filter((each) => each.path === path)
      .map(typeOf)
      .sort();
  expect(typesAt('/all')).toEqual(data.map(({ name }: { name: string }) => name));
  expect(typesAt('/some')).toEqual(['message.read', 'template.rejected']);
});

test('an event is received within 2 seconds', async () => {
  await tenant.createWebhook(receiver.url);
  const publishedAt = performance.now();
  await tenant.publish({ event_type: 'message.new', data: {} });
  await receiver.received(1);
  expect(performance.now() - publishedAt).toBeLessThan(2_000);
});

test('a publish is answered while no receiver has answered, and a webhook that hangs holds up no other', async () => {
  const hanging = await startReceiver();
  hanging.onRequest = () => {};
  await tenant.createWebhook(hanging.url);
  const { id } = await tenant.createWebhook(receiver.url);
  const events = await Promise.all([1, 2, 3].map((n) => tenant.publish({ event_type: 'message.new', data: { n } })));
  for (const event of events) {
    expect(event).toMatchObject({ status: 'accepted', deliveries: 2 });
    await tenant.delivery(event.id, id, 'delivered');
  }
  await hanging.received(3);
  const open = await tenant.call('GET', '/api/v1/deliveries?status=pending');
  expect(open.body.data).toHaveLength(3);
  await hanging.stop();
});

test('retries wait for 1, 2, 4 and 8 seconds where a webhook has four', async () => {
  // Answered by hand, so that no attempt runs ahead of this test.
  receiver.onRequest = () => {};
  const { id } = await tenant.createWebhook(receiver.url, { retry_count: 4 });
  const event = await tenant.publish({ event_type: 'message.new', data: {} });
  for (const [at, wait] of [1, 2, 4, 8].entries()) {
    (await receiver.received(at + 1))[at]?.respond(500);
    const answeredAt = Date.now();
    const failed = await eventually(
      async () => (await tenant.call('GET', `/api/v1/deliveries?event_id=${event.id}`)).body.data[0],
      (row) => row?.attempt_count === at + 1 && row.status === 'failed',
    );
    const due = Date.parse(failed.next_attempt_at);
    expect(due).toBeGreaterThanOrEqual(answeredAt + wait * 1_000 - 5);
    expect(due).toBeLessThanOrEqual(Date.now() + wait * 1_100);
    await tenant.call('POST', `/api/v1/deliveries/${failed.id}/retry`);
  }
  (await receiver.received(5))[4]?.respond(500);
  expect(await tenant.delivery(event.id, id, 'dead')).toMatchObject({ attempt_count: 5 });
});

describe('PATCH /api/v1/webhooks/{id}', () => {
  test('changes what it names and leaves the rest', async () => {
    const { id, secret: _, ...before } = await tenant.createWebhook(receiver.url, { retry_count: 5 });
    const change = { name: 'Renamed', retry_count: 1, timeout_seconds: 10, events: ['message.*'] };
    const answer = await tenant.call('PATCH', `/api/v1/webhooks/${id}`, change);
    expect(answer.status).toBe(200);
    const retry_policy = { ...before.retry_policy, max_attempts: 2 };
    expect(answer.body).toEqual({ ...before, id, ...change, retry_policy, updated_at: expect.any(String) });
    expect((await tenant.call('GET', `/api/v1/webhooks/${id}`)).body).toEqual(answer.body);
  });

  test('with is_active false stops deliveries and keeps the events; with true they follow', async () => {
    const { id } = await tenant.createWebhook(receiver.url);
    const off = await tenant.call('PATCH', `/api/v1/webhooks/${id}`, { is_active: false });
    expect(off.body).toMatchObject({ is_active: false, status: 'disabled' });
    const event = await tenant.publish({ event_type: 'message.new', data: {} });
    await tenant.delivery(event.id, id, 'held');
    await tenant.call('PATCH', `/api/v1/webhooks/${id}`, { is_active: true });
    await tenant.delivery(event.id, id, 'delivered');
    expect(receiver.requests).toHaveLength(1);
  });

  test('with retry_count 0 makes the first failure the last', async () => {
    receiver.onRequest = (request) => request.respond(500);
    const { id } = await tenant.createWebhook(receiver.url);
    await tenant.call('PATCH', `/api/v1/webhooks/${id}`, { retry_count: 0 });
    const event = await tenant.publish({ event_type: 'message.failed', data: {} });
    expect(await tenant.delivery(event.id, id, 'dead')).toMatchObject({ attempt_count: 1 });
  });

  test('with timeout_seconds 1 gives up on a receiver after a second', async () => {
    receiver.onRequest = () => {};
    const { id } = await tenant.createWebhook(receiver.url);
    await tenant.call('PATCH', `/api/v1/webhooks/${id}`, { timeout_seconds: 1 });
    const { body } = await tenant.call('POST', `/api/v1/webhooks/${id}/test`);
    expect(body).toMatchObject({ is_success: false, error_class: 'timeout', response_status: null });
    expect(body.response_time_ms).toBeGreaterThanOrEqual(1_000);
    expect(body.response_time_ms).toBeLessThan(3_000);
  });
});

test('GET lists webhooks, newest first, and DELETE takes one out', async () => {
  const first = await tenant.createWebhook(receiver.url, { name: 'First' });
  const second = await tenant.createWebhook(receiver.url, { name: 'Second' });
  const listed = async () =>
    (await tenant.call('GET', '/api/v1/webhooks')).body.data.map(({ name }: { name: string }) => name);
  expect(await listed()).toEqual(['Second', 'First']);
  expect((await tenant.call('DELETE', `/api/v1/webhooks/${second.id}`)).status).toBe(204);
  expect(await listed()).toEqual(['First']);
  await tenant.publish({ event_type: 'message.new', data: {} });
  await receiver.received(1);
  expect((await tenant.call('GET', '/api/v1/webhooks/deliveries')).body.data).toMatchObject([{ webhook_id: first.id }]);
});

describe('POST /api/v1/webhooks/{id}/test', () => {
  test('sends the sample of the event that it names', async () => {
    const { id } = await tenant.createWebhook(receiver.url, { events: ['message.new'] });
    const { sample } = (await tenant.call('GET', '/api/v1/webhooks/events/campaign.completed')).body;
    const answer = await tenant.call('POST', `/api/v1/webhooks/${id}/test`, { event_type: 'campaign.completed' });
    expect(answer.body).toMatchObject({ is_success: true, event_type: 'campaign.completed' });
    expect(bodyOf(receiver.requests[0])).toMatchObject({ event: 'campaign.completed', data: sample });
  });

  test('sends a custom payload in place of the sample, also without naming an event', async () => {
    const { id } = await tenant.createWebhook(receiver.url, { events: ['message.new'] });
    const path = `/api/v1/webhooks/${id}/test`;
    const payload = { message: { id: 'custom', text: 'ß 😀', n: 1.5 } };
    expect((await tenant.call('POST', path, { event_type: 'message.read', payload })).body.is_success).toBe(true);
    expect((await tenant.call('POST', path, { payload })).body.is_success).toBe(true);
    expect(receiver.requests.map(bodyOf)).toMatchObject([
      { event: 'message.read', data: payload },
      { event: 'message.new', data: payload },
    ]);
  });

  test('refuses an event that does not exist and sends nothing', async () => {
    const { id } = await tenant.createWebhook(receiver.url);
    const answer = await tenant.call('POST', `/api/v1/webhooks/${id}/test`, { event_type: 'message.nwe' });
    expect(answer.status).toBe(422);
    expect(answer.body.error.details.fields).toMatchObject([{ path: 'event_type' }]);
    expect(receiver.requests).toEqual([]);
  });
});

/** A webhook after one delivery of two attempts and one that used up its attempts. */
async function withHistory() {
  receiver.onRequest = (request) => {
    const failed = typeOf(request) === 'message.failed' || request.headers['x-webhook-attempt'] === '1';
    if (failed) request.respond(503, {}, 'try later');
    else request.respond(200, {}, 'thanks');
  };
  const { id } = await tenant.createWebhook(receiver.url, { retry_policy: { schedule_seconds: [0], jitter: 0 } });
  const delivered = await tenant.publish({ event_type: 'message.sent', data: { n: 1 } });
  await tenant.delivery(delivered.id, id, 'delivered');
  const dead = await tenant.publish({ event_type: 'message.failed', data: { n: 2 } });
  await tenant.delivery(dead.id, id, 'dead');
  return { id, delivered, dead };
}

describe('GET /api/v1/webhooks/{id}/logs', () => {
  test('has a row for every attempt with what the `webhook_logs` table keeps of it', async () => {
    const { id, delivered, dead } = await withHistory();
    const { data } = (await tenant.call('GET', `/api/v1/webhooks/${id}/logs`)).body;
    const row = (event: { id: string; event_type: string }, number: number, is_success: boolean) => ({
      id: expect.stringMatching(/^att_/),
      tenant_id: expect.stringMatching(/^tnt_/),
      webhook_id: id,
      event_id: event.id,
      event_type: event.event_type,
      number,
      attempt_count: number,
      is_success,
      response_status: is_success ? 200 : 503,
      response_body: is_success ? 'thanks' : 'try later',
      response_time_ms: expect.any(Number),
      error_message: is_success ? null : expect.stringContaining('503'),
    });
    expect(data).toMatchObject([
      row(dead, 2, false),
      row(dead, 1, false),
      row(delivered, 2, true),
      row(delivered, 1, false),
    ]);
    const sent = receiver.requests.map(({ body }) => body.toString()).reverse();
    expect(data.map(({ request_body }: { request_body: string }) => request_body)).toEqual(sent);
    expect(data.map(({ payload }: { payload: string }) => payload)).toEqual(sent);
  });

  test('are filtered by success_only and paged', async () => {
    const { id, delivered } = await withHistory();
    const logs = async (query: string) => (await tenant.call('GET', `/api/v1/webhooks/${id}/logs?${query}`)).body;
    expect((await logs('success_only=true')).data).toMatchObject([{ event_id: delivered.id, number: 2 }]);
    const first = await logs('limit=3');
    expect(first).toMatchObject({ has_more: true, next_cursor: expect.any(String) });
    const second = await logs(`limit=3&cursor=${first.next_cursor}`);
    expect(second).toMatchObject({ has_more: false, next_cursor: null });
    expect([...first.data, ...second.data]).toEqual((await logs('')).data);
  });
});

test('GET /api/v1/webhooks/{id}/stats has success rate, average response time, counts and the last time', async () => {
  const { id } = await tenant.createWebhook(receiver.url, { events: ['flow.*'] });
  const stats = async (webhookId: string) => (await tenant.call('GET', `/api/v1/webhooks/${webhookId}/stats`)).body;
  expect(await stats(id)).toMatchObject({
    total_deliveries: 0,
    success_rate: null,
    average_response_time_ms: null,
    last_triggered_at: null,
  });

  const history = await withHistory();
  const logs = (await tenant.call('GET', `/api/v1/webhooks/${history.id}/logs`)).body.data;
  const sum = logs.reduce((total: number, row: { response_time_ms: number }) => total + row.response_time_ms, 0);
  const shown = await stats(history.id);
  expect(shown).toEqual({
    webhook_id: history.id,
    total_deliveries: 2,
    filtered_deliveries: 0,
    successful_deliveries: 1,
    failed_deliveries: 1,
    waiting_deliveries: 0,
    success_rate: 50,
    total_attempts: 4,
    failed_attempts: 3,
    average_response_time_ms: Math.round(sum / 4),
    last_triggered_at: expect.any(String),
    period: expect.objectContaining({ total_deliveries: 2, success_rate: 50, total_attempts: 4, failed_attempts: 3 }),
  });
  expect(Math.abs(Date.parse(shown.last_triggered_at) - Date.parse(logs[0].created_at))).toBeLessThan(1_000);
  // The webhook itself shows the same counts.
  const webhook = await eventually(
    async () => (await tenant.call('GET', `/api/v1/webhooks/${history.id}`)).body,
    (body) => body.total_deliveries === 2,
  );
  const { successful_deliveries, failed_deliveries, last_triggered_at } = shown;
  expect(webhook).toMatchObject({ successful_deliveries, failed_deliveries, last_triggered_at });
});

test('another tenant finds none of it on any path of the table', async () => {
  const { id } = await withHistory();
  const other = await openTenant(posthorn, `${slug}-other`, 'whatsapp-crm');
  for (const [method, path, body] of [
    ['GET', '', undefined],
    ['PATCH', '', { name: 'Mine' }],
    ['DELETE', '', undefined],
    ['POST', '/test', {}],
    ['GET', '/logs', undefined],
    ['GET', '/stats', undefined],
    ['GET', '/secret', undefined],
  ] as const) {
    const unknown = await other.call(method, `/api/v1/webhooks/whk_01h455vb4pex5vsknk084sn02q${path}`, body);
    const foreign = await other.call(method, `/api/v1/webhooks/${id}${path}`, body);
    expect(foreign.status, `${method} ${path}`).toBe(404);
    expect(foreign.body.error.message).toBe(unknown.body.error.message);
  }
  expect((await other.call('GET', '/api/v1/webhooks')).body.data).toEqual([]);
  expect((await other.call('GET', '/api/v1/webhooks/deliveries')).body.data).toEqual([]);
  expect(await other.publish({ event_type: 'message.new', data: {} })).toMatchObject({ deliveries: 0 });
  expect((await tenant.call('GET', `/api/v1/webhooks/${id}`)).body.name).toBe('Webhook');
});
