import { afterEach, beforeEach, expect, test } from 'vitest';
import { eventually } from '../../src/testing/eventually.ts';
import { type ReceivedRequest, type Receiver, startReceiver } from '../../src/testing/receiver.ts';
import { type Cluster, startCluster } from './cluster.ts';

let cluster: Cluster;
let hanging: Receiver;
let quick: Receiver;
beforeEach(async () => {
  [hanging, quick] = await Promise.all([startReceiver(), startReceiver()]);
  hanging.onRequest = () => {};
});
afterEach(async () => {
  await Promise.all([hanging.stop(), quick.stop()]);
  await cluster.stop();
});

const events = (count: number) => Array.from({ length: count }, (_, n) => ({ data: { n } }));

/** Makes a tenant, whose environment `call` then speaks for. */
async function tenant(slug: string) {
  const made = await cluster.first.call('POST', '/api/v1/tenants', {
    slug,
    name: slug,
    settings: { allow_unknown_event_types: true },
  });
  expect(made.status).toBe(201);
  const headers = { 'x-tenant-id': made.body.id };
  return {
    webhook: async (url: string, fields: object = {}) => {
      const body = { name: slug, url, events: ['*'], ...fields };
      expect((await cluster.first.call('POST', '/api/v1/webhooks', body, headers)).status).toBe(201);
    },
    publishAll: async (count: number) => {
      for (let left = count; left > 0; left -= 1_000) {
        const part = events(Math.min(left, 1_000)).map((event) => ({ event_type: 'order.paid', ...event }));
        expect((await cluster.first.call('POST', '/api/v1/events/batch', { events: part }, headers)).status).toBe(202);
      }
    },
  };
}

test('a tenant whose receiver hangs, with thousands waiting, takes nothing from another', async () => {
  cluster = await startCluster(1, { maxInFlight: 16, maxQueued: 500 });
  const [slow, other] = [await tenant('slow'), await tenant('other')];
  await slow.webhook(hanging.url, { circuit_breaker: { enabled: false } });
  await other.webhook(quick.url);
  await slow.publishAll(5_000);
  await hanging.received(8);
  // One after the other: each waits for nothing but its own request.
  for (let n = 1; n <= 20; n++) {
    await other.publishAll(1);
    await quick.received(n);
  }
  await other.publishAll(300);
  await quick.received(320);
  // Half of the places, and no more.
  expect(hanging.requests.length).toBe(8);
});

test('a storm of retries of one webhook does not hold up the first attempts of another', async () => {
  cluster = await startCluster(1, { maxInFlight: 8 });
  const retried: (() => void)[] = [];
  hanging.onRequest = (request) => {
    if (request.headers['x-webhook-attempt'] === '1') request.respond(500);
    else retried.push(() => request.respond(500));
  };
  const stormy = { retry_policy: { max_attempts: 5, initial_delay_seconds: 0, max_delay_seconds: 0 } };
  await cluster.webhook({
    url: hanging.url,
    events: ['storm'],
    circuit_breaker: { enabled: false },
    ...stormy,
  });
  await cluster.webhook({ url: quick.url, events: ['usual'] });
  await cluster.publishAll(events(400).map((event) => ({ ...event, event_type: 'storm' })));
  await eventually(
    async () => retried.length,
    (count) => count >= 2,
  );
  for (let n = 1; n <= 20; n++) {
    await cluster.publish({ event_type: 'usual' });
    await quick.received(n);
  }
  // Retries hold no more places than they leave free.
  expect(retried.length).toBeLessThanOrEqual(4);
});

test('a storm of retries of an ordered webhook does not hold up the first attempt of another of its keys', async () => {
  cluster = await startCluster(1);
  await cluster.webhook({
    url: quick.url,
    ordering: { enabled: true, key_path: 'key' },
    circuit_breaker: { enabled: false },
    retry_policy: { max_attempts: 30, initial_delay_seconds: 0, max_delay_seconds: 0, jitter: 0 },
  });
  const arrived: string[] = [];
  const unanswered: ReceivedRequest[] = [];
  let answers = true;
  const answer = (request: ReceivedRequest) => request.respond(500);
  quick.onRequest = (request) => {
    arrived.push(JSON.parse(request.body.toString()).data.key);
    if (answers) answer(request);
    else unanswered.push(request);
  };
  await cluster.publishAll(Array.from({ length: 3_000 }, (_, n) => ({ data: { key: `failing-${n}` } })));
  await eventually(
    async () => arrived.length,
    (count) => count > 3_500,
    20_000,
  );
  // No retry ends from here on, so that nothing but its own turn lets the fresh one through.
  answers = false;
  const before = arrived.length;
  await cluster.publish({ data: { key: 'fresh' } });
  await eventually(
    async () => arrived.includes('fresh'),
    (came) => came,
    20_000,
  );
  // Those for whom there was a place, of the webhook's 64.
  expect(arrived.indexOf('fresh') - before).toBeLessThan(64);
  answers = true;
  for (const request of unanswered) answer(request);
}, 60_000);
