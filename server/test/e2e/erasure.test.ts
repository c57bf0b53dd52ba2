import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import type pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createAuditLog } from '../../src/audit/log.ts';
import { openDatabase } from '../../src/db/pool.ts';
import { eraseSome } from '../../src/erasure/step.ts';
import { may, ROLES } from '../../src/http/permissions.ts';
import { systemClock } from '../../src/kernel/clock.ts';
import { createIdSource, parseId } from '../../src/kernel/ids.ts';
import { createLogger } from '../../src/kernel/logger.ts';
import { eventually } from '../../src/testing/eventually.ts';
import { startTestPosthorn, type TestPosthorn } from '../../src/testing/posthorn.ts';
import { type Receiver, startReceiver } from '../../src/testing/receiver.ts';
import { secretBoxOf } from '../../src/testing/secret-box.ts';

let posthorn: TestPosthorn;
let receiver: Receiver;
let pool: pg.Pool;

beforeAll(async () => {
  posthorn = await startTestPosthorn();
  receiver = await startReceiver();
  pool = posthorn.database.openPool();
});

afterAll(async () => {
  await pool.end();
  await posthorn.stop();
  await receiver.stop();
});

let tenants = 0;

/** A tenant of its own that takes any event type: the headers with which the operator acts for it. */
async function addTenant(): Promise<Record<string, string>> {
  tenants += 1;
  const slug = `tenant-${tenants}`;
  await posthorn.call('POST', '/api/v1/tenants', { name: slug, slug, settings: { allow_unknown_event_types: true } });
  return { 'x-tenant-id': slug };
}

// biome-ignore lint/suspicious/noExplicitAny: tests look into answers of every shape.
async function post(headers: Record<string, string>, where: string, body: unknown, status = 202): Promise<any> {
  const answer = await posthorn.call('POST', `/api/v1${where}`, body, headers);
  expect([answer.status, answer.text]).toEqual([status, answer.text]);
  return answer.body;
}

// biome-ignore lint/suspicious/noExplicitAny: as above.
async function get(headers: Record<string, string>, where: string): Promise<any> {
  return (await posthorn.call('GET', `/api/v1${where}`, undefined, headers)).body;
}

async function publish(headers: Record<string, string>, data: string, fields = ''): Promise<string> {
  return (await post(headers, '/events', `{"event_type":"order.paid","data":${data}${fields}}`)).id;
}

const ended = (headers: Record<string, string>, id: string) =>
  eventually(
    () => get(headers, `/erasures/${id}`),
    ({ status }) => status !== 'queued' && status !== 'running',
  );

/** With a key of the tenant's own. */
async function exportOf(
  tenant: Record<string, string>,
  who: string,
  signal?: AbortSignal,
  role = 'admin',
): Promise<Response> {
  const { key } = await post(tenant, '/api-keys', { name: 'k', role }, 201);
  return fetch(`${posthorn.url}/api/v1/exports`, {
    method: 'POST',
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
    body: JSON.stringify({ path: 'who', value: who }),
    ...(signal && { signal }),
  });
}

/** Tables with a row in which the text occurs anywhere, also as bytes. */
async function tablesWith(text: string): Promise<string[]> {
  const { rows } = await pool.query(`SELECT relname AS name FROM pg_class
    WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace AND NOT relispartition`);
  const hex = Buffer.from(text).toString('hex');
  const found: string[] = [];
  for (const { name } of rows) {
    const hit = await pool.query(
      `SELECT FROM ${name} t WHERE position($1 IN t::text) > 0 OR position($2 IN t::text) > 0 LIMIT 1`,
      [text, hex],
    );
    if (hit.rowCount !== 0) found.push(name);
  }
  return found.sort();
}

/** Files of the database that hold the text. */
async function filesWith(text: string): Promise<string[]> {
  const { rows } = await pool.query(
    `SELECT current_setting('data_directory') AS data, oid FROM pg_database WHERE datname = current_database()`,
  );
  const folder = path.join(rows[0].data, 'base', String(rows[0].oid));
  return readdirSync(folder).filter((file) => readFileSync(path.join(folder, file)).includes(text));
}

/** Does the steps of all erasures that would be due two minutes from now. */
async function eraseLater(): Promise<void> {
  const later = { ...systemClock, now: () => Date.now() + 121_000 };
  const logger = createLogger('silent');
  const handle = openDatabase({ connection: posthorn.database.connection, logger });
  const options = {
    db: handle.db,
    connection: posthorn.database.connection,
    box: await secretBoxOf(posthorn.database.connection),
    audit: createAuditLog({ newId: createIdSource() }),
    clock: later,
    logger,
  };
  while (await eraseSome(options));
  await handle.close();
}

const PERSON = 'eve.adams-4711@example.com';

test('of an erased person nothing is left in any table, nor in the files once they are written anew', async () => {
  const tenant = await addTenant();
  const other = await addTenant();
  receiver.onRequest = (request) => request.respond(request.path === '/dead' ? 400 : 200, { 'x-for': PERSON }, PERSON);
  const hook = { events: ['*'], retry_count: 0 };
  await post(tenant, '/webhooks', { ...hook, name: 'Well', url: receiver.url }, 201);
  await post(tenant, '/webhooks', { ...hook, name: 'Dead', url: `${receiver.url}/dead` }, 201);
  await post(tenant, '/webhooks', { ...hook, name: 'Held', url: receiver.url, is_active: false }, 201);
  const sample = { customer: { email: PERSON } };
  await post(tenant, '/event-types', { name: 'order.paid', group: 'Orders', description: 'Paid.', sample }, 201);
  const about = `{"customer":{"email":"${PERSON}"}}`;
  const keyed = `,"event_id":"order-${PERSON}","ordering_key":"${PERSON}","metadata":{"who":"${PERSON}"}`;
  const first = await publish(tenant, about, keyed);
  const spelled = await publish(tenant, '{"customer":{"email":"eve.adams-4711\\u0040example.com"}}');
  const listed = await publish(tenant, `{"customer":[{"email":"x"},{"email":["y","${PERSON}"]}]}`);
  const stays = await publish(tenant, '{"customer":{"email":"adam@example.com"}}');
  const foreign = await publish(other, about);
  await eventually(
    () => get(tenant, '/deliveries?limit=250'),
    ({ data }) => data.every(({ status }: { status: string }) => ['delivered', 'dead', 'held'].includes(status)),
  );
  expect(await tablesWith(PERSON)).toEqual(['attempts', 'deliveries', 'event_keys', 'event_types', 'events']);

  const job = await post(tenant, '/erasures', { path: 'customer.email', value: PERSON });
  expect(job).toMatchObject({ status: 'queued', path: 'customer.email' });
  expect(JSON.stringify(job)).not.toContain(PERSON);
  expect(await ended(tenant, job.id)).toMatchObject({
    status: 'completed',
    looked_at_events: 4,
    erased_events: 3,
    erased_attempts: 6,
    discarded_deliveries: 3,
    removed_dead_letters: 3,
    erased_samples: 1,
  });
  for (const id of [first, spelled, listed]) {
    const event = await get(tenant, `/events/${id}`);
    expect(event).toMatchObject({ data: null, metadata: null, ordering_key: null, event_type: 'order.paid' });
    expect(event.deliveries.map(({ status }: { status: string }) => status).sort()).toEqual([
      'dead',
      'delivered',
      'discarded',
    ]);
  }
  expect((await get(tenant, `/events/${stays}`)).data).toEqual({ customer: { email: 'adam@example.com' } });
  // Receivers have answered with the person for the other events too: that was not asked for.
  await pool.query(`UPDATE attempts SET response_body = NULL, response_headers = NULL WHERE event_id = ANY ($1)`, [
    [parseId('event', stays), parseId('event', foreign)],
  ]);
  // Another tenant's events are not touched.
  expect((await get(other, `/events/${foreign}`)).data).toEqual({ customer: { email: PERSON } });
  await posthorn.call('DELETE', `/api/v1/events/${foreign}/payload`, undefined, other);
  expect(await tablesWith(PERSON)).toEqual([]);
  expect(await tablesWith('eve.adams-4711')).toEqual([]);
  await pool.query('VACUUM FULL');
  await pool.query('CHECKPOINT');
  expect(await filesWith('eve.adams-4711')).toEqual([]);
  // The search would have found what is there.
  expect(await filesWith('adam@example.com')).not.toEqual([]);
}, 60_000);

test('events beyond the time, with another value, and of another environment stay; numbers count in every spelling', async () => {
  const tenant = await addTenant();
  const staging = { ...tenant, 'x-environment': 'staging' };
  const [one, two, text] = [
    await publish(tenant, '{"user":{"id":9007199254740993}}'),
    await publish(tenant, '{"user":{"id":90071992547409930e-1}}'),
    await publish(tenant, '{"user":{"id":"9007199254740993"}}'),
  ];
  const near = await publish(tenant, '{"user":{"id":9007199254740992}}');
  const elsewhere = await publish(staging, '{"user":{"id":9007199254740993}}');
  const job = await post(tenant, '/erasures', '{"path":"user.id","value":9007199254740993.0}');
  expect(await ended(tenant, job.id)).toMatchObject({ status: 'completed', erased_events: 2 });
  const isErased = async (headers: Record<string, string>, id: string) =>
    (await get(headers, `/events/${id}`)).data === null;
  expect(await Promise.all([one, two, text, near].map((id) => isErased(tenant, id)))).toEqual([
    true,
    true,
    false,
    false,
  ]);
  expect(await isErased(staging, elsewhere)).toBe(false);
  const early = await post(tenant, '/erasures', {
    path: 'user.id',
    value: '9007199254740993',
    until: '2026-01-01T00:00:00Z',
  });
  expect(await ended(tenant, early.id)).toMatchObject({ status: 'completed', erased_events: 0 });
});

test('what was under way at the erasure is not sent again, and what is recorded of it later is erased too', async () => {
  const tenant = await addTenant();
  receiver.requests.length = 0;
  receiver.onRequest = () => {};
  await post(tenant, '/webhooks', { name: 'W', url: receiver.url, events: ['*'] }, 201);
  const id = await publish(tenant, '{"who":"mallory-0815"}');
  const [request] = await receiver.received(1);
  const job = await post(tenant, '/erasures', { path: 'who', value: 'mallory-0815' });
  const row = () =>
    pool.query('SELECT stage, in_hand, next_step_at FROM erasure_jobs WHERE id = $1', [parseId('erasure', job.id)]);
  const waiting = await eventually(row, ({ rows }) => rows[0].stage === 'settle');
  expect(waiting.rows[0].in_hand).toHaveLength(1);
  expect(waiting.rows[0].next_step_at.getTime()).toBeGreaterThan(Date.now() + 100_000);
  request?.respond(500, { 'x-who': 'mallory-0815' }, 'mallory-0815 is not known');
  await eventually(
    () => tablesWith('mallory-0815'),
    (tables) => tables.length > 0,
  );
  await eraseLater();
  expect(await ended(tenant, job.id)).toMatchObject({ status: 'completed', erased_events: 1, discarded_deliveries: 1 });
  expect(await tablesWith('mallory-0815')).toEqual([]);
  const [delivery] = (await get(tenant, `/events/${id}`)).deliveries;
  expect(delivery).toMatchObject({ status: 'discarded', status_reason: 'payload_erased' });
  expect(receiver.requests).toHaveLength(1);
});

test('an attempt whose delivery was cancelled under way is erased too when it is recorded after the erasure', async () => {
  const tenant = await addTenant();
  receiver.requests.length = 0;
  receiver.onRequest = () => {};
  await post(tenant, '/webhooks', { name: 'W', url: receiver.url, events: ['*'] }, 201);
  const id = await publish(tenant, '{"who":"oscar-1701"}');
  const [request] = await receiver.received(1);
  const [delivery] = (await get(tenant, `/events/${id}`)).deliveries;
  await posthorn.call('POST', `/api/v1/deliveries/${delivery.id}/cancel`, undefined, tenant);
  const job = await post(tenant, '/erasures', { path: 'who', value: 'oscar-1701' });
  await eventually(
    () => get(tenant, `/erasures/${job.id}`),
    ({ erased_events }) => erased_events === 1,
  );
  request?.respond(500, {}, 'oscar-1701 is not known');
  await eventually(
    () => tablesWith('oscar-1701'),
    (tables) => tables.includes('attempts'),
  );
  await eraseLater();
  expect(await ended(tenant, job.id)).toMatchObject({ status: 'completed', erased_attempts: 1 });
  expect(await tablesWith('oscar-1701')).toEqual([]);
});

test('keys of requests that hold the value go, answered or not, and no other', async () => {
  const tenant = await addTenant();
  const other = await addTenant();
  const make = (headers: Record<string, string>, key: string, name: string) =>
    post({ ...headers, 'idempotency-key': key }, '/api-keys', { name, role: 'viewer' }, 201);
  await make(tenant, 'key-for-judy-2501', 'k');
  await make(tenant, 'key-of-the-answer', 'judy-2501');
  await make(tenant, 'key-of-another', 'k');
  await make(other, 'key-for-judy-2501', 'k');
  await pool.query(`INSERT INTO idempotent_requests (tenant_id, environment_id, key, request_hash, created_at)
    SELECT tenant_id, environment_id, 'under-way-judy-2501', 'x', now() FROM idempotent_requests
    WHERE key = 'key-of-another'`);
  const job = await post(tenant, '/erasures', { path: 'who', value: 'judy-2501' });
  expect(await ended(tenant, job.id)).toMatchObject({ status: 'completed', removed_answers: 3 });
  const left = await pool.query('SELECT key FROM idempotent_requests ORDER BY key');
  expect(left.rows.map(({ key }) => key)).toEqual(['key-for-judy-2501', 'key-of-another']);
  expect((await get(tenant, '/api-keys')).data.map(({ name }: { name: string }) => name)).toContain('judy-2501');
});

test('nothing of an erased person is left in the statistics that PostgreSQL keeps of the tables', async () => {
  const tenant = await addTenant();
  for (let n = 0; n < 30; n += 1) {
    await publish(tenant, '{"who":"heidi-3003"}', `,"event_id":"${n}-heidi-3003","ordering_key":"heidi-3003"`);
  }
  // As autovacuum does; of a whole partitioned table only people do.
  await pool.query('ANALYZE');
  const known = () =>
    pool.query(`SELECT tablename FROM pg_stats s WHERE position('heidi-3003' IN s::text) > 0
      OR position('${Buffer.from('heidi-3003').toString('hex')}' IN s::text) > 0`);
  expect((await known()).rows.map(({ tablename }) => tablename)).toEqual(
    expect.arrayContaining(['events', 'event_keys']),
  );
  const job = await post(tenant, '/erasures', { path: 'who', value: 'heidi-3003' });
  expect(await ended(tenant, job.id)).toMatchObject({ status: 'completed', erased_events: 30 });
  expect((await known()).rows).toEqual([]);
});

test.each([
  ['a replay', (id: string) => [`/events/${id}/replay`, {}]],
  ['a replay job', () => ['/replays', { since: '2026-01-01T00:00:00Z', until: new Date().toISOString() }]],
] as const)('%s that is just adding a delivery does not bring back what is erased', async (_name, replayOf) => {
  const tenant = await addTenant();
  receiver.onRequest = (request) => request.respond(200);
  await post(tenant, '/webhooks', { name: 'W', url: receiver.url, events: ['*'] }, 201);
  const id = await publish(tenant, '{"who":"grace-5150"}', ',"ordering_key":"grace-5150"');
  await eventually(
    () => get(tenant, '/deliveries?status=delivered'),
    ({ data }) => data.length === 1,
  );
  const waits = (statement: string) =>
    eventually(
      () =>
        pool.query(
          `SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database() AND query ~ $1`,
          [statement],
        ),
      ({ rowCount }) => rowCount === 1,
    );
  const holder = await pool.connect();
  const [where, body] = replayOf(id);
  // biome-ignore lint/suspicious/noExplicitAny: an erasure as the API shows it
  let job: any;
  try {
    await holder.query('BEGIN; LOCK TABLE deliveries IN SHARE MODE');
    const replay = posthorn.call('POST', `/api/v1${where}`, body, tenant);
    await waits('INSERT INTO deliveries');
    job = await post(tenant, '/erasures', { path: 'who', value: 'grace-5150' });
    await waits('UPDATE events|payload_erased|in_hand');
    await holder.query('COMMIT');
    expect((await replay).status).toBe(202);
  } finally {
    holder.release(true);
  }
  await eventually(
    () => get(tenant, `/erasures/${job.id}`),
    ({ erased_events }) => erased_events === 1,
  );
  await eraseLater();
  expect(await ended(tenant, job.id)).toMatchObject({ status: 'completed' });
  expect(await tablesWith('grace-5150')).toEqual([]);
});

test('an erasure that was stopped goes on with the next start, and a cancelled one forgets the value', async () => {
  const tenant = await addTenant();
  const events = Array.from({ length: 400 }, (_, n) => ({ event_type: 'order.paid', data: { n, who: 'trent-1234' } }));
  for (let batch = 0; batch < 3; batch += 1) await post(tenant, '/events/batch', { events });
  const job = await post(tenant, '/erasures', { path: 'who', value: 'trent-1234' });
  await eventually(
    () => get(tenant, `/erasures/${job.id}`),
    ({ erased_events }) => erased_events > 0,
  );
  await posthorn.restart();
  expect(await ended(tenant, job.id)).toMatchObject({
    status: 'completed',
    erased_events: 1_200,
    looked_at_events: 1_200,
  });
  expect(await tablesWith('trent-1234')).toEqual([]);

  const values = () => pool.query('SELECT FROM erasure_jobs WHERE value_box IS NOT NULL');
  expect((await values()).rowCount).toBe(0);
  const box = await secretBoxOf(posthorn.database.connection);
  await pool.query(
    `UPDATE erasure_jobs SET status = 'running', completed_at = NULL, value_box = $2,
    next_step_at = now() + interval '1 hour' WHERE id = $1`,
    [parseId('erasure', job.id), box.seal('"trent-1234"', 'anywhere')],
  );
  const cancelled = await posthorn.call('DELETE', `/api/v1/erasures/${job.id}`, undefined, tenant);
  expect([cancelled.status, cancelled.body.status]).toEqual([200, 'cancelled']);
  expect((await values()).rowCount).toBe(0);
});

test('ten erasures of an environment may be unfinished, however many are asked for at once', async () => {
  const tenant = await addTenant();
  // None of them begins.
  await pool.query(`
    CREATE FUNCTION wait_an_hour() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      NEW.next_step_at := now() + interval '1 hour';
      RETURN NEW;
    END $$;
    CREATE TRIGGER wait_an_hour BEFORE INSERT ON erasure_jobs FOR EACH ROW EXECUTE FUNCTION wait_an_hour()`);
  try {
    const asked = Array.from({ length: 16 }, (_, n) =>
      posthorn.call('POST', '/api/v1/erasures', { path: 'who', value: `mallory-${n}` }, tenant),
    );
    const statuses = (await Promise.all(asked)).map(({ status }) => status);
    expect(statuses.toSorted()).toEqual([...Array(10).fill(202), ...Array(6).fill(409)]);
  } finally {
    await pool.query('DROP TRIGGER wait_an_hour ON erasure_jobs; DROP FUNCTION wait_an_hour');
  }
  for (const { id } of (await get(tenant, '/erasures')).data) {
    await posthorn.call('DELETE', `/api/v1/erasures/${id}`, undefined, tenant);
  }
});

test.each(ROLES.filter((role) => role !== 'operator'))(
  'the role %s gets an export only if it is shown payloads as they are',
  async (role) => {
    const tenant = await addTenant();
    await publish(tenant, '{"who":"walter","card":"4111111111111111"}');
    const answer = await exportOf(tenant, 'walter', undefined, role);
    expect(answer.status).toBe(may(role, 'reveal') ? 200 : 403);
    expect((await answer.text()).includes('4111111111111111')).toBe(may(role, 'reveal'));
  },
);

test('an export has each event of the person with its deliveries and attempts, as they are held, and says where it ends', async () => {
  const tenant = await addTenant();
  receiver.onRequest = (request) => request.respond(200, {}, 'thanks, walter');
  await post(tenant, '/webhooks', { name: 'W', url: receiver.url, events: ['*'] }, 201);
  const ids = [
    await publish(tenant, '{"b":1.0,"who":"walter","a":"\\u00e9"}', ',"metadata":{"m":1}'),
    await publish(tenant, '{"who":"walter"}'),
  ];
  await publish(tenant, '{"who":"peggy"}');
  await eventually(
    () => get(tenant, '/deliveries?status=delivered'),
    ({ data }) => data.length === 3,
  );
  const answer = await exportOf(tenant, 'walter');
  expect([answer.status, answer.headers.get('content-type')]).toEqual([200, 'application/x-ndjson; charset=utf-8']);
  const lines = (await answer.text()).trimEnd().split('\n');
  const rows = lines.map((line) => JSON.parse(line));
  expect(rows.map(({ type }) => type)).toEqual([
    ...['event', 'delivery', 'attempt', 'event', 'delivery', 'attempt', 'end'],
  ]);
  expect(rows.filter(({ type }) => type === 'event').map(({ id }) => id)).toEqual(ids);
  expect(lines[0]).toContain('"data":{"b":1.0,"who":"walter","a":"\\u00e9"},"metadata":{"m":1}');
  expect(rows[2]).toMatchObject({ response_body: 'thanks, walter', number: 1 });
  expect(rows[2].request_body).toContain('"who":"walter"');
  expect(rows.at(-1)).toEqual({ type: 'end', events: 2, deliveries: 2, attempts: 2, event_type_samples: 0 });
  expect(await (await exportOf(tenant, 'nobody')).json()).toMatchObject({ type: 'end', events: 0 });
});

test('a large export is read as it is taken, and one that nobody takes any more ends', async () => {
  const tenant = await addTenant();
  const filling = 'x'.repeat(200_000);
  for (let n = 0; n < 60; n += 1) await publish(tenant, `{"who":"big","filling":"${filling}"}`);
  const aborting = new AbortController();
  const response = await exportOf(tenant, 'big', aborting.signal);
  const reader = response.body?.getReader();
  await reader?.read();
  aborting.abort();
  const whole = await (await exportOf(tenant, 'big')).text();
  expect(whole.length).toBeGreaterThan(60 * filling.length);
  expect(JSON.parse(whole.trimEnd().split('\n').at(-1) ?? '')).toMatchObject({ type: 'end', events: 60 });
}, 60_000);

test('only who administers may erase and export, and another tenant’s erasure is not found', async () => {
  const [tenant, other] = [await addTenant(), await addTenant()];
  const job = await post(tenant, '/erasures', { path: 'who', value: 'x' });
  for (const method of ['GET', 'DELETE']) {
    const answer = await posthorn.call(method, `/api/v1/erasures/${job.id}`, undefined, other);
    const none = await posthorn.call(method, `/api/v1/erasures/${job.id.slice(0, -1)}7`, undefined, other);
    expect([answer.status, answer.body.error.message]).toEqual([404, 'No such erasure.']);
    expect(none.status).toBe(404);
  }
  expect((await get(other, '/erasures')).data).toEqual([]);
  for (const role of ['developer', 'publisher', 'viewer']) {
    const { key } = await post(tenant, '/api-keys', { name: role, role }, 201);
    const headers = { authorization: `Bearer ${key}` };
    for (const [method, where] of [
      ['POST', '/erasures'],
      ['GET', '/erasures'],
      ['GET', `/erasures/${job.id}`],
      ['DELETE', `/erasures/${job.id}`],
      ['POST', '/exports'],
    ]) {
      const body = method === 'POST' ? { path: 'who', value: 'x' } : undefined;
      expect((await posthorn.call(method as string, `/api/v1${where}`, body, headers)).status).toBe(403);
    }
  }
});

test.each([
  [{ path: '', value: 'x' }, 'path'],
  [{ path: 'a..b', value: 'x' }, 'path'],
  [{ path: '.', value: 'x' }, 'path'],
  [{ path: 'a\0b', value: 'x' }, 'path'],
  [{ path: Array(33).fill('a').join('.'), value: 'x' }, 'path'],
  [{ path: 'a' }, 'value'],
  [{ path: 'a', value: '' }, 'value'],
  [{ path: 'a', value: null }, 'value'],
  [{ path: 'a', value: {} }, 'value'],
  [{ path: 'a', value: 'x'.repeat(1_025) }, 'value'],
  [{ path: 'a', value: 'x', since: '2999-01-01T00:00:00Z' }, 'since'],
  [{ path: 'a', value: 'x', since: '2026-01-02T00:00:00Z', until: '2026-01-01T00:00:00Z' }, 'since'],
  [{ path: 'a', value: 'x', more: 1 }, 'more'],
])('a request for %j is refused, and the field named', async (body, field) => {
  for (const where of ['/erasures', '/exports']) {
    const answer = await posthorn.call('POST', `/api/v1${where}`, body);
    expect([where, answer.status, answer.body.error.details?.fields?.[0]?.path]).toEqual([where, 422, field]);
  }
});
