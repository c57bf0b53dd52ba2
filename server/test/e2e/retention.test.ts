import type pg from 'pg';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { DAY_MS, ensurePartitions, listPartitions } from '../../src/db/partitions.ts';
import { createIdSource, firstIdAt } from '../../src/kernel/ids.ts';
import { eventually } from '../../src/testing/eventually.ts';
import { startTestPosthorn, type TestPosthorn } from '../../src/testing/posthorn.ts';
import { type Receiver, startReceiver } from '../../src/testing/receiver.ts';

let posthorn: TestPosthorn;
let receiver: Receiver;
let pool: pg.Pool;
const newId = createIdSource();

beforeEach(async () => {
  posthorn = await startTestPosthorn();
  receiver = await startReceiver();
  pool = posthorn.database.openPool();
});

afterEach(async () => {
  await pool.end();
  await posthorn.stop();
  await receiver.stop();
});

/** Thousands of ended deliveries of that day, as they are after it. Gives their ids. */
async function fillDay(dayMs: number, rows: number): Promise<string[]> {
  await ensurePartitions(pool, dayMs);
  const ids = Array.from({ length: rows }, () => firstIdAt(dayMs + DAY_MS / 2).slice(0, 14) + newId().slice(14));
  const scope = `SELECT e.tenant_id, e.id FROM environments e JOIN tenants t ON t.id = e.tenant_id
    WHERE t.slug = 'default' AND e.name = 'production'`;
  await pool.query(
    `INSERT INTO events (tenant_id, environment_id, id, event_type, occurred_at, data, priority, delivery_count, is_test)
     SELECT s.tenant_id, s.id, i.id, 'a.b', now(), '{"a":1}', 0, 1, false FROM (${scope}) s, unnest($1::uuid[]) AS i (id)`,
    [ids],
  );
  await pool.query(
    `INSERT INTO deliveries (tenant_id, environment_id, id, event_id, webhook_id, event_type, status, trigger, priority, attempt_count)
     SELECT s.tenant_id, s.id, i.id, i.id, i.id, 'a.b', 'delivered', 'scheduled', 0, 1
     FROM (${scope}) s, unnest($1::uuid[]) AS i (id)`,
    [ids],
  );
  return ids;
}

const isOver = async () =>
  (
    await pool.query(`SELECT FROM pg_stat_activity
    WHERE application_name = 'posthorn-retention' AND datname = current_database()`)
  ).rowCount === 0;

test('days are dropped and payloads blanked while events are published and delivered, and none is lost or late', async () => {
  const todayMs = Math.floor(Date.now() / DAY_MS) * DAY_MS;
  await fillDay(todayMs - 95 * DAY_MS, 500);
  const old = await fillDay(todayMs - 40 * DAY_MS, 3_000);
  await posthorn.call('POST', '/api/v1/webhooks', { name: 'W', url: receiver.url, events: ['order.paid'] });

  let working = true;
  let published = 0;
  const publishing = Array.from({ length: 4 }, async () => {
    while (working) {
      const answer = await posthorn.call('POST', '/api/v1/events', {
        event_type: 'order.paid',
        data: { n: published },
      });
      expect(answer.status).toBe(202);
      published += 1;
    }
  });
  await receiver.received(20);
  expect((await posthorn.call('POST', '/api/v1/retention/run')).body).toEqual({ started: true });
  expect((await posthorn.call('POST', '/api/v1/retention/run')).body).toEqual({ started: false });
  const blanked = () => pool.query('SELECT count(*)::int AS n FROM events WHERE data IS NULL AND id = ANY ($1)', [old]);
  await eventually(
    async () => (await blanked()).rows[0].n,
    (n) => n === 3_000,
    30_000,
  );
  working = false;
  await Promise.all(publishing);
  await eventually(isOver, (over) => over);
  const client = await pool.connect();
  const left = (await listPartitions(client)).filter(({ dayMs }) => dayMs < todayMs - 91 * DAY_MS);
  client.release();
  expect(left).toEqual([]);
  await receiver.received(published);
  await eventually(
    async () =>
      (
        await pool.query(`SELECT status, attempt_count, count(*)::int AS n FROM deliveries
          WHERE event_type = 'order.paid' GROUP BY 1, 2`)
      ).rows,
    (rows) => rows.length === 1 && rows[0].status === 'delivered' && rows[0].n === published,
  );
  const shown = await posthorn.call('GET', `/api/v1/events?until=${new Date(todayMs).toISOString()}`);
  const one = await posthorn.call('GET', `/api/v1/events/${shown.body.data[0].id}`);
  expect(one.body).toMatchObject({ data: null, metadata: null, event_type: 'a.b' });
}, 60_000);

test('the result of an attempt whose day went meanwhile is recorded all the same, and others with it', async () => {
  const webhook = await posthorn.call('POST', '/api/v1/webhooks', {
    name: 'W',
    url: receiver.url,
    events: ['order.paid'],
  });
  receiver.onRequest = () => {};
  await posthorn.call('POST', '/api/v1/events', { event_type: 'order.paid', data: { n: 1 } });
  const [request] = await receiver.received(1);
  const client = await pool.connect();
  const day = (await client.query('SELECT tableoid::regclass::text AS name FROM deliveries')).rows[0].name;
  await client.query(`ALTER TABLE deliveries DETACH PARTITION ${day} CONCURRENTLY`);
  await client.query(`DROP TABLE ${day}`);
  client.release();
  request?.respond(200);
  const logs = () => posthorn.call('GET', `/api/v1/webhooks/${webhook.body.id}/logs`);
  const { body } = await eventually(logs, (answer) => answer.body.data.length === 1);
  expect(body.data[0]).toMatchObject({ number: 1, is_success: true });
});

test('how long records are kept is shown for the caller’s environment, with the tenant’s settings under its own', async () => {
  await posthorn.call('POST', '/api/v1/tenants', {
    name: 'Other',
    slug: 'other',
    settings: { retention: { payload_days: 200, event_days: 20 } },
  });
  await posthorn.call('PATCH', '/api/v1/tenants/other/environments/staging', { retention: { attempt_days: 3 } });
  const shown = async (headers: Record<string, string>) =>
    (await posthorn.call('GET', '/api/v1/retention', undefined, headers)).body;
  expect(await shown({})).toEqual({ payload_days: 30, attempt_days: 30, event_days: 90, audit_days: 365 });
  // Nothing of an event is kept for longer than the event.
  expect(await shown({ 'x-tenant-id': 'other' })).toEqual({
    payload_days: 20,
    attempt_days: 20,
    event_days: 20,
    audit_days: 365,
  });
  expect((await shown({ 'x-tenant-id': 'other', 'x-environment': 'staging' })).attempt_days).toBe(3);
});
