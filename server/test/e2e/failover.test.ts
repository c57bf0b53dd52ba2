import { Webhook } from 'standardwebhooks';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { eventually } from '../../src/testing/eventually.ts';
import { type Receiver, startReceiver } from '../../src/testing/receiver.ts';
import { type Cluster, startCluster } from './cluster.ts';

let cluster: Cluster;
let primary: Receiver;
let other: Receiver;
beforeAll(async () => {
  cluster = await startCluster(1);
});
afterAll(() => cluster.stop());
beforeEach(async () => {
  [primary, other] = await Promise.all([startReceiver(), startReceiver()]);
});
afterEach(async () => {
  await cluster.deleteWebhooks();
  await Promise.all([primary.stop(), other.stop()]);
  await cluster.query('TRUNCATE deliveries, events, attempts, dead_letters');
});

const BREAKER = { failure_rate: 0.5, minimum_requests: 4, open_seconds: 1 };
const AT_ONCE = { max_attempts: 2, initial_delay_seconds: 0, max_delay_seconds: 0, jitter: 0 };

const withFailover = (fields: object = {}) =>
  cluster.webhook({
    url: primary.url,
    failover_url: `${other.url}/other`,
    circuit_breaker: BREAKER,
    retry_policy: AT_ONCE,
    ...fields,
  });

test('with its attempts used up a delivery gets one more at the failover URL, signed alike and under the same id', async () => {
  const webhook = await withFailover();
  primary.onRequest = (request) => request.respond(500);
  const event = await cluster.publish({ data: { n: 1 } });
  const delivery = await cluster.becomes(event, 'delivered');
  expect(delivery.attempts).toMatchObject([
    { number: 1, trigger: 'scheduled', url: `${primary.url}/`, response_status: 500 },
    { number: 2, trigger: 'scheduled', url: `${primary.url}/`, response_status: 500 },
    { number: 3, trigger: 'failover', url: `${other.url}/other`, response_status: 200 },
  ]);
  const [arrived] = other.requests;
  for (const { headers } of [...primary.requests, ...other.requests]) expect(headers['webhook-id']).toBe(event);
  const verify = () =>
    new Webhook(webhook.secret).verify(arrived?.body.toString() ?? '', arrived?.headers as Record<string, string>);
  expect(verify).not.toThrow();
});

test('a delivery that fails at the failover URL too is dead', async () => {
  await withFailover();
  for (const receiver of [primary, other]) receiver.onRequest = (request) => request.respond(500);
  const delivery = await cluster.becomes(await cluster.publish(), 'dead');
  expect(delivery).toMatchObject({ status_reason: 'attempts_used_up', attempt_count: 3 });
  expect([primary.requests.length, other.requests.length]).toEqual([2, 1]);
});

test('while the circuit is open everything goes to the failover URL; the primary is tried, and gets all when it is back', async () => {
  const webhook = await withFailover({ retry_policy: { ...AT_ONCE, max_attempts: 10 } });
  primary.onRequest = (request) => request.respond(500);
  await cluster.publishAll(Array.from({ length: 5 }, (_, n) => ({ data: { n } })));
  await cluster.allBecome('delivered');
  expect((await cluster.first.call('GET', `/api/v1/webhooks/${webhook.id}`)).body.circuit_state).not.toBe('closed');
  const failed = primary.requests.length;
  // Fresh events go to the other URL at once, but for one a second, which tries the primary.
  await eventually(
    async () => {
      await cluster.publish();
      return primary.requests.length;
    },
    (count) => count >= failed + 2,
  );
  await cluster.allBecome('delivered');
  expect(other.requests.length).toBeGreaterThan(5);
  primary.onRequest = (request) => request.respond(200);
  await eventually(
    async () => {
      await cluster.publish();
      return (await cluster.first.call('GET', `/api/v1/webhooks/${webhook.id}`)).body.circuit_state;
    },
    (state) => state === 'closed',
  );
  await cluster.allBecome('delivered');
  const [before, elsewhere] = [primary.requests.length, other.requests.length];
  await cluster.publishAll(Array.from({ length: 10 }, (_, n) => ({ data: { n } })));
  await primary.received(before + 10);
  expect(other.requests).toHaveLength(elsewhere);
});
