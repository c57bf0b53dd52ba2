import pg from 'pg';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { bySystem } from '../audit/auditor.ts';
import { PLATFORM_CHAIN } from '../audit/hash.ts';
import { createAuditLog } from '../audit/log.ts';
import { removeEntriesBefore } from '../audit/queries.ts';
import { verifyChain } from '../audit/verify.ts';
import { DAY_MS, ensurePartitions, listPartitions } from '../db/partitions.ts';
import { type DatabaseHandle, openDatabase } from '../db/pool.ts';
import { systemClock } from '../kernel/clock.ts';
import { createIdSource, firstIdAt } from '../kernel/ids.ts';
import { createLogger } from '../kernel/logger.ts';
import { createTestDatabase, type TestDatabase } from '../testing/database.ts';
import { Pace } from './pace.ts';
import { type RoundReport, runRound } from './round.ts';

const NOON = Date.parse('2026-06-30T12:00:00Z');
const logger = createLogger('silent');
const newId = createIdSource();
let database: TestDatabase;
let pool: pg.Pool;
let client: pg.Client;
let handle: DatabaseHandle;

beforeAll(async () => {
  database = await createTestDatabase();
  pool = database.openPool();
  client = new pg.Client(database.connection);
  await client.connect();
  handle = openDatabase({ connection: database.connection, logger });
});

beforeEach(async () => {
  await client.query('TRUNCATE tenants, events, deliveries, attempts, dead_letters, nodes CASCADE');
  for (const { name } of await listPartitions(client)) await client.query(`DROP TABLE ${name}`);
  for (const days of [0, 4, 10, 31, 40, 60, 91, 95]) await ensurePartitions(pool, NOON - days * DAY_MS);
});

afterAll(async () => {
  await handle.close();
  await client.end();
  await pool.end();
  await database.drop();
});

interface Scope {
  tenantId: string;
  environmentId: string;
}

async function addEnvironment(retention: object = {}, ofEnvironment: object | null = null): Promise<Scope> {
  const scope = { tenantId: newId(), environmentId: newId() };
  await client.query(
    `INSERT INTO tenants (id, slug, name, settings, created_at, updated_at) VALUES ($1, $2, 'T', $3, now(), now())`,
    [scope.tenantId, scope.tenantId, JSON.stringify({ retention })],
  );
  await client.query(
    `INSERT INTO environments (tenant_id, id, name, retention, created_at) VALUES ($1, $2, 'production', $3, now())`,
    [scope.tenantId, scope.environmentId, ofEnvironment === null ? null : JSON.stringify(ofEnvironment)],
  );
  return scope;
}

/** An event of so many days ago, with a delivery, its attempt and, where it is dead, its dead letter. Gives its id. */
async function addEvent(
  { tenantId, environmentId }: Scope,
  daysAgo: number,
  delivery: { status?: string; due?: string | null; lease?: number | null; webhookId?: string } = {},
): Promise<string> {
  const { status = 'delivered', due = null, lease = null, webhookId = newId() } = delivery;
  const id = firstIdAt(NOON - daysAgo * DAY_MS).slice(0, 14) + newId().slice(14);
  const scope = [tenantId, environmentId, id];
  await client.query(
    `INSERT INTO events (tenant_id, environment_id, id, event_type, occurred_at, data, metadata, priority, delivery_count, is_test)
     VALUES ($1, $2, $3, 'a.b', now(), '{"a":1}', '{}', 0, 1, false)`,
    scope,
  );
  await client.query(
    `INSERT INTO deliveries (tenant_id, environment_id, id, event_id, webhook_id, event_type, status, trigger, priority,
       attempt_count, due_at, lease_node)
     VALUES ($1, $2, $3, $3, $4, 'a.b', $5, 'scheduled', 0, 1, $6, $7)`,
    [...scope, webhookId, status, due, lease],
  );
  await client.query(
    `INSERT INTO attempts (tenant_id, environment_id, id, delivery_id, event_id, webhook_id, event_type, number, trigger,
       url, http_method, request_headers, envelope, response_truncated, duration_ms)
     VALUES ($1, $2, $3, $3, $3, $4, 'a.b', 1, 'scheduled', 'https://e.example', 'POST', '{}', 'standard', false, 1)`,
    [...scope, webhookId],
  );
  if (status === 'dead') {
    await client.query(
      `INSERT INTO dead_letters (tenant_id, environment_id, delivery_id, event_id, webhook_id, event_type, reason,
         attempt_count, dead_at) VALUES ($1, $2, $3, $3, $4, 'a.b', 'r', 1, now())`,
      [...scope, webhookId],
    );
  }
  return id;
}

/** Its timers ring at once: a round rests for as long as it must, and no longer. */
const restless = { ...systemClock, after: (_: number, task: () => void) => systemClock.after(0, task) };

/** Which of an event is there: `event payload delivery attempt letter`. */
async function partsOf(id: string): Promise<string> {
  const { rows } = await client.query(
    `SELECT concat_ws(' ',
       (SELECT 'event' FROM events WHERE id = $1), (SELECT 'payload' FROM events WHERE id = $1 AND data IS NOT NULL),
       (SELECT 'delivery' FROM deliveries WHERE id = $1), (SELECT 'attempt' FROM attempts WHERE id = $1),
       (SELECT 'letter' FROM dead_letters WHERE delivery_id = $1)) AS parts`,
    [id],
  );
  return rows[0].parts;
}

const removeAuditBefore = (tenantId: string, beforeMs: number) => removeEntriesBefore(handle.db, tenantId, beforeMs);

async function round(nowMs = NOON, pace = new Pace(restless)): Promise<RoundReport> {
  const report = await runRound({ client, nowMs, pace, logger, removeAuditBefore });
  if (report === undefined) throw new Error('another round was under way');
  return report;
}

const namesOf = async () => (await listPartitions(client)).map(({ name }) => name);

test('nothing of a payload that is gone is left in the statistics of its day', async () => {
  const short = await addEnvironment({ payload_days: 3 });
  const long = await addEnvironment({ payload_days: 90 });
  for (let n = 0; n < 20; n += 1) await addEvent(short, 10);
  await addEvent(long, 10);
  await client.query(`UPDATE events SET data = 'of-a-person' WHERE tenant_id = $1`, [short.tenantId]);
  await client.query('ANALYZE');
  const hex = Buffer.from('of-a-person').toString('hex');
  const known = () => client.query('SELECT FROM pg_stats s WHERE position($1 IN s::text) > 0', [hex]);
  expect((await known()).rowCount).toBeGreaterThan(0);
  await round();
  expect((await known()).rowCount).toBe(0);
});

test('with the defaults payloads and attempts go after 30 days, and whole days of everything after 90', async () => {
  const scope = await addEnvironment();
  const young = await addEvent(scope, 30);
  const middle = await addEvent(scope, 31, { status: 'dead' });
  const old = await addEvent(scope, 90);
  const oldest = await addEvent(scope, 91, { status: 'dead' });
  const report = await round();
  expect(await partsOf(young)).toBe('event payload delivery attempt');
  expect(await partsOf(middle)).toBe('event delivery letter');
  expect(await partsOf(old)).toBe('event delivery');
  expect(await partsOf(oldest)).toBe('');
  expect(report.dropped).toContain('events_20260331');
  const names = await namesOf();
  expect(names).not.toContain('attempts_20260530');
  expect(names).toContain('attempts_20260531');
  expect(names).not.toContain('events_20260331');
  expect(names).not.toContain('deliveries_20260331');
  expect(names).toContain('events_20260401');
});

test('what a template made of an event goes with its payload, from attempts of all days; other attempts stay as they are', async () => {
  const scope = await addEnvironment({ payload_days: 1, attempt_days: 20, event_days: 30 });
  const [blanked, waiting, plain] = [
    await addEvent(scope, 3),
    await addEvent(scope, 3, { status: 'failed', due: new Date(NOON).toISOString() }),
    await addEvent(scope, 3),
  ];
  const later = await addEvent(scope, 0);
  await client.query(`UPDATE attempts SET event_id = $1, delivery_id = $1 WHERE id = $2`, [blanked, later]);
  await client.query(
    `UPDATE attempts SET request_body = 'made', request_headers = '{"x-mail":"made"}', url = 'https://a.example/made?m=1'
     WHERE id = ANY ($1)`,
    [[blanked, waiting, later]],
  );
  await client.query(
    `UPDATE attempts SET request_headers = '{"x-a":"1"}', url = 'https://b.example/own' WHERE id = $1`,
    [plain],
  );
  await round();
  const { rows } = await client.query(
    `SELECT id, request_body::text AS body, request_headers AS headers, url FROM attempts WHERE tenant_id = $1`,
    [scope.tenantId],
  );
  const made = { body: '\\x6d616465', headers: '{"x-mail":"made"}', url: 'https://a.example/made?m=1' };
  const expected = [
    { id: blanked, body: null, headers: '{}', url: 'https://a.example/' },
    { id: later, body: null, headers: '{}', url: 'https://a.example/' },
    { id: waiting, ...made },
    { id: plain, body: null, headers: '{"x-a":"1"}', url: 'https://b.example/own' },
  ];
  const byId = (a: { id: string }, b: { id: string }) => (a.id < b.id ? -1 : 1);
  expect(rows.sort(byId)).toEqual(expected.sort(byId));
});

test('a day goes as a table only when the longest retention is over; until then the rows of the others go', async () => {
  const short = await addEnvironment({ payload_days: 1, attempt_days: 1, event_days: 2 });
  const long = await addEnvironment({ payload_days: 80, attempt_days: 80, event_days: 80 });
  const [gone, dead, stays] = [
    await addEvent(short, 10),
    await addEvent(short, 10, { status: 'dead' }),
    await addEvent(long, 10),
  ];
  const [blanked, kept] = [await addEvent(short, 2), await addEvent(short, 1)];
  await round();
  expect(await partsOf(gone)).toBe('');
  expect(await partsOf(dead)).toBe('');
  expect(await partsOf(stays)).toBe('event payload delivery attempt');
  expect(await partsOf(blanked)).toBe('event delivery');
  expect(await partsOf(kept)).toBe('event payload delivery attempt');
  const names = await namesOf();
  expect(names).toContain('events_20260620');
  expect(names).not.toContain('events_20260401');
});

test('what an environment says for itself counts before what its tenant says', async () => {
  const scope = await addEnvironment({ payload_days: 1, event_days: 5 }, { payload_days: 5 });
  const id = await addEvent(scope, 4);
  await round();
  expect(await partsOf(id)).toContain('payload');
});

test('rows of an environment that is not there any more go with the end of their day, and keep no day from going', async () => {
  await addEnvironment({ event_days: 40 });
  const [orphan, today] = [
    await addEvent({ tenantId: newId(), environmentId: newId() }, 1),
    await addEvent({ tenantId: newId(), environmentId: newId() }, 0),
  ];
  await round();
  expect(await partsOf(orphan)).toBe('');
  expect(await partsOf(today)).toContain('event');
});

test('a delivery that waits for a time keeps its event with the payload, and its day, until it has ended', async () => {
  const scope = await addEnvironment();
  const waiting = await addEvent(scope, 95, { status: 'failed', due: new Date(NOON - 1_000).toISOString() });
  const scheduled = await addEvent(scope, 95, { status: 'pending', due: new Date(NOON + DAY_MS).toISOString() });
  const ended = await addEvent(scope, 95, { status: 'dead' });
  const blankable = await addEvent(scope, 40, { status: 'failed', due: new Date(NOON).toISOString() });
  await round();
  expect(await partsOf(waiting)).toBe('event payload delivery');
  expect(await partsOf(scheduled)).toBe('event payload delivery');
  expect(await partsOf(ended)).toBe('');
  expect(await partsOf(blankable)).toBe('event payload delivery');
  await client.query(`UPDATE deliveries SET due_at = NULL, status = 'delivered'`);
  await round();
  expect(await partsOf(waiting)).toBe('');
  expect(await namesOf()).not.toContain('deliveries_20260327');
  // A day with payloads that were left is looked through again a day later.
  expect(await partsOf(blankable)).toContain('payload');
  await round(NOON + DAY_MS);
  expect(await partsOf(blankable)).toBe('event delivery');
});

test('a delivery that a node has in hand keeps its day', async () => {
  const scope = await addEnvironment();
  const node = await client.query(
    'INSERT INTO nodes (started_at, heartbeat_at, oldest_leased_id) VALUES (now(), now(), $1) RETURNING id',
    [firstIdAt(NOON - 95 * DAY_MS - 1)],
  );
  const inHand = await addEvent(scope, 95, { status: 'failed', lease: node.rows[0].id });
  await round();
  expect(await partsOf(inHand)).toBe('event payload delivery');
  await client.query('UPDATE nodes SET oldest_leased_id = $1', [firstIdAt(NOON)]);
  await round();
  expect(await partsOf(inHand)).toBe('');
});

test('what is held keeps its payload until its event’s time is over, and goes with its day then', async () => {
  const scope = await addEnvironment();
  const held = await addEvent(scope, 60, { status: 'held', due: 'infinity' });
  const tooOld = await addEvent(scope, 95, { status: 'held', due: 'infinity' });
  await round();
  expect(await partsOf(held)).toBe('event payload delivery');
  expect(await partsOf(tooOld)).toBe('');
});

test('a key that a dead delivery parks goes on when that goes with its day, and every node is told', async () => {
  const scope = await addEnvironment();
  const webhookId = newId();
  await client.query(
    `INSERT INTO webhooks (tenant_id, environment_id, id, name, url, events, status, http_method, created_at, updated_at)
     VALUES ($1, $2, $3, 'W', 'https://e.example/', '{*}', 'active', 'POST', now(), now())`,
    [scope.tenantId, scope.environmentId, webhookId],
  );
  const [old, young] = [
    await addEvent(scope, 95, { status: 'dead', webhookId }),
    await addEvent(scope, 5, { status: 'dead', webhookId }),
  ];
  for (const id of [old, young]) {
    await client.query('INSERT INTO parked_keys VALUES ($1, $2, $3, $4, now())', [scope.tenantId, webhookId, id, id]);
  }
  const listener = new pg.Client(database.connection);
  await listener.connect();
  const told: string[] = [];
  listener.on('notification', ({ payload }) => told.push(payload ?? ''));
  await listener.query('LISTEN posthorn_changes');
  await round();
  const { rows } = await client.query('SELECT delivery_id FROM parked_keys');
  expect(rows).toEqual([{ delivery_id: young }]);
  await listener.query('SELECT');
  await listener.end();
  expect(told.map((text) => JSON.parse(text))).toEqual([{ topic: 'deliveries_cancelled', ...scope, deliveryIds: [] }]);
});

test('a round that is stopped goes on where it was, and two are never under way', async () => {
  const scope = await addEnvironment();
  const ids: string[] = [];
  for (let count = 0; count < 150; count += 1) ids.push(await addEvent(scope, 40));
  const pace = new Pace(systemClock);
  // The first step looks at 100 rows; it is stopped in the pause after that.
  const stopping = round(NOON, pace);
  const other = new pg.Client(database.connection);
  await other.connect();
  const blanked = async () =>
    (await other.query('SELECT count(*)::int AS n FROM events WHERE data IS NULL')).rows[0].n as number;
  while ((await blanked()) === 0);
  expect(
    await runRound({ client: other, nowMs: NOON, pace: new Pace(systemClock), logger, removeAuditBefore }),
  ).toBeUndefined();
  pace.stop();
  await stopping;
  const first = await blanked();
  expect(first).toBeLessThanOrEqual(150);
  await other.end();
  await round();
  expect((await client.query('SELECT count(*)::int AS n FROM events WHERE data IS NULL')).rows[0].n).toBe(150);
  expect((await round()).blankedPayloads).toBe(0);
});

test('a drop that was cut short half way is finished by the next round', async () => {
  await addEnvironment();
  await client.query('ALTER TABLE events DETACH PARTITION events_20260327 CONCURRENTLY');
  // A transaction that may still see the day holds up the drop until the timeout, and nobody else meanwhile.
  const holder = new pg.Client(database.connection);
  await holder.connect();
  await holder.query('BEGIN');
  await holder.query('SELECT count(*) FROM deliveries');
  await client.query(`SET statement_timeout = '300ms'`);
  await expect(
    client.query('ALTER TABLE deliveries DETACH PARTITION deliveries_20260327 CONCURRENTLY'),
  ).rejects.toThrow();
  expect((await pool.query('SELECT count(*) FROM deliveries')).rowCount).toBe(1);
  await client.query('RESET statement_timeout');
  await holder.query('ROLLBACK');
  await holder.end();
  const states = new Map((await listPartitions(client)).map(({ name, state }) => [name, state]));
  expect([states.get('events_20260327'), states.get('deliveries_20260327')]).toEqual(['left', 'leaving']);
  await round();
  const names = await namesOf();
  expect(names).not.toContain('events_20260327');
  expect(names).not.toContain('deliveries_20260327');
});

test('audit entries go by the longest time of their tenant’s environments, the platform’s after a year, and chains stay whole', async () => {
  const short = await addEnvironment({ audit_days: 10 });
  const mixed = await addEnvironment({ audit_days: 10 });
  await client.query(
    `INSERT INTO environments (tenant_id, id, name, retention, created_at)
     VALUES ($1, gen_random_uuid(), 'staging', '{"audit_days":100}', now())`,
    [mixed.tenantId],
  );
  const usual = await addEnvironment();
  const chains = [short.tenantId, mixed.tenantId, usual.tenantId, PLATFORM_CHAIN];
  for (const daysAgo of [400, 366, 364, 101, 99, 11, 9]) {
    const audit = createAuditLog({ newId: createIdSource({ ...systemClock, now: () => NOON - daysAgo * DAY_MS }) });
    const done = { action: 'thing.made', resourceType: 'thing', resourceId: `${daysAgo}` } as const;
    for (const tenantId of chains) {
      await handle.db
        .transaction()
        .execute((trx) => audit.record(trx, bySystem({ tenantId, environmentId: null }), done));
    }
  }
  expect((await round()).removedAuditEntries).toBe(6 + 4 + 2 + 2);
  const left = async (tenantId: string) =>
    (await pool.query('SELECT resource_id FROM audit_log WHERE tenant_id = $1 ORDER BY sequence', [tenantId])).rows.map(
      ({ resource_id }) => Number(resource_id),
    );
  expect(await Promise.all(chains.map(left))).toEqual([[9], [99, 11, 9], [364, 101, 99, 11, 9], [364, 101, 99, 11, 9]]);
  for (const tenantId of chains) {
    expect((await verifyChain(handle.db, tenantId, () => {})).fault).toBeUndefined();
  }
  expect((await round()).removedAuditEntries).toBe(0);
});
