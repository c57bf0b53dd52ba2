import { afterAll, beforeAll, expect, test } from 'vitest';
import { openStream } from '../../src/live/stream-fixture.ts';
import { eventually } from '../../src/testing/eventually.ts';
import { OPERATOR_KEY } from '../../src/testing/posthorn.ts';
import { type Receiver, startReceiver } from '../../src/testing/receiver.ts';
import { type Cluster, startCluster } from './cluster.ts';

let cluster: Cluster;
let receiver: Receiver;
beforeAll(async () => {
  [cluster, receiver] = await Promise.all([startCluster(2), startReceiver()]);
});
afterAll(async () => {
  await cluster.stop();
  await receiver.stop();
});

test('every node shows what all nodes deliver, each once', async () => {
  await cluster.webhook({ url: receiver.url });
  const headers = { authorization: `Bearer ${OPERATOR_KEY}` };
  const streams = await Promise.all(cluster.nodes.map((node) => openStream(`${node.url}/api/v1/stream`, headers)));
  const published: string[] = [];
  for (let count = 0; count < 10; count += 1) {
    for (const node of cluster.nodes) published.push(await cluster.publish({}, node));
  }
  for (const stream of streams) {
    const found = await eventually(
      async () => stream.of('delivery'),
      (messages) => messages.length >= published.length,
    );
    expect(found.map(({ data }) => data.event_id).sort()).toEqual([...published].sort());
    stream.close();
  }
});

test('a key that is revoked through one node ends its streams on another', async () => {
  const [one, two] = cluster.nodes;
  const made = await one?.call('POST', '/api/v1/api-keys', { name: 'K', role: 'viewer' });
  const stream = await openStream(`${two?.url}/api/v1/stream`, { authorization: `Bearer ${made?.body.key}` });
  expect(stream.status).toBe(200);
  await one?.call('DELETE', `/api/v1/api-keys/${made?.body.id}`);
  await eventually(
    async () => stream.ended,
    (ended) => ended,
  );
  expect(stream.received.at(-1)).toMatchObject({ type: 'end', data: { reason: 'access_ended' } });
});
