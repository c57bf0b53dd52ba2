import { monitorEventLoopDelay } from 'node:perf_hooks';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { eventually } from '../../src/testing/eventually.ts';
import { type Receiver, startReceiver } from '../../src/testing/receiver.ts';
import { type Cluster, startCluster } from './cluster.ts';

let cluster: Cluster;
let receiver: Receiver;
/** When each request came, in milliseconds. */
let arrivals: number[];
beforeAll(async () => {
  cluster = await startCluster(2);
});
afterAll(() => cluster.stop());
beforeEach(async () => {
  arrivals = [];
  lag = monitorEventLoopDelay({ resolution: 5 });
  lag.enable();
  receiver = await startReceiver();
  receiver.onRequest = (request) => {
    arrivals.push(performance.now());
    request.respond(200);
  };
});
afterEach(async () => {
  lag.disable();
  await cluster.deleteWebhooks();
  await receiver.stop();
});

const PER_MINUTE = 1_200;
const INTERVAL_MS = 60_000 / PER_MINUTE;

/** Timers that ring late are made up for within 100 ms; the rest is what a request takes. */
const JITTER_MS = 100 + 50;

/** How long this process let its events wait: an arrival that is seen so late shortens the stretch after it. */
let lag: ReturnType<typeof monitorEventLoopDelay>;

/** No stretch of arrivals is shorter than the limit allows. */
function expectPaced(): void {
  const jitterMs = JITTER_MS + lag.max / 1e6;
  for (const [from, first] of arrivals.entries()) {
    for (let to = from + 1; to < arrivals.length; to++) {
      expect((arrivals[to] ?? 0) - first).toBeGreaterThan((to - from) * INTERVAL_MS - jitterMs);
    }
  }
}

const events = (count: number) => Array.from({ length: count }, (_, n) => ({ data: { n } }));

test('requests leave evenly spread and no faster than the limit, through whichever node the events came', async () => {
  await cluster.webhook({ url: receiver.url, rate_limit_per_minute: PER_MINUTE });
  const before = performance.now();
  await Promise.all(cluster.nodes.map((node) => cluster.publishAll(events(20), node)));
  await receiver.received(40);
  expectPaced();
  // Neither slower than need be: two intervals where one is allowed would take twice as long.
  expect(performance.now() - before).toBeLessThan(40 * INTERVAL_MS * 1.6 + 500);
  const ids = receiver.requests.map(({ headers }) => headers['webhook-id']);
  expect(new Set(ids).size).toBe(40);
});

test('while webhooks change and are read anew, the pace holds', async () => {
  await cluster.webhook({ url: receiver.url, rate_limit_per_minute: PER_MINUTE });
  const other = await cluster.webhook({ url: receiver.url, events: ['other.*'] });
  await cluster.publishAll(events(30));
  for (let n = 0; arrivals.length < 30; n++) {
    await cluster.first.call('PATCH', `/api/v1/webhooks/${other.id}`, { description: `change ${n}` });
  }
  await receiver.received(30);
  expectPaced();
});

test('the pace goes on over a stop and start of all nodes', async () => {
  await cluster.webhook({ url: receiver.url, rate_limit_per_minute: PER_MINUTE });
  await cluster.publishAll(events(30));
  await receiver.received(10);
  for (const node of cluster.nodes) await node.restart();
  await receiver.received(30);
  expectPaced();
  await cluster.allBecome('delivered');
});

test('the pace goes on after the death of the node that kept it, and nothing is lost', async () => {
  await cluster.webhook({ url: receiver.url, rate_limit_per_minute: PER_MINUTE });
  await cluster.publishAll(events(40));
  await receiver.received(5);
  const [{ node_id: ownerId }] = await cluster.query('SELECT node_id FROM lanes WHERE node_id IS NOT NULL');
  const owner = cluster.nodes.find((node) => cluster.numberOf(node) === ownerId);
  owner?.freeze();
  await cluster.declareSilent(ownerId);
  await receiver.received(40);
  expectPaced();
  await cluster.allBecome('delivered');
  expect(await cluster.query('SELECT node_id FROM lanes')).not.toEqual([{ node_id: ownerId }]);
  owner?.thaw();
});

test('what is cancelled while no node hears of it is not kept until the pace allows the next start', async () => {
  await cluster.webhook({ url: receiver.url, rate_limit_per_minute: 1 });
  await cluster.publishAll(events(2));
  await receiver.received(1);
  const queuedIs = (count: number) => eventually(queued, (seen) => seen === count);
  await queuedIs(1);
  await cluster.query(
    "UPDATE deliveries SET status = 'cancelled', due_at = NULL, lease_node = NULL, completed_at = now() WHERE status = 'pending'",
  );
  await cluster.query(
    `SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
     WHERE application_name = 'posthorn-listener' AND datname = current_database()`,
  );
  await queuedIs(0);
  expect(arrivals).toHaveLength(1);
  await cluster.query('TRUNCATE deliveries, events, attempts');
  // The others are told of what comes next again.
  await eventually(
    () =>
      cluster.query(
        `SELECT FROM pg_stat_activity WHERE application_name = 'posthorn-listener' AND datname = current_database()
         AND state = 'idle' AND query LIKE 'LISTEN%'`,
      ),
    (listening) => listening.length === cluster.nodes.length,
  );
});

/** Deliveries that wait in the memory of the nodes. */
async function queued(): Promise<number> {
  const texts = await Promise.all(cluster.nodes.map(async (node) => (await node.call('GET', '/metrics')).text));
  return texts.reduce((sum, text) => sum + Number(/^posthorn_deliveries_queued (\d+)/m.exec(text)?.[1]), 0);
}

/** Lets each request take a while, and counts those under way. */
function countUnderWay(tookMs: number): { most: number } {
  const seen = { most: 0 };
  let underWay = 0;
  receiver.onRequest = (request) => {
    underWay += 1;
    seen.most = Math.max(seen.most, underWay);
    setTimeout(() => {
      underWay -= 1;
      request.respond(200);
    }, tookMs);
  };
  return seen;
}

test('no more requests than max_concurrency are under way, over all nodes', async () => {
  await cluster.webhook({ url: receiver.url, max_concurrency: 3 });
  const seen = countUnderWay(20);
  await Promise.all(cluster.nodes.map((node) => cluster.publishAll(events(50), node)));
  await receiver.received(100);
  expect(seen.most).toBe(3);
  await cluster.allBecome('delivered');
});

test('a max_concurrency that is lowered holds for what is queued already', async () => {
  const webhook = await cluster.webhook({ url: receiver.url, max_concurrency: 20 });
  countUnderWay(30);
  await cluster.publishAll(events(150));
  await receiver.received(20);
  await cluster.first.call('PATCH', `/api/v1/webhooks/${webhook.id}`, { max_concurrency: 2 });
  const before = receiver.requests.length;
  // What was under way at the change has ended by then.
  await receiver.received(before + 20);
  const seen = countUnderWay(10);
  await receiver.received(150);
  expect(seen.most).toBe(2);
});
