import { afterAll, beforeAll, expect, test } from 'vitest';
import { eventually } from '../../src/testing/eventually.ts';
import { type Receiver, startReceiver } from '../../src/testing/receiver.ts';
import { type Cluster, startCluster } from './cluster.ts';

let cluster: Cluster;
let receiver: Receiver;
beforeAll(async () => {
  [cluster, receiver] = await Promise.all([startCluster(2), startReceiver()]);
  receiver.onRequest = ({ path, respond }) => respond(path === '/ops' ? 200 : 500);
});
afterAll(async () => {
  await cluster.stop();
  await receiver.stop();
});

const told = () =>
  receiver.requests.filter(({ path }) => path === '/ops').map(({ body }) => JSON.parse(body.toString()).data);
const announcements = async () => (await cluster.query('SELECT count(*)::int AS count FROM announcements'))[0].count;

test('each death is told of once by all nodes together, and of a flood a hundred, with how many were left out', async () => {
  await cluster.webhook({ url: `${receiver.url}/ops`, events: ['delivery.dead'] });
  const dying = { events: ['flood.*'], retry_policy: { max_attempts: 1 }, circuit_breaker: { enabled: false } };
  await cluster.webhook({ url: `${receiver.url}/bad`, ...dying });
  await Promise.all(
    cluster.nodes.map((node) =>
      cluster.publishAll(
        Array.from({ length: 90 }, () => ({ event_type: 'flood.dies' })),
        node,
      ),
    ),
  );
  await eventually(
    async () => (await cluster.query('SELECT count(*)::int AS count FROM dead_letters'))[0].count,
    (count) => count === 180,
  );
  await eventually(announcements, (count) => count === 0);
  await eventually(
    async () => told().length,
    (count) => count >= 100,
  );
  // A minute later it is told of again, and of what was left out.
  await cluster.query(`UPDATE announcement_paces SET since = since - interval '1 minute'`);
  await cluster.publish({ event_type: 'flood.last' });
  const last = await eventually(
    async () => told().find(({ event_type }) => event_type === 'flood.last'),
    (found) => found !== undefined,
  );
  expect(last.omitted_before).toBe(80);
  expect(told()).toHaveLength(101);
  expect(new Set(told().map(({ delivery_id }) => delivery_id)).size).toBe(101);
});

test('what a node had in hand when it was lost is told of by another', async () => {
  const before = told().length;
  // Taken by a node that is never heard of again: what was decided of it stays.
  await cluster.query(
    `INSERT INTO announcements (tenant_id, environment_id, type, webhook_id, webhook_name, webhook_url, occurred_at, details,
       due_at, omitted_before)
     SELECT tenant_id, environment_id, 'delivery.dead', webhook_id, 'Lost', 'https://lost.example/', now(),
       jsonb_build_object('delivery_id', delivery_id, 'event_id', event_id, 'event_type', event_type, 'reason', reason,
         'attempt_count', 7, 'response_status', 500, 'error_class', 'response'), now() - interval '1 second', 3
     FROM dead_letters LIMIT 1`,
  );
  await eventually(announcements, (count) => count === 0);
  await eventually(
    async () => told().length,
    (count) => count > before,
  );
  expect(told().at(-1)).toMatchObject({ attempt_count: 7, omitted_before: 3 });
  expect(told()).toHaveLength(before + 1);
});
