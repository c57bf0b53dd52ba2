import { gunzipSync } from 'node:zlib';
import { Webhook } from 'standardwebhooks';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { eventually } from '../../src/testing/eventually.ts';
import { type ReceivedRequest, type Receiver, startReceiver } from '../../src/testing/receiver.ts';
import { type Cluster, startCluster } from './cluster.ts';

let cluster: Cluster;
let receiver: Receiver;
beforeEach(async () => {
  receiver = await startReceiver();
});
afterEach(async () => {
  await cluster.stop();
  await receiver.stop();
});

const batching = (fields: object = {}) => ({ enabled: true, max_events: 5, max_wait_ms: 60_000, ...fields });
const numbered = (count: number, fields: (n: number) => object = () => ({})) =>
  Array.from({ length: count }, (_, n) => ({ data: { n }, ...fields(n) }));
const elements = ({ body }: ReceivedRequest) => JSON.parse(body.toString());
/** The `n` of each event of each request. */
const arrived = () =>
  receiver.requests.map((request) => elements(request).map((each: { data: { n: number } }) => each.data.n));
const sizes = () => receiver.requests.map((request) => elements(request).length);
const AT_ONCE = { initial_delay_seconds: 0, max_delay_seconds: 0, jitter: 0 };
const deliveries = async () => (await cluster.first.call('GET', '/api/v1/deliveries?limit=250')).body.data;
const attemptsOf = async (id: string) => (await cluster.first.call('GET', `/api/v1/deliveries/${id}`)).body.attempts;

describe('a batch goes', () => {
  test('when it has as many events as it may have, in the order of their publishing', async () => {
    cluster = await startCluster(1);
    await cluster.webhook({ url: receiver.url, batching: batching() });
    await cluster.publishAll(numbered(10));
    await cluster.allBecome('delivered');
    expect(arrived().toSorted((a, b) => a[0] - b[0])).toEqual([
      [0, 1, 2, 3, 4],
      [5, 6, 7, 8, 9],
    ]);
  });

  test('when the first of it has waited for as long as it may', async () => {
    cluster = await startCluster(1);
    await cluster.webhook({ url: receiver.url, batching: batching({ max_wait_ms: 300 }) });
    const published = performance.now();
    await cluster.publishAll(numbered(3));
    await receiver.received(1);
    expect(performance.now() - published).toBeGreaterThan(290);
    await cluster.allBecome('delivered');
    expect(arrived()).toEqual([[0, 1, 2]]);
  });

  test('when its body has as many bytes as it may have, and no body has more', async () => {
    cluster = await startCluster(1);
    const options = batching({ max_events: 100, max_bytes: 4_096, max_wait_ms: 200 });
    await cluster.webhook({ url: receiver.url, batching: options });
    await cluster.publishAll(numbered(40, (n) => ({ data: { n, text: 'x'.repeat(900) } })));
    await cluster.allBecome('delivered');
    for (const { body } of receiver.requests) expect(body.length).toBeLessThanOrEqual(4_096);
    expect(Math.max(...sizes())).toBe(4);
    expect(
      arrived()
        .flat()
        .toSorted((a, b) => a - b),
    ).toEqual(numbered(40).map(({ data }) => data.n));
  });

  test('with one event alone that is larger by itself', async () => {
    cluster = await startCluster(1);
    const options = batching({ max_bytes: 1_024, max_wait_ms: 0 });
    await cluster.webhook({ url: receiver.url, batching: options, max_concurrency: 1 });
    await cluster.publishAll(numbered(5, (n) => ({ data: { n, text: 'x'.repeat(n === 2 ? 5_000 : 1) } })));
    await cluster.allBecome('delivered');
    const [large] = receiver.requests.filter(({ body }) => body.length > 1_024);
    expect(elements(large as ReceivedRequest)).toHaveLength(1);
    expect(arrived().flat().toSorted()).toEqual([0, 1, 2, 3, 4]);
  });
});

test('it is one signed JSON array, says what is in it, and each delivery has its own record', async () => {
  cluster = await startCluster(1);
  const webhook = await cluster.webhook({
    url: receiver.url,
    envelope: 'event_type',
    compression: 'gzip',
    batching: batching({ max_events: 3 }),
    signature_method: 'hmac_sha256_hex',
  });
  receiver.onRequest = (request) => request.respond(200, {}, 'what a receiver says of all of them');
  await cluster.publishAll(numbered(3, (n) => ({ event_type: n === 1 ? 'order.sent' : 'order.paid' })));
  await cluster.allBecome('delivered');
  expect(receiver.requests).toHaveLength(1);
  const [{ headers, body }] = receiver.requests as [ReceivedRequest];
  const text = gunzipSync(body).toString();
  expect(() => new Webhook(webhook.secret).verify(text, headers as Record<string, string>)).not.toThrow();
  const events = JSON.parse(text);
  expect(events.map((each: { event_type: string }) => each.event_type)).toEqual([
    'order.paid',
    'order.sent',
    'order.paid',
  ]);
  const rows = (await deliveries()).toReversed();
  const ids = events.map((each: { event_id: string }) => each.event_id);
  expect(headers).toMatchObject({
    'x-webhook-event': 'batch',
    'x-webhook-attempt': '1',
    'x-webhook-batch-size': '3',
    'x-webhook-event-ids': ids.join(','),
    'x-webhook-delivery': rows.map(({ id }: { id: string }) => id).join(','),
    'webhook-id': expect.stringMatching(/^batch_[0-9a-f]{32}$/),
  });
  for (const [at, row] of rows.entries()) {
    const [attempt, ...more] = await attemptsOf(row.id);
    expect(more).toEqual([]);
    expect(row.attempt_count).toBe(1);
    expect(JSON.parse(attempt.request_body)).toEqual(events[at]);
    expect(attempt).toMatchObject({
      request_truncated: true,
      // What it says may repeat the other events, which are masked and erased apart.
      response_body: null,
      response_truncated: true,
      request_headers: {
        'x-webhook-delivery': row.id,
        'x-webhook-event': row.event_type,
        'x-webhook-batch-size': '3',
        'webhook-id': headers['webhook-id'],
      },
    });
  }
});

test('a batch of one is an array as well, under the event’s own id', async () => {
  cluster = await startCluster(1);
  const { id } = await cluster.webhook({ url: receiver.url, batching: batching({ max_wait_ms: 0 }) });
  const event = await cluster.publish({ data: { n: 1 } });
  await cluster.allBecome('delivered');
  const [request] = receiver.requests;
  expect(elements(request as ReceivedRequest)).toMatchObject([{ type: 'order.paid', data: { n: 1 } }]);
  expect(request?.headers).toMatchObject({ 'webhook-id': event, 'x-webhook-batch-size': '1' });
  // And so is a test.
  const tested = await cluster.first.call('POST', `/api/v1/webhooks/${id}/test`, { payload: { n: 7 } });
  expect(tested.body.is_success).toBe(true);
  expect(arrived()).toEqual([[1], [7]]);
});

test('CloudEvents have a media type for batches', async () => {
  cluster = await startCluster(1);
  await cluster.webhook({ url: receiver.url, envelope: 'cloudevents', batching: batching({ max_events: 2 }) });
  await cluster.publishAll(numbered(2));
  const [request] = await receiver.received(1);
  expect(request?.headers['content-type']).toBe('application/cloudevents-batch+json');
  expect(elements(request as ReceivedRequest)).toMatchObject([{ specversion: '1.0' }, { specversion: '1.0' }]);
});

describe('when a batch fails', () => {
  test('all of it is retried together under the same id, each delivery by its own count', async () => {
    cluster = await startCluster(1);
    await cluster.webhook({
      url: receiver.url,
      batching: batching(),
      retry_policy: { ...AT_ONCE, jitter: 0.5 },
    });
    receiver.onRequest = (request) => request.respond(receiver.requests.length === 1 ? 500 : 200);
    await cluster.publishAll(numbered(5));
    await cluster.allBecome('delivered');
    expect(arrived()).toEqual([
      [0, 1, 2, 3, 4],
      [0, 1, 2, 3, 4],
    ]);
    expect(receiver.requests[1]?.headers['webhook-id']).toBe(receiver.requests[0]?.headers['webhook-id']);
    expect(receiver.requests[1]?.headers['x-webhook-attempt']).toBe('2');
    for (const { id } of await deliveries()) {
      expect(await attemptsOf(id)).toMatchObject([
        { number: 1, response_status: 500 },
        { number: 2, response_status: 200 },
      ]);
    }
  });

  test('each of its deliveries ends dead by itself when its attempts are used up', async () => {
    cluster = await startCluster(1);
    await cluster.webhook({
      url: receiver.url,
      batching: batching({ max_wait_ms: 100 }),
      retry_policy: { ...AT_ONCE, max_attempts: 2 },
    });
    receiver.onRequest = (request) => request.reset();
    await cluster.publishAll(numbered(5));
    await cluster.allBecome('dead');
    expect((await cluster.first.call('GET', '/api/v1/dead-letters')).body.data).toHaveLength(5);
    receiver.onRequest = (request) => request.respond(200);
    const [one] = await deliveries();
    await cluster.first.call('POST', `/api/v1/deliveries/${one.id}/retry`);
    await eventually(
      () => cluster.statuses(),
      (counts) => counts.delivered === 1 && counts.dead === 4,
    );
  });

  test('because it is too large (413) it is split at once, down to single events, and none is lost to the policy', async () => {
    cluster = await startCluster(1);
    receiver.onRequest = (request) => request.respond(elements(request).length > 2 ? 413 : 200);
    await cluster.webhook({
      url: receiver.url,
      batching: batching({ max_events: 16, max_wait_ms: 50 }),
      retry_policy: { ...AT_ONCE, max_attempts: 1 },
      max_concurrency: 1,
    });
    await cluster.publishAll(numbered(16));
    await cluster.allBecome('delivered');
    expect(sizes()[0]).toBe(16);
    expect(sizes().filter((size) => size > 2).length).toBeLessThan(6);
    // What was learned is kept: the next ones are not too large.
    const before = receiver.requests.length;
    await cluster.publishAll(numbered(16));
    await cluster.allBecome('delivered');
    for (const size of sizes().slice(before)) expect(size).toBeLessThanOrEqual(2);
    // It is no failure of the receiver.
    const [{ circuit_state }] = (await cluster.first.call('GET', '/api/v1/webhooks')).body.data;
    expect(circuit_state).toBe('closed');
  });

  test('410 ends all of it and disables the webhook', async () => {
    cluster = await startCluster(1);
    receiver.onRequest = (request) => request.respond(410);
    await cluster.webhook({ url: receiver.url, batching: batching() });
    await cluster.publishAll(numbered(5));
    await cluster.allBecome('dead');
    await eventually(
      async () => (await cluster.first.call('GET', '/api/v1/webhooks')).body.data[0].status,
      (status) => status === 'disabled',
    );
  });
});

test('of a key one event goes in a request, in order', async () => {
  cluster = await startCluster(1);
  await cluster.webhook({
    url: receiver.url,
    ordering: { enabled: true, key_path: 'key' },
    batching: batching({ max_wait_ms: 200, max_events: 3 }),
  });
  await cluster.publishAll(numbered(12, (n) => ({ data: { n, key: `k${n % 3}` } })));
  await cluster.allBecome('delivered');
  for (const request of arrived()) expect(new Set(request.map((n: number) => n % 3)).size).toBe(request.length);
  for (const key of [0, 1, 2]) {
    expect(
      arrived()
        .flat()
        .filter((n) => n % 3 === key),
    ).toEqual([key, key + 3, key + 6, key + 9]);
  }
  expect(Math.max(...sizes())).toBe(3);
});

test('with an order nothing waits for company while more of its key waits behind it', async () => {
  cluster = await startCluster(1);
  await cluster.webhook({ url: receiver.url, ordering: { enabled: true }, batching: batching() });
  await cluster.publishAll(numbered(6));
  // The last one waits for a minute: it has none behind it.
  await receiver.received(5);
  expect(arrived()).toEqual([[0], [1], [2], [3], [4]]);
});

test('the rate limit counts requests', async () => {
  cluster = await startCluster(1);
  await cluster.webhook({
    url: receiver.url,
    rate_limit_per_minute: 60,
    batching: batching({ max_events: 10, max_wait_ms: 0 }),
  });
  await cluster.publishAll(numbered(30));
  await cluster.allBecome('delivered');
  // One a second: with a request for each it would take half a minute.
  expect(receiver.requests.length).toBeLessThanOrEqual(5);
});

test('while a webhook is paused what waits for company is held, and goes on after', async () => {
  cluster = await startCluster(1);
  // It is paused long before they would go.
  const { id } = await cluster.webhook({ url: receiver.url, batching: batching({ max_wait_ms: 3_000 }) });
  await cluster.publishAll(numbered(3));
  await cluster.first.call('POST', `/api/v1/webhooks/${id}/pause`);
  await cluster.allBecome('held');
  expect(receiver.requests).toEqual([]);
  await cluster.first.call('PATCH', `/api/v1/webhooks/${id}`, { batching: { max_wait_ms: 300 } });
  await cluster.first.call('POST', `/api/v1/webhooks/${id}/resume`);
  await cluster.allBecome('delivered');
  expect(arrived().flat().toSorted()).toEqual([0, 1, 2]);
});

test('a restart loses nothing of what waits for company, and sends nothing twice', async () => {
  cluster = await startCluster(1);
  await cluster.webhook({ url: receiver.url, batching: batching({ max_events: 100 }) });
  await cluster.publishAll(numbered(7));
  await cluster.first.restart();
  const [webhook] = (await cluster.first.call('GET', '/api/v1/webhooks')).body.data;
  await cluster.first.call('PATCH', `/api/v1/webhooks/${webhook.id}`, { batching: { max_wait_ms: 0 } });
  await cluster.publish({ data: { n: 7 } });
  await eventually(
    async () => arrived().flat().length,
    (count) => count >= 8,
    70_000,
  );
  await cluster.allBecome('delivered');
  expect(arrived().flat().toSorted()).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
}, 90_000);

test('a batch in flight takes one place of all, and leaves the others to other webhooks', async () => {
  cluster = await startCluster(1, { maxInFlight: 4 });
  const waiting: ReceivedRequest[] = [];
  receiver.onRequest = (request) => {
    if (request.path === '/batches') waiting.push(request);
    else request.respond(200);
  };
  await cluster.webhook({ url: `${receiver.url}/batches`, events: ['many'], batching: batching({ max_events: 20 }) });
  await cluster.webhook({ url: `${receiver.url}/single`, events: ['single'] });
  await cluster.publishAll(numbered(20, () => ({ event_type: 'many' })));
  await receiver.received(1);
  await cluster.publish({ event_type: 'single' });
  await receiver.received(2);
  expect(receiver.requests.map(({ path }) => path)).toEqual(['/batches', '/single']);
  for (const request of waiting) request.respond(200);
  await cluster.allBecome('delivered');
});

test('two nodes send each event once', async () => {
  cluster = await startCluster(2);
  await cluster.webhook({ url: receiver.url, batching: batching({ max_wait_ms: 50 }), max_concurrency: 2 });
  const [first, second] = cluster.nodes;
  await Promise.all([
    cluster.publishAll(numbered(50), first),
    cluster.publishAll(
      numbered(50, (n) => ({ data: { n: n + 50 } })),
      second,
    ),
  ]);
  await cluster.allBecome('delivered');
  expect(
    arrived()
      .flat()
      .toSorted((a, b) => a - b),
  ).toEqual(numbered(100).map(({ data }) => data.n));
});
