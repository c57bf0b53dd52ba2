import { afterEach, beforeEach, expect, test } from 'vitest';
import { eventually } from '../../src/testing/eventually.ts';
import { type ReceivedRequest, type Receiver, startReceiver } from '../../src/testing/receiver.ts';
import { type Cluster, startCluster } from './cluster.ts';

let cluster: Cluster;
let receiver: Receiver;
/** Requests that are not answered yet. */
let waiting: ReceivedRequest[];
beforeEach(async () => {
  receiver = await startReceiver();
  waiting = [];
  receiver.onRequest = (request) => waiting.push(request);
});
afterEach(async () => {
  await cluster.stop();
  await receiver.stop();
});

const names = () => receiver.requests.map((request) => JSON.parse(request.body.toString()).data.name);
const events = (name: string, count: number, fields: object = {}) =>
  Array.from({ length: count }, () => ({ data: { name }, ...fields }));

/** Answers what came, and all that comes from now on. */
function answerAll(): void {
  receiver.onRequest = (request) => request.respond(200);
  for (const request of waiting.splice(0)) request.respond(200);
}

test('an urgent event overtakes those that were published before it', async () => {
  cluster = await startCluster(1);
  await cluster.webhook({ url: receiver.url, max_concurrency: 1 });
  await cluster.publishAll(events('usual', 20));
  await receiver.received(1);
  await cluster.publishAll([...events('low', 1, { priority: -1 }), ...events('high', 2, { priority: 50 })]);
  await cluster.publishAll(events('usual', 1));
  answerAll();
  await receiver.received(24);
  expect(names().slice(0, 4)).toEqual(['usual', 'high', 'high', 'usual']);
  expect(names().at(-1)).toBe('low');
});

test('it also overtakes what waits in the rows because memory has no room', async () => {
  cluster = await startCluster(1, { maxQueued: 8 });
  await cluster.webhook({ url: receiver.url, max_concurrency: 1 });
  await cluster.publishAll(events('usual', 60));
  await receiver.received(1);
  await cluster.publishAll(events('high', 5, { priority: 50 }));
  answerAll();
  await receiver.received(65);
  // What was in memory already is not put back.
  expect(names().lastIndexOf('high')).toBeLessThan(8 + 5);
});

test('it does not wait for thousands that a slow receiver has not taken yet', async () => {
  cluster = await startCluster(1);
  await cluster.webhook({ url: receiver.url, max_concurrency: 1 });
  receiver.onRequest = (request) => setTimeout(() => request.respond(200), 100);
  await cluster.publishAll(events('usual', 20));
  await receiver.received(10);
  // More than a lane holds in memory.
  await cluster.publishAll(events('usual', 2_300));
  await cluster.publishAll(events('high', 1, { priority: 50 }));
  const before = receiver.requests.length;
  answerAll();
  await eventually(
    async () => names().indexOf('high'),
    (at) => at >= 0,
  );
  expect(names().indexOf('high')).toBeLessThan(before + 400);
});

test("a tenant's urgent webhook is served before its others when places are few", async () => {
  cluster = await startCluster(1, { maxInFlight: 2 });
  await cluster.webhook({ url: `${receiver.url}/usual`, events: ['usual'] });
  await cluster.webhook({ url: `${receiver.url}/urgent`, events: ['urgent'], priority: 10 });
  await cluster.publishAll(events('usual', 20, { event_type: 'usual' }));
  await receiver.received(1);
  await cluster.publishAll(events('urgent', 10, { event_type: 'urgent' }));
  answerAll();
  await receiver.received(30);
  expect(names().slice(1, 11)).toEqual(Array.from({ length: 10 }, () => 'urgent'));
});
