import { afterAll, beforeAll, expect, test } from 'vitest';
import { eventually } from '../../src/testing/eventually.ts';
import { type Receiver, startReceiver } from '../../src/testing/receiver.ts';
import { type Cluster, startCluster, type TestNode } from './cluster.ts';

let cluster: Cluster;
let receiver: Receiver;
beforeAll(async () => {
  [cluster, receiver] = await Promise.all([
    startCluster(2, { maxInFlight: 8, maxInFlightScaled: 12 }),
    startReceiver(),
  ]);
});
afterAll(async () => {
  await cluster.stop();
  await receiver.stop();
});

const inFlightMax = async (node: TestNode) =>
  Number(/^posthorn_requests_in_flight_max (\d+)$/m.exec((await node.call('GET', '/metrics')).text)?.[1]);
const limits = () => Promise.all(cluster.nodes.map(inFlightMax));

test('an alert is fired and told of once by all nodes, and each of them raises its capacity for a time', async () => {
  receiver.onRequest = (request) => request.respond(request.path === '/bad' ? 500 : 200);
  await cluster.webhook({ url: `${receiver.url}/team`, events: ['alert.*'] });
  await cluster.webhook({ url: `${receiver.url}/bad`, events: ['order.*'], retry_policy: { max_attempts: 1 } });
  const rule = { metric: 'dead_letters', threshold: 1, period: '1m', action: 'scale_processing_capacity' };
  expect((await cluster.first.call('POST', '/api/v1/alerts/rules', rule)).status).toBe(201);
  await cluster.publish();
  const fired = () => cluster.query('SELECT * FROM alert_incidents');
  // The first look may come before the delivery is dead.
  await eventually(
    async () => {
      await cluster.query('UPDATE alert_rules SET next_evaluation_at = now()');
      return fired();
    },
    (rows) => rows.length === 1,
  );
  await eventually(limits, (found) => found.every((limit) => limit === 12));
  for (let looks = 0; looks < 5; looks += 1) {
    const [before] = await cluster.query('SELECT evaluated_at FROM alert_rules');
    await cluster.query('UPDATE alert_rules SET next_evaluation_at = now()');
    await eventually(
      () => cluster.query('SELECT evaluated_at FROM alert_rules'),
      ([row]) => row.evaluated_at > before.evaluated_at,
    );
  }
  expect(await fired()).toHaveLength(1);
  await eventually(fired, ([row]) => row.fired_announced && row.announce_at === null);
  await eventually(
    async () => receiver.requests.filter(({ path }) => path === '/team').length,
    (count) => count > 0,
  );
  expect(receiver.requests.filter(({ path }) => path === '/team')).toHaveLength(1);

  // Its time is over although it is still firing; a node that starts anew is told the same.
  await cluster.query(`UPDATE alert_incidents SET capacity_until = now() + interval '1 second'`);
  await cluster.query(`SELECT pg_notify('posthorn_changes', '{"topic":"capacity","tenantId":""}')`);
  await eventually(limits, (found) => found.every((limit) => limit === 8));
  expect((await fired())[0].status).toBe('firing');
});
