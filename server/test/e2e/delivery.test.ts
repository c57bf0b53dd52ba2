import { Webhook } from 'standardwebhooks';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { createIdSource } from '../../src/kernel/ids.ts';
import { eventually } from '../../src/testing/eventually.ts';
import { startTestPosthorn, type TestPosthorn } from '../../src/testing/posthorn.ts';
import { type Receiver, startReceiver } from '../../src/testing/receiver.ts';
import { queryDatabase } from '../program/folder.ts';

let posthorn: TestPosthorn;
let receiver: Receiver;
beforeAll(async () => {
  posthorn = await startTestPosthorn();
});
afterAll(() => posthorn.stop());
beforeEach(async () => {
  receiver = await startReceiver();
  return async () => {
    for (const webhook of (await posthorn.call('GET', '/api/v1/webhooks')).body.data) {
      await posthorn.call('DELETE', `/api/v1/webhooks/${webhook.id}`);
    }
    await receiver.stop();
  };
});

const createWebhook = async (fields: object = {}) => {
  const answer = await posthorn.call('POST', '/api/v1/webhooks', {
    name: 'Test',
    url: receiver.url,
    events: ['*'],
    ...fields,
  });
  expect(answer.status).toBe(201);
  return answer.body;
};
const publish = async (fields: object = {}) => {
  const answer = await posthorn.call('POST', '/api/v1/events', { event_type: 'order.paid', data: { n: 1 }, ...fields });
  expect(answer.status).toBe(202);
  return answer.body;
};
const deliveryOf = async (eventId: string) =>
  (await posthorn.call('GET', `/api/v1/deliveries?event_id=${eventId}`)).body.data[0];
const deliveryIn = (eventId: string, status: string) =>
  eventually(
    () => deliveryOf(eventId),
    (delivery) => delivery?.status === status,
  );
const attemptsOf = async (deliveryId: string) =>
  (await posthorn.call('GET', `/api/v1/deliveries/${deliveryId}`)).body.attempts;

test('an event reaches every subscribed webhook, signed, and each attempt is on record', async () => {
  const webhook = await createWebhook();
  await createWebhook({ events: ['order.*'] });
  await createWebhook({ events: ['invoice.paid'] });
  const event = await publish({ data: { total: 12.5 } });
  expect(event).toMatchObject({ status: 'accepted', deliveries: 2, duplicate: false, event_type: 'order.paid' });

  const requests = await receiver.received(2);
  expect(requests).toHaveLength(2);
  const mine = requests.find(({ headers }) => {
    try {
      new Webhook(webhook.secret).verify(requests[0]?.body.toString() ?? '', headers as Record<string, string>);
      return true;
    } catch {
      return false;
    }
  });
  expect(mine?.headers).toMatchObject({
    'content-type': 'application/json',
    'user-agent': expect.stringMatching(/^Posthorn\/\d+\.\d+\.\d+$/),
    'x-webhook-event': 'order.paid',
    'x-webhook-attempt': '1',
    'webhook-id': event.id,
  });
  expect(JSON.parse(mine?.body.toString() ?? '')).toEqual({
    type: 'order.paid',
    timestamp: expect.any(String),
    data: { total: 12.5 },
  });

  await deliveryIn(event.id, 'delivered');
  const { body: shown } = await eventually(
    () => posthorn.call('GET', `/api/v1/events/${event.id}`),
    ({ body }) => body.deliveries.every((delivery: { status: string }) => delivery.status === 'delivered'),
  );
  expect(shown.deliveries).toHaveLength(2);
  const [attempt] = await attemptsOf(shown.deliveries[0].id);
  expect(attempt).toMatchObject({
    number: 1,
    trigger: 'scheduled',
    is_success: true,
    response_status: 200,
    error_class: null,
  });
  expect(attempt.request_body).toBe(mine?.body.toString());
});

test('data reaches the receiver with its key order, numbers, escapes, repeated and prototype keys as published', async () => {
  await createWebhook({ envelope: 'raw' });
  const data =
    '{"b":1.0,"a":12345678901234567890,"e":1e400,"u":"\\u2028\u2028","__proto__":{"x":1},"b":2,"constructor":null,"s":"\\ud83d"}';
  const answer = await posthorn.call('POST', '/api/v1/events', `{"event_type":"order.paid","data":${data}}`);
  expect(answer.status).toBe(202);
  const [request] = await receiver.received(1);
  expect(request?.body.toString()).toBe(data);
  const event = await posthorn.call('GET', `/api/v1/events/${answer.body.id}`);
  expect(event.text).toContain(`"data":${data}`);
});

test('attempts that fail are repeated as the policy says, numbered, and the last answer decides', async () => {
  await createWebhook({ retry_policy: { schedule_seconds: [0, 0], jitter: 0 } });
  receiver.onRequest = (request) => {
    if (receiver.requests.length === 1) request.reset();
    else request.respond(receiver.requests.length === 2 ? 503 : 204, { 'x-tries': `${receiver.requests.length}` }, '');
  };
  const event = await publish();
  const delivery = await deliveryIn(event.id, 'delivered');
  expect(delivery).toMatchObject({ attempt_count: 3, response_status: 204, next_attempt_at: null });
  const attempts = await attemptsOf(delivery.id);
  expect(attempts.map((attempt: { number: number }) => attempt.number)).toEqual([1, 2, 3]);
  expect(attempts[0]).toMatchObject({ error_class: 'reset', response_status: null, is_success: false });
  expect(attempts[1]).toMatchObject({ error_class: 'response', response_status: 503, is_success: false });
  expect(attempts[2]).toMatchObject({ error_class: null, response_status: 204, is_success: true });
  expect(attempts[2].response_headers['x-tries']).toBe('3');
  expect(new Set(receiver.requests.map(({ headers }) => headers['webhook-id']))).toEqual(new Set([event.id]));
});

test('a delivery whose attempts are used up is a dead letter, and a retry by hand takes it out again', async () => {
  const webhook = await createWebhook({ retry_count: 0 });
  receiver.onRequest = (request) => request.respond(500, {}, 'no');
  const event = await publish();
  const dead = await deliveryIn(event.id, 'dead');
  expect(dead).toMatchObject({ status_reason: 'attempts_used_up', attempt_count: 1 });
  const letters = () => posthorn.call('GET', `/api/v1/dead-letters?webhook_id=${webhook.id}`);
  expect((await letters()).body.data).toMatchObject([
    { delivery_id: dead.id, event_id: event.id, reason: 'attempts_used_up' },
  ]);

  receiver.onRequest = (request) => request.respond(200);
  const retry = await posthorn.call('POST', `/api/v1/deliveries/${dead.id}/retry`);
  expect(retry.status).toBe(202);
  const delivered = await deliveryIn(event.id, 'delivered');
  expect(delivered.attempt_count).toBe(2);
  expect((await attemptsOf(dead.id))[1]).toMatchObject({ number: 2, trigger: 'manual' });
  expect((await letters()).body.data).toEqual([]);
  expect((await posthorn.call('POST', `/api/v1/deliveries/${dead.id}/retry`)).body.error.code).toBe(
    'already_delivered',
  );
});

test('410 disables the webhook, whose later events are kept and delivered when it is enabled again', async () => {
  const webhook = await createWebhook();
  receiver.onRequest = (request) => request.respond(410);
  const gone = await publish();
  await deliveryIn(gone.id, 'dead');
  const disabled = await eventually(
    async () => (await posthorn.call('GET', `/api/v1/webhooks/${webhook.id}`)).body,
    (shown) => shown.status === 'disabled',
  );
  expect(disabled).toMatchObject({ status_reason: 'gone', is_active: false });

  receiver.onRequest = (request) => request.respond(200);
  const kept = await publish();
  expect(await deliveryOf(kept.id)).toMatchObject({ status: 'held', next_attempt_at: null });
  expect((await posthorn.call('POST', `/api/v1/webhooks/${webhook.id}/enable`)).status).toBe(200);
  await deliveryIn(kept.id, 'delivered');
});

test('a paused webhook keeps its events, also those that wait for a retry', async () => {
  // It is paused long before the retry.
  const webhook = await createWebhook({ retry_policy: { schedule_seconds: [4], jitter: 0 } });
  receiver.onRequest = (request) => request.respond(500);
  const failing = await publish();
  await deliveryIn(failing.id, 'failed');
  await posthorn.call('POST', `/api/v1/webhooks/${webhook.id}/pause`);
  receiver.onRequest = (request) => request.respond(200);
  const paused = await publish();
  expect((await deliveryOf(paused.id)).status).toBe('held');
  await deliveryIn(failing.id, 'held');
  expect(receiver.requests).toHaveLength(1);
  await posthorn.call('POST', `/api/v1/webhooks/${webhook.id}/resume`);
  await deliveryIn(failing.id, 'delivered');
  await deliveryIn(paused.id, 'delivered');
});

test('redirects are not followed', async () => {
  await createWebhook({ retry_count: 0 });
  receiver.onRequest = (request) => request.respond(302, { location: `${receiver.url}/elsewhere` });
  const event = await publish();
  const dead = await deliveryIn(event.id, 'dead');
  expect(dead).toMatchObject({ response_status: 302, error_class: 'response' });
  expect(receiver.requests).toHaveLength(1);
});

test('Retry-After moves the next attempt, and no more than a day', async () => {
  await createWebhook({ retry_policy: { schedule_seconds: [1, 1], jitter: 0 } });
  receiver.onRequest = (request) => request.respond(429, { 'retry-after': '99999999' });
  const event = await publish();
  const failed = await deliveryIn(event.id, 'failed');
  const waitMs = Date.parse(failed.next_attempt_at) - Date.now();
  expect(waitMs).toBeGreaterThan(23.9 * 3_600_000);
  expect(waitMs).toBeLessThanOrEqual(24 * 3_600_000);
});

test('a receiver that does not answer within the timeout is a timed-out attempt', async () => {
  await createWebhook({ retry_count: 0, timeout_seconds: 1 });
  receiver.onRequest = () => {};
  const event = await publish();
  const dead = await deliveryIn(event.id, 'dead');
  expect(dead).toMatchObject({ error_class: 'timeout', response_status: null });
  expect(dead.response_time_ms).toBeGreaterThanOrEqual(1_000);
  expect(dead.response_time_ms).toBeLessThan(2_000);
});

test('of a long answer the first 64 KB are kept, and its status counts', async () => {
  await createWebhook();
  receiver.onRequest = (request) => request.respond(200, {}, 'x'.repeat(300_000));
  const event = await publish();
  const delivery = await deliveryIn(event.id, 'delivered');
  const [attempt] = await attemptsOf(delivery.id);
  expect(attempt.response_truncated).toBe(true);
  expect(attempt.response_body).toHaveLength(65_536);
});

test('a destination where nobody listens is an attempt of class connect', async () => {
  const gone = await startReceiver();
  await gone.stop();
  await createWebhook({ url: gone.url, retry_count: 0 });
  expect(await deliveryIn((await publish()).id, 'dead')).toMatchObject({
    error_class: 'connect',
    response_status: null,
  });
});

test('a secret header is sent as it is and recorded masked', async () => {
  await createWebhook({ headers: { Authorization: 'Bearer very-secret', 'X-Plain': 'shown' } });
  const event = await publish();
  const [request] = await receiver.received(1);
  expect(request?.headers).toMatchObject({ authorization: 'Bearer very-secret', 'x-plain': 'shown' });
  const delivery = await deliveryIn(event.id, 'delivered');
  const detail = await posthorn.call('GET', `/api/v1/deliveries/${delivery.id}`);
  expect(detail.text).not.toContain('very-secret');
  expect(detail.body.attempts[0].request_headers).toMatchObject({ authorization: '***', 'x-plain': 'shown' });
});

test('deliver_at is waited for', async () => {
  await createWebhook();
  const at = Date.now() + 3_000;
  const event = await publish({ deliver_at: new Date(at).toISOString() });
  expect(event.status).toBe('scheduled');
  expect(await deliveryOf(event.id)).toMatchObject({ status: 'pending', next_attempt_at: new Date(at).toISOString() });
  await receiver.received(1);
  expect(Date.now()).toBeGreaterThanOrEqual(at);
});

test('more than memory holds waits in its rows and is delivered all the same', async () => {
  const small = await startTestPosthorn({ maxQueued: 10, maxInFlight: 4 });
  try {
    await small.call('POST', '/api/v1/webhooks', { name: 'Small', url: receiver.url, events: ['*'] });
    const events = Array.from({ length: 300 }, (_, n) => ({ event_type: 'order.paid', data: { n } }));
    expect((await small.call('POST', '/api/v1/events/batch', { events })).status).toBe(202);
    const requests = await receiver.received(300);
    const seen = requests.map(({ body }) => JSON.parse(body.toString()).data.n);
    expect(new Set(seen).size).toBe(300);
    expect(seen).toHaveLength(300);
  } finally {
    await small.stop();
  }
});

test('a backlog of large payloads fills no more than the bytes that memory has for them, and is delivered all the same', async () => {
  const own = await startTestPosthorn();
  try {
    const { body: webhook } = await own.call('POST', '/api/v1/webhooks', {
      name: 'Large',
      url: receiver.url,
      events: ['*'],
    });
    await own.call('POST', `/api/v1/webhooks/${webhook.id}/pause`);
    const data = { text: 'x'.repeat(1_000_000) };
    expect((await own.call('POST', '/api/v1/events', { event_type: 'order.paid', data })).status).toBe(202);
    await copyTheEvent(own, 319);
    const held: (() => void)[] = [];
    receiver.onRequest = (request) => held.push(() => request.respond(200));
    await own.call('POST', `/api/v1/webhooks/${webhook.id}/resume`);
    const most = { bytes: 0 };
    const bytesInMemory = async () => {
      const { text } = await own.call('GET', '/metrics');
      const bytes = Number(/^posthorn_payload_bytes (\d+)$/m.exec(text)?.[1]);
      most.bytes = Math.max(most.bytes, bytes);
      return bytes;
    };
    await eventually(bytesInMemory, (bytes) => bytes > 64_000_000, 20_000);
    receiver.onRequest = (request) => request.respond(200);
    for (const answer of held) answer();
    await eventually(
      async () => ({ bytes: await bytesInMemory(), arrived: receiver.requests.length }),
      ({ bytes, arrived }) => arrived === 320 && bytes === 0,
      60_000,
    );
    // The bound, and one claim.
    expect(most.bytes).toBeLessThan((256 + 32) * 1024 * 1024);
    expect(new Set(receiver.requests.map(({ headers }) => headers['webhook-id'])).size).toBe(320);
  } finally {
    await own.stop();
  }
}, 90_000);

/** Adds so many copies of the only event and of its delivery. */
async function copyTheEvent({ database }: TestPosthorn, times: number): Promise<void> {
  const copies = `unnest('{${Array.from({ length: times }, createIdSource()).join()}}'::uuid[]) AS copy`;
  const event = 'tenant_id, environment_id, event_type, occurred_at, data, priority, delivery_count, is_test';
  const delivery =
    'tenant_id, environment_id, webhook_id, event_type, status, trigger, priority, attempt_count, due_at';
  await queryDatabase(
    database.connection,
    `INSERT INTO events (id, ${event}) SELECT copy, ${event} FROM events, ${copies};
     INSERT INTO deliveries (id, event_id, ${delivery}) SELECT copy, copy, ${delivery} FROM deliveries, ${copies}`,
  );
}

describe('a restart', () => {
  test('goes on with what waited, sends nothing twice, and leaves nothing behind', async () => {
    const own = await startTestPosthorn({ drainSeconds: 1 });
    try {
      await own.call('POST', '/api/v1/webhooks', {
        name: 'Slow',
        url: receiver.url,
        events: ['*'],
        max_concurrency: 1,
      });
      receiver.onRequest = (request) => {
        if (receiver.requests.length > 1) request.respond(200);
        else setImmediate(() => request.respond(200));
      };
      const events = Array.from({ length: 50 }, (_, n) => ({ event_type: 'order.paid', data: { n } }));
      await own.call('POST', '/api/v1/events/batch', { events });
      await receiver.received(1);
      await own.restart();
      const requests = await receiver.received(50);
      expect(new Set(requests.map(({ body }) => JSON.parse(body.toString()).data.n)).size).toBe(50);
      await eventually(
        async () => (await own.call('GET', '/api/v1/deliveries?limit=250')).body.data,
        (rows) => rows.every((row: { status: string }) => row.status === 'delivered'),
      );
      expect(requests).toHaveLength(50);
    } finally {
      await own.stop();
    }
  });
});

describe('POST /webhooks/{id}/test', () => {
  test('sends the sample of the type to a paused webhook too, and answers with the attempt', async () => {
    await posthorn.call('POST', '/api/v1/event-types', {
      name: 'probe.sent',
      group: 'probe',
      description: 'A probe.',
      sample: { probe: 1.0 },
    });
    const webhook = await createWebhook({ events: ['probe.sent'] });
    await posthorn.call('POST', `/api/v1/webhooks/${webhook.id}/pause`);
    const answer = await posthorn.call('POST', `/api/v1/webhooks/${webhook.id}/test`);
    expect(answer.status).toBe(200);
    expect(answer.body).toMatchObject({
      trigger: 'test',
      number: 1,
      is_success: true,
      event_type: 'probe.sent',
      response_status: 200,
    });
    expect(JSON.parse(receiver.requests[0]?.body.toString() ?? '').data).toEqual({ probe: 1 });
  });

  test('refuses a type that would not be a header', async () => {
    const webhook = await createWebhook();
    const body = { event_type: 'a\r\nX-Evil: 1', payload: {} };
    expect((await posthorn.call('POST', `/api/v1/webhooks/${webhook.id}/test`, body)).status).toBe(422);
    expect(receiver.requests).toEqual([]);
  });

  test('sends a given payload, and a failure is an answer too, never retried and no dead letter', async () => {
    const webhook = await createWebhook();
    receiver.onRequest = (request) => request.respond(500, {}, 'broken');
    const answer = await posthorn.call(
      'POST',
      `/api/v1/webhooks/${webhook.id}/test`,
      '{"event_type":"any.type","payload":{"n":1.50}}',
    );
    expect(answer.body).toMatchObject({
      is_success: false,
      response_status: 500,
      response_body: 'broken',
      error_class: 'response',
    });
    expect(answer.body.request_body).toContain('"data":{"n":1.50}');
    expect(await deliveryOf(answer.body.event_id)).toMatchObject({ status: 'dead', status_reason: 'test' });
    expect((await posthorn.call('GET', `/api/v1/dead-letters?webhook_id=${webhook.id}`)).body.data).toEqual([]);
  });
});
