import type pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ensurePartitions } from '../db/partitions.ts';
import { type DatabaseHandle, openDatabase, openEnginePool } from '../db/pool.ts';
import { systemClock } from '../kernel/clock.ts';
import { createIdSource } from '../kernel/ids.ts';
import { createLogger } from '../kernel/logger.ts';
import { createTestDatabase, type TestDatabase } from '../testing/database.ts';
import { eventually } from '../testing/eventually.ts';
import { releaseHeld } from '../webhooks/waiting-deliveries.ts';
import { GiveBacks } from './give-backs.ts';
import { InHand } from './lanes/in-hand.ts';
import type { OrderKeeper } from './lanes/order-keeper.ts';
import { Recorder } from './recorder.ts';
import { DeliveryRows, type GiveUp } from './rows.ts';
import type { DeliveryTask } from './task.ts';

const DAY_MS = 86_400_000;
const logger = createLogger('silent');
const newId = createIdSource();
const newIdOfYesterday = createIdSource({ ...systemClock, now: () => Date.now() - DAY_MS });

let database: TestDatabase;
let handle: DatabaseHandle;
let pool: pg.Pool;
let rows: DeliveryRows;
beforeAll(async () => {
  database = await createTestDatabase();
  handle = openDatabase({ connection: database.connection, logger });
  pool = openEnginePool({ connection: database.connection, logger });
  rows = new DeliveryRows(pool);
  await ensurePartitions(pool, Date.now());
  const node = await pool.query<{ id: number }>(
    'INSERT INTO nodes (started_at, heartbeat_at, oldest_leased_id) VALUES (now(), now(), $1) RETURNING id',
    [newId()],
  );
  rows.nodeId = node.rows[0]?.id ?? 0;
});
afterAll(async () => {
  await pool.end();
  await handle.close();
  await database.drop();
});

const IN_HAND = { due_at: null, status: 'pending', leased: true };
const WAITING = { due_at: '2026-01-01', status: 'pending', leased: false };
const PARKED = { due_at: 'infinity', status: 'pending', leased: false };
const HELD = { due_at: 'infinity', status: 'held', leased: false };

/** Deliveries with an order among them, and without: some statements are others for these. */
const KEYS = [['ordered', 'key'] as const, ['plain', null] as const];

/** Deliveries of a new webhook, in turn of today and of yesterday, so that they lie in two partitions. */
async function insert(
  place: typeof IN_HAND | typeof WAITING,
  orderingKey: string | null,
): Promise<[DeliveryTask, ...DeliveryTask[]]> {
  const common = {
    tenantId: newId(),
    environmentId: newId(),
    webhookId: newId(),
    event: {
      uuid: newId(),
      type: 'a',
      id: '',
      publicId: '',
      timestamp: '',
      data: Buffer.from('{}'),
      metadata: null,
      source: '',
    },
    attemptCount: 0,
    trigger: 'scheduled' as const,
    priority: 0,
    late: false,
    claimed: false as const,
    orderingKey,
  };
  const taskOf = (n: number): DeliveryTask => ({
    ...common,
    id: n % 2 === 0 ? newId() : newIdOfYesterday(),
    orderNumber: orderingKey === null ? null : n + 1,
  });
  const tasks: [DeliveryTask, ...DeliveryTask[]] = [taskOf(0), ...Array.from({ length: 39 }, (_, n) => taskOf(n + 1))];
  for (const task of tasks) {
    await pool.query(
      `INSERT INTO deliveries (tenant_id, environment_id, id, event_id, webhook_id, event_type, status, trigger, priority,
         ordering_key, attempt_count, due_at, lease_node, order_number)
       VALUES ($1, $2, $3, $4, $5, 'a', $6, 'scheduled', 0, $7, 0, $8, $9, $10)`,
      [
        task.tenantId,
        task.environmentId,
        task.id,
        task.event.uuid,
        task.webhookId,
        place.status,
        task.orderingKey,
        place.due_at,
        place.leased ? rows.nodeId : null,
        task.orderNumber,
      ],
    );
  }
  return tasks;
}

/** Does `act` while another transaction changes the first delivery, which is committed when `act` waits for it. */
async function whileFirstChanges([{ id }]: [DeliveryTask, ...DeliveryTask[]], act: () => Promise<unknown>) {
  const other = await handle.pool.connect();
  try {
    await other.query('BEGIN');
    // A claim has its view of the rows before it waits for this.
    await other.query('SELECT FROM nodes FOR UPDATE');
    await other.query("UPDATE deliveries SET error_message = 'changed' WHERE id = $1", [id]);
    const acting = act();
    acting.catch(() => {});
    await eventually(
      async () => (await handle.pool.query(WAITING_FOR_LOCKS)).rowCount,
      (waiting) => waiting === 1,
    );
    await other.query('COMMIT');
    await acting;
  } finally {
    other.release();
  }
}

const WAITING_FOR_LOCKS =
  "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";

const placesOf = async ([{ webhookId }]: [DeliveryTask, ...DeliveryTask[]]) => {
  const found = await pool.query(
    `SELECT status, lease_node IS NOT NULL AS leased, due_at = 'infinity' AS parked, attempt_count, count(*)::int
     FROM deliveries WHERE webhook_id = $1 GROUP BY 1, 2, 3, 4`,
    [webhookId],
  );
  return found.rows;
};

test.each(KEYS)('attempts of %s deliveries are recorded', async (_name, key) => {
  const tasks = await insert(IN_HAND, key);
  const recorded = Promise.withResolvers<void>();
  let left = tasks.length;
  const recorder = new Recorder({
    pool,
    clock: systemClock,
    logger,
    onRecorded: () => {
      left -= 1;
      if (left === 0) recorded.resolve();
    },
    onUnrecordable: () => recorded.reject(new Error('It could not be recorded.')),
    leaseOf: () => rows.nodeId,
  });
  await whileFirstChanges(tasks, async () => {
    for (const task of tasks) {
      recorder.add({
        task,
        id: newId(),
        number: 1,
        trigger: 'scheduled',
        outcome: { status: 'delivered' },
        parksKey: false,
        url: 'http://example.com/',
        method: 'POST',
        requestHeaders: '{}',
        envelope: 'standard',
        requestBody: null,
        templateId: null,
        templateVersion: null,
        responseStatus: 200,
        responseHeaders: null,
        responseBody: null,
        responseTruncated: false,
        errorClass: null,
        errorMessage: null,
        durationMs: 1,
        endedAtMs: Date.now(),
      });
    }
    await recorded.promise;
  });
  expect(await placesOf(tasks)).toEqual([
    { status: 'delivered', leased: false, parked: null, attempt_count: 1, count: 40 },
  ]);
});

test.each(KEYS)('leases of %s deliveries are given up', async (_name, key) => {
  const tasks = await insert(IN_HAND, key);
  const giveUp = (task: DeliveryTask): GiveUp =>
    key === null ? { task, to: 'waiting', dueAtMs: Date.now() } : { task, to: 'parked' };
  await whileFirstChanges(tasks, () => rows.giveUp(tasks.map(giveUp)));
  expect(await placesOf(tasks)).toEqual([
    { status: 'pending', leased: false, parked: key !== null, attempt_count: 0, count: 40 },
  ]);
});

test('leases that this node lost and has again are not given up by what had lost them', async () => {
  const tasks = await insert(IN_HAND, null);
  const [lost] = tasks;
  const giveBacks = new GiveBacks({
    rows,
    clock: systemClock,
    logger,
    inHand: new InHand(100),
    // Nothing here keeps an order.
    order: undefined as unknown as OrderKeeper,
    isLost: (task) => task === lost,
    expect: () => {},
    inDoubt: () => {},
    letGo: () => {},
    pump: () => {},
  });
  for (const task of tasks) giveBacks.add({ task, to: 'waiting', dueAtMs: Date.now() });
  await giveBacks.whenIdle();
  const leased = await pool.query('SELECT id FROM deliveries WHERE webhook_id = $1 AND lease_node IS NOT NULL', [
    lost.webhookId,
  ]);
  expect(leased.rows).toEqual([{ id: lost.id }]);
  expect(await placesOf(tasks)).toContainEqual({
    status: 'pending',
    leased: false,
    parked: false,
    attempt_count: 0,
    count: 39,
  });
});

test.each(KEYS)('due %s deliveries are claimed', async (_name, key) => {
  const tasks = await insert(WAITING, key);
  await whileFirstChanges(tasks, () =>
    rows.claim([{ lane: tasks[0], room: 100, first: 100, later: 100, bytes: 1_000, ordered: true }], Date.now()),
  );
  expect(await placesOf(tasks)).toEqual([
    { status: 'pending', leased: true, parked: null, attempt_count: 0, count: 40 },
  ]);
});

test('parked deliveries of a key are released', async () => {
  const tasks = await insert(PARKED, 'key');
  await whileFirstChanges(tasks, () => rows.releaseKeys(tasks[0], ['key'], 100, Date.now()));
  expect(await placesOf(tasks)).toEqual([
    { status: 'pending', leased: false, parked: false, attempt_count: 0, count: 40 },
  ]);
});

test.each(KEYS)('%s deliveries that are stranded are released', async (_name, key) => {
  const tasks = await insert(HELD, key);
  await whileFirstChanges(tasks, () => rows.releaseStranded([tasks[0]], 100, Date.now()));
  expect(await placesOf(tasks)).toEqual([
    { status: 'pending', leased: false, parked: false, attempt_count: 0, count: 40 },
  ]);
});

test.each(KEYS)('held %s deliveries are released with their webhook', async (_name, key) => {
  const tasks = await insert(HELD, key);
  const [{ tenantId, webhookId }] = tasks;
  await whileFirstChanges(tasks, () =>
    handle.db.transaction().execute((trx) => releaseHeld(trx, tenantId, webhookId, new Date())),
  );
  expect(await placesOf(tasks)).toEqual([
    { status: 'pending', leased: false, parked: false, attempt_count: 0, count: 40 },
  ]);
});
