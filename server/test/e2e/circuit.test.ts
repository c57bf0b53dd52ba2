import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { eventually } from '../../src/testing/eventually.ts';
import { type ReceivedRequest, type Receiver, startReceiver } from '../../src/testing/receiver.ts';
import { type Cluster, startCluster, type TestNode } from './cluster.ts';

let cluster: Cluster;
let receiver: Receiver;
beforeAll(async () => {
  cluster = await startCluster(2);
});
afterAll(() => cluster.stop());
beforeEach(async () => {
  receiver = await startReceiver();
});
afterEach(async () => {
  await cluster.deleteWebhooks();
  await allNodesKnow(0);
  await receiver.stop();
  await forgetEvents();
});

const DEADLOCK_DETECTED = '40P01';
const BREAKER = { failure_rate: 0.5, minimum_requests: 4, open_seconds: 1 };
const PATIENT = { max_attempts: 3, initial_delay_seconds: 1, max_delay_seconds: 1, jitter: 0 };

const breaking = (fields: object = {}) =>
  cluster.webhook({ url: receiver.url, circuit_breaker: BREAKER, retry_policy: PATIENT, ...fields });
const shown = async (id: string, node = cluster.first) => (await node.call('GET', `/api/v1/webhooks/${id}`)).body;
const circuitIs = (id: string, state: string) =>
  eventually(
    () => shown(id),
    ({ circuit_state }) => circuit_state === state,
  );
const openCircuits = async (node: TestNode) =>
  Number(/^posthorn_circuits_open (\d+)/m.exec((await node.call('GET', '/metrics')).text)?.[1]);
const failedAttempts = async () =>
  (await cluster.query('SELECT count(*)::int AS n FROM attempts WHERE response_status = 503'))[0].n;
/** What is just being recorded locks the tables in another order. */
const forgetEvents = () =>
  eventually(
    () =>
      cluster.query('TRUNCATE deliveries, events, attempts, dead_letters').then(
        () => 'done',
        ({ code }) => code,
      ),
    (outcome) => outcome !== DEADLOCK_DETECTED,
  ).then((outcome) => expect(outcome).toBe('done'));
const events = (count: number) => Array.from({ length: count }, (_, n) => ({ data: { n } }));
const fail = () => {
  receiver.onRequest = (request) => request.respond(503);
};
const heal = () => {
  receiver.onRequest = (request) => request.respond(200);
};

/** Opens the circuit by events that fail; no others are published. It is open for every node then. */
async function open(webhookId: string, count = 4): Promise<void> {
  fail();
  await cluster.publishAll(events(count));
  await circuitIs(webhookId, 'open');
  await allNodesKnow(1);
}

/** Waits until each node has heard how many circuits are open. */
async function allNodesKnow(open: number): Promise<void> {
  for (const node of cluster.nodes)
    await eventually(
      () => openCircuits(node),
      (count) => count === open,
    );
}

test('an open circuit lets deliveries wait without an attempt, is shown, and one success lets all of them out', async () => {
  const webhook = await breaking();
  await open(webhook.id);
  const { circuit_reopens_at } = await shown(webhook.id);
  expect(Date.parse(circuit_reopens_at) - Date.now()).toBeLessThanOrEqual(1_000);
  await Promise.all(cluster.nodes.map((node) => cluster.publishAll(events(50), node)));
  // Three probes fail, each a second after the one before.
  const before = receiver.requests.length;
  await receiver.received(before + 3);
  const attempts = await cluster.query('SELECT sum(attempt_count)::int AS sum FROM deliveries');
  // On a slow machine a fourth may have come by now.
  expect(attempts[0].sum).toBeLessThanOrEqual(receiver.requests.length);
  expect((await cluster.statuses()).dead).toBeUndefined();
  heal();
  await cluster.allBecome('delivered', 15_000);
  expect(await shown(webhook.id)).toMatchObject({ circuit_state: 'closed', circuit_reopens_at: null });
  await allNodesKnow(0);
});

test('one request a period probes, over all nodes; the probes use up no attempts', async () => {
  const webhook = await breaking({ retry_policy: { ...PATIENT, max_attempts: 1 } });
  await open(webhook.id);
  await Promise.all(cluster.nodes.map((node) => cluster.publishAll(events(1), node)));
  const times: number[] = [];
  receiver.onRequest = (request) => {
    times.push(performance.now());
    request.respond(500);
  };
  await eventually(
    async () => times.length,
    (count) => count >= 4,
  );
  for (const [at, time] of times.entries()) {
    if (at > 0) expect(time - (times[at - 1] ?? 0)).toBeGreaterThan(950);
  }
  expect(await cluster.query("SELECT count(*)::int AS n FROM deliveries WHERE status = 'failed'")).toEqual([{ n: 2 }]);
  heal();
  await eventually(
    () => cluster.statuses(),
    ({ delivered }) => delivered === 2,
  );
});

test('a backlog begins with few requests at once when the circuit closes', async () => {
  const webhook = await breaking();
  await open(webhook.id);
  await cluster.publishAll(events(200));
  let [underWay, done] = [0, 0];
  const most: number[] = [];
  receiver.onRequest = (request) => {
    underWay += 1;
    most.push(underWay);
    setTimeout(() => {
      underWay -= 1;
      done += 1;
      request.respond(200);
    }, 20);
  };
  await eventually(
    async () => done,
    (count) => count > 150,
    15_000,
  );
  expect(most[0]).toBe(1);
  // Two nodes share the backlog, and each begins with four.
  expect(Math.max(...most.slice(0, 9))).toBeLessThanOrEqual(8);
  expect(Math.max(...most.slice(0, 25))).toBeLessThanOrEqual(16);
  expect(Math.max(...most)).toBeGreaterThan(16);
});

test('a circuit that opened holds over a restart, and then closes', async () => {
  const webhook = await breaking({ circuit_breaker: { ...BREAKER, open_seconds: 3 } });
  await open(webhook.id);
  const before = receiver.requests.length;
  const reopensAt = Date.parse((await shown(webhook.id)).circuit_reopens_at);
  for (const node of cluster.nodes) await node.restart();
  expect(await openCircuits(cluster.first)).toBe(1);
  await cluster.publishAll(events(10));
  heal();
  await receiver.received(before + 1);
  expect(Date.now()).toBeGreaterThan(reopensAt - 20);
  await cluster.allBecome('delivered', 15_000);
});

test('an event that comes long after the circuit opened is tried at once', async () => {
  const webhook = await breaking({ retry_policy: { ...PATIENT, max_attempts: 1 } });
  await open(webhook.id);
  await forgetEvents();
  // Its time comes, and there is nothing to try with.
  await eventually(
    async () => (await cluster.query("SELECT now() > reopens_at + interval '0.2 seconds' AS past FROM circuits"))[0],
    ({ past }) => past,
  );
  heal();
  const before = receiver.requests.length;
  const published = performance.now();
  await cluster.publish({}, cluster.nodes[1]);
  await receiver.received(before + 1);
  expect(performance.now() - published).toBeLessThan(1_000);
  await circuitIs(webhook.id, 'closed');
});

test('a node that stops gives the right to probe back, so that another can try at once', async () => {
  const webhook = await breaking({ failover_url: `${receiver.url}/failover` });
  receiver.onRequest = (request) => request.respond(request.path === '/failover' ? 200 : 500);
  await cluster.publishAll(events(4));
  // With a failover URL the right is taken also while nothing is due, and kept until something comes.
  await circuitIs(webhook.id, 'half_open');
  for (const node of cluster.nodes) await node.restart();
  heal();
  await eventually(
    async () => {
      for (const node of cluster.nodes) await cluster.publish({}, node);
      return shown(webhook.id);
    },
    ({ circuit_state }) => circuit_state === 'closed',
  );
});

test.for([{ enabled: false }, { enabled: true, max_events: 1, max_wait_ms: 0 }])(
  'an event that its template fails for tries nothing, so another tries at once (batching %o)',
  async (batching) => {
    const template = '(event) => { if (event.data.broken) throw new Error(); return { body: event.data }; }';
    const webhook = await breaking({
      transformation: { template, language: 'javascript' },
      batching,
      // Another node would try after so long without news.
      timeout_seconds: 60,
    });
    await open(webhook.id);
    await cluster.publish({ data: { broken: true }, priority: 10 });
    await eventually(
      async () => (await cluster.query("SELECT FROM attempts WHERE error_class = 'template'")).length,
      (count) => count > 0,
    );
    heal();
    await eventually(
      () => cluster.statuses(),
      ({ delivered }) => delivered === 4,
      15_000,
    );
  },
);

test('what was under way when the circuit opened adds no request', async () => {
  const webhook = await breaking({ retry_policy: { ...PATIENT, initial_delay_seconds: 0, max_delay_seconds: 0 } });
  const held: (() => void)[] = [];
  receiver.onRequest = (request) => held.push(() => request.respond(500));
  await cluster.publishAll(events(20));
  await receiver.received(20);
  fail();
  for (const answer of held) answer();
  await circuitIs(webhook.id, 'open');
  const [{ sum }] = await eventually(
    () => cluster.query('SELECT sum(attempt_count)::int AS sum FROM deliveries'),
    ([row]) => row.sum >= 20,
  );
  expect(sum).toBeLessThanOrEqual(21);
  heal();
  await cluster.allBecome('delivered', 15_000);
});

test('the circuit of a webhook that is deleted is forgotten by every node, also when its last requests fail after it', async () => {
  const first = await breaking();
  await open(first.id);
  await cluster.first.call('DELETE', `/api/v1/webhooks/${first.id}`);
  await allNodesKnow(0);

  const second = await breaking();
  const underWay: ReceivedRequest[] = [];
  receiver.onRequest = (request) => underWay.push(request);
  await cluster.publishAll(events(4));
  await eventually(
    async () => underWay.length,
    (count) => count === 4,
  );
  await cluster.first.call('DELETE', `/api/v1/webhooks/${second.id}`);
  const before = await failedAttempts();
  for (const request of underWay) request.respond(503);
  await eventually(failedAttempts, (count) => count === before + 4);
  await allNodesKnow(0);
});

test('a changed url, enabling, and a breaker that is switched off close the circuit at once', async () => {
  const slow = { ...BREAKER, open_seconds: 3600 };
  const webhook = await breaking({ circuit_breaker: slow });
  const path = `/api/v1/webhooks/${webhook.id}`;
  const second = cluster.nodes[1];
  await open(webhook.id);
  heal();
  await cluster.first.call('PATCH', path, { url: `${receiver.url}/elsewhere` });
  expect(await shown(webhook.id)).toMatchObject({ circuit_state: 'closed' });
  await cluster.allBecome('delivered');

  await open(webhook.id);
  heal();
  await cluster.first.call('POST', `${path}/pause`);
  await second?.call('POST', `${path}/enable`);
  await cluster.allBecome('delivered');

  await open(webhook.id);
  heal();
  await second?.call('PATCH', path, { circuit_breaker: { enabled: false } });
  await cluster.allBecome('delivered');
  expect(await cluster.query('SELECT FROM circuits')).toEqual([]);
});
