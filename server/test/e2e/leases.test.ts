import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { eventually } from '../../src/testing/eventually.ts';
import { startTestPosthorn, type TestPosthorn } from '../../src/testing/posthorn.ts';
import { type Receiver, startReceiver } from '../../src/testing/receiver.ts';

let posthorn: TestPosthorn;
let receiver: Receiver;
let sql: pg.Client;
beforeAll(async () => {
  posthorn = await startTestPosthorn();
  receiver = await startReceiver();
  sql = new pg.Client(posthorn.database.connection);
  await sql.connect();
  await posthorn.call('POST', '/api/v1/webhooks', { name: 'Leases', url: receiver.url, events: ['*'] });
});
afterAll(async () => {
  await sql.end();
  await posthorn.stop();
  await receiver.stop();
});

const publish = async (fields: object = {}): Promise<string> =>
  (await posthorn.call('POST', '/api/v1/events', { event_type: 'order.paid', data: {}, ...fields })).body.id;
const deliveryOf = async (eventId: string) =>
  (await posthorn.call('GET', `/api/v1/deliveries?event_id=${eventId}`)).body.data[0];
const attemptsOf = async (eventId: string) =>
  (await posthorn.call('GET', `/api/v1/deliveries/${(await deliveryOf(eventId)).id}`)).body.attempts;

const INSERTS_THAT_WAIT = `SELECT FROM pg_stat_activity
  WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%hold_node%'`;

/** A delivery that a node of another process has in hand, the node having been heard of `silence` ago. */
async function leasedElsewhere(silence: string): Promise<string> {
  const event = await publish({ deliver_at: new Date(Date.now() + 86_400_000).toISOString() });
  const node = await sql.query<{ id: number }>(
    `INSERT INTO nodes (started_at, heartbeat_at, oldest_leased_id)
     VALUES (now(), now() - $1::interval, '00000000-0000-0000-0000-000000000000') RETURNING id`,
    [silence],
  );
  const updated = await sql.query(
    "UPDATE deliveries SET lease_node = $1, due_at = NULL WHERE due_at > now() + interval '1 hour'",
    [node.rows[0]?.id],
  );
  expect(updated.rowCount).toBe(1);
  return event;
}

test('what a silent node had in hand is delivered by another, and what a living one has is left to it', async () => {
  const living = await leasedElsewhere('0 seconds');
  const orphan = await leasedElsewhere('1 minute');
  await eventually(
    () => deliveryOf(orphan),
    (delivery) => delivery.status === 'delivered',
  );
  expect(await deliveryOf(living)).toMatchObject({ status: 'pending', attempt_count: 0 });
  expect(receiver.requests.map(({ headers }) => headers['webhook-id'])).toEqual([orphan]);
});

test('a result that comes after the lease was lost is recorded, and does not move the delivery', async () => {
  const answers: (() => void)[] = [];
  receiver.onRequest = (request) => answers.push(() => request.respond(200));
  const before = receiver.requests.length;
  const event = await publish();
  await receiver.received(before + 1);
  // Another node took this one for dead and made the row wait.
  await sql.query(
    "UPDATE deliveries SET lease_node = NULL, due_at = now() + interval '1 day' WHERE lease_node IS NOT NULL AND attempt_count = 0 AND trigger = 'scheduled' AND event_id = (SELECT id FROM events ORDER BY id DESC LIMIT 1)",
  );
  for (const answer of answers) answer();
  await eventually(
    () => attemptsOf(event),
    (attempts) => attempts.length === 1,
  );
  expect(await deliveryOf(event)).toMatchObject({ status: 'pending', attempt_count: 0, completed_at: null });
  receiver.onRequest = (request) => request.respond(200);
});

test('a node that was taken for dead becomes a new one and goes on', async () => {
  const before = await sql.query<{ id: number }>(
    "SELECT id FROM nodes WHERE heartbeat_at > now() - interval '30 seconds' ORDER BY id",
  );
  await sql.query('DELETE FROM nodes');
  const after = await eventually(
    async () => (await sql.query<{ id: number }>('SELECT id FROM nodes')).rows,
    (rows) => rows.length === 1,
  );
  expect(before.rows.map(({ id }) => id)).not.toContain(after[0]?.id);
  const event = await publish();
  await eventually(
    () => deliveryOf(event),
    (delivery) => delivery.status === 'delivered',
  );
});

test('what a node publishes after it was buried is not leased to the dead: nothing of it is stored, and it is told so', async () => {
  // Whoever buries it holds its row until its leases are free; a publish that comes meanwhile waits for the outcome.
  // The gravedigger's own transaction would go on seeing the activity that it saw first.
  const gravedigger = new pg.Client(posthorn.database.connection);
  await gravedigger.connect();
  let published: ReturnType<typeof posthorn.call>;
  try {
    await gravedigger.query('BEGIN');
    await gravedigger.query('DELETE FROM nodes');
    published = posthorn.call('POST', '/api/v1/events', { event_type: 'order.buried', data: {} });
    await eventually(
      async () => (await sql.query(INSERTS_THAT_WAIT)).rowCount,
      (waiting) => waiting === 1,
    );
    await gravedigger.query('COMMIT');
  } finally {
    await gravedigger.end();
  }
  expect(await published).toMatchObject({ status: 503, body: { error: { code: 'unavailable' } } });
  const stored = await sql.query("SELECT FROM events WHERE event_type = 'order.buried'");
  expect(stored.rowCount).toBe(0);
  await eventually(
    async () => (await posthorn.call('POST', '/api/v1/events', { event_type: 'order.buried', data: {} })).status,
    (status) => status === 202,
  );
  await eventually(
    async () =>
      (await sql.query("SELECT FROM deliveries WHERE event_type = 'order.buried' AND status = 'delivered'")).rowCount,
    (delivered) => delivered === 1,
  );
});

test('a delivery that was held at the moment its webhook became active is not left behind', async () => {
  const event = await publish({ deliver_at: new Date(Date.now() + 86_400_000).toISOString() });
  await sql.query(
    "UPDATE deliveries SET status = 'held', due_at = 'infinity' WHERE due_at > now() + interval '1 hour' AND due_at < 'infinity' AND event_id = (SELECT id FROM events ORDER BY id DESC LIMIT 1)",
  );
  await eventually(
    () => deliveryOf(event),
    (delivery) => delivery.status === 'delivered',
    15_000,
  );
});
