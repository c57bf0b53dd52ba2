import { afterEach, beforeEach, expect, test } from 'vitest';
import { preferredNode } from '../../src/delivery/nodes/lane-owners.ts';
import { parseId } from '../../src/kernel/ids.ts';
import { eventually } from '../../src/testing/eventually.ts';
import { type Receiver, startReceiver } from '../../src/testing/receiver.ts';
import { type Cluster, startCluster } from './cluster.ts';

let cluster: Cluster;
let receiver: Receiver;
/** What arrived of each webhook (its path) and key, in the order of arrival. */
let arrived: Map<string, number[]>;
/** Requests under way at once, the most of each path. */
let most: Map<string, number>;
beforeEach(async () => {
  cluster = await startCluster(1);
  receiver = await startReceiver();
  [arrived, most] = [new Map(), new Map()];
  const underWay = new Map<string, number>();
  receiver.onRequest = (request) => {
    const { data } = JSON.parse(request.body.toString());
    const name = `${request.path} ${data.key}`;
    arrived.set(name, [...(arrived.get(name) ?? []), data.n]);
    const now = (underWay.get(request.path) ?? 0) + 1;
    underWay.set(request.path, now);
    most.set(request.path, Math.max(most.get(request.path) ?? 0, now));
    setTimeout(() => {
      underWay.set(request.path, (underWay.get(request.path) ?? 0) - 1);
      request.respond(200);
    }, 5);
  };
});
afterEach(async () => {
  await cluster.stop();
  await receiver.stop();
});

const WEBHOOKS = 8;

/**
 * Half of them keep an order, half a concurrency of 2; of each half, two are for the first node and two for the second,
 * which may still be to come. A webhook whose random id says otherwise is made again.
 */
async function createWebhooks(): Promise<void> {
  const first = cluster.numberOf(cluster.first);
  const numbers = [first, first + 1];
  for (let n = 0; n < WEBHOOKS; n++) {
    const limits = n % 2 === 0 ? { ordering: { enabled: true } } : { max_concurrency: 2 };
    const fields = { url: `${receiver.url}/${n % 2 === 0 ? 'ordered' : 'limited'}-${n}`, ...limits };
    const wanted = numbers[n % 4 < 2 ? 0 : 1];
    for (;;) {
      const { id } = await cluster.webhook(fields);
      if (preferredNode(parseId('webhook', id) ?? '', numbers) === wanted) break;
      await cluster.first.call('DELETE', `/api/v1/webhooks/${id}`);
    }
  }
}

const KEYS = 5;

/** Publishes `count` events of each key through all nodes in turn, beginning with number `from`. */
async function publishOn(from: number, count: number): Promise<void> {
  await Promise.all(
    Array.from({ length: KEYS }, async (_, k) => {
      for (let n = from; n < from + count; n++) {
        const node = cluster.nodes[n % cluster.nodes.length];
        await cluster.publish({ data: { key: `k${k}`, n }, ordering_key: `k${k}` }, node);
      }
    }),
  );
}

/** Every webhook got every event once, in order where it keeps one, and no more at once than it takes. */
function expectComplete(count: number): void {
  const all = Array.from({ length: count }, (_, n) => n);
  expect(arrived.size).toBe(WEBHOOKS * KEYS);
  for (const [name, numbers] of arrived) {
    const ordered = name.startsWith('/ordered') ? numbers : [...numbers].sort((a, b) => a - b);
    expect([name, ordered]).toEqual([name, all]);
  }
  for (const [path, count] of most) expect(count).toBeLessThanOrEqual(path.startsWith('/limited') ? 2 : KEYS);
}

const owners = async (): Promise<number[]> => {
  const rows = await cluster.query('SELECT DISTINCT node_id FROM lanes WHERE node_id IS NOT NULL ORDER BY 1');
  return rows.map((row) => row.node_id);
};

test('lanes move when a node joins and when it leaves; nothing is lost, doubled or out of order', async () => {
  await createWebhooks();
  await publishOn(0, 20);
  const second = await cluster.join();
  await publishOn(20, 20);
  const both = await eventually(owners, (ids) => ids.length === 2, 15_000);
  expect(both).toContain(cluster.numberOf(second));
  await publishOn(40, 10);
  await second.stop();
  cluster.nodes.pop();
  await publishOn(50, 10);
  await cluster.allBecome('delivered', 20_000);
  expectComplete(60);
  expect(await owners()).toEqual([cluster.numberOf(cluster.first)]);
}, 60_000);

test('a node that was taken for dead and comes back owns nothing until it has joined again', async () => {
  await cluster.join();
  const second = cluster.nodes[1];
  if (second === undefined) throw new Error('There is no second node.');
  await createWebhooks();
  await eventually(
    async () => {
      await publishOn((arrived.get('/ordered-0 k0') ?? []).length, 1);
      await cluster.allBecome('delivered');
      return owners();
    },
    (ids) => ids.length === 2,
    15_000,
  );
  const before = cluster.numberOf(second);
  second.freeze();
  await cluster.declareSilent(before);
  const first = cluster.first;
  const from = (arrived.get('/ordered-0 k0') ?? []).length;
  for (let n = from; n < from + 5; n++) await cluster.publish({ data: { key: 'k0', n }, ordering_key: 'k0' }, first);
  await cluster.allBecome('delivered', 20_000);
  expect(await owners()).toEqual([cluster.numberOf(first)]);
  second.thaw();
  const back = await eventually(
    async () => (await cluster.query('SELECT id FROM nodes ORDER BY id')).map(({ id }) => id),
    (ids) => ids.length === 2,
  );
  expect(back).not.toContain(before);
  for (let n = from + 5; n < from + 10; n++) {
    await cluster.publish({ data: { key: 'k0', n }, ordering_key: 'k0' }, cluster.nodes[n % 2]);
  }
  await cluster.allBecome('delivered', 20_000);
  for (const [name, numbers] of arrived) {
    if (!name.startsWith('/ordered')) continue;
    expect([name, numbers]).toEqual([name, Array.from({ length: numbers.length }, (_, n) => n)]);
  }
  expect(arrived.get('/ordered-0 k0')).toHaveLength(from + 10);
  expect(await owners()).not.toContain(before);
}, 60_000);
