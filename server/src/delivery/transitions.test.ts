import { readFileSync } from 'node:fs';
import type pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { cancelDelivery, erasePayload, replayDelivery } from '../../test/model/recovery-statements.ts';
import { ensurePartitions } from '../db/partitions.ts';
import { type DatabaseHandle, openDatabase, openEnginePool } from '../db/pool.ts';
import { systemClock } from '../kernel/clock.ts';
import { createIdSource } from '../kernel/ids.ts';
import { createLogger } from '../kernel/logger.ts';
import { createTestDatabase, type TestDatabase } from '../testing/database.ts';
import { releaseHeld } from '../webhooks/waiting-deliveries.ts';
import type { Outcome } from './outcome.ts';
import { retryNow } from './queries.ts';
import { type AttemptRecord, Recorder } from './recorder.ts';
import { DeliveryRows, type GiveUp } from './rows.ts';
import type { DeliveryTask } from './task.ts';
import {
  COMMANDS,
  type Command,
  type DeliveryStatus,
  type NextStatus,
  type Place,
  TRANSITIONS,
} from './transitions.ts';

const NODE = 1;
const newId = createIdSource();
const logger = createLogger('silent');
const scope = { tenantId: newId(), environmentId: newId() };

let database: TestDatabase;
let handle: DatabaseHandle;
let pool: pg.Pool;
let rows: DeliveryRows;
beforeAll(async () => {
  database = await createTestDatabase();
  handle = openDatabase({ connection: database.connection, logger });
  pool = openEnginePool({ connection: database.connection, logger });
  rows = new DeliveryRows(pool);
  rows.nodeId = NODE;
  await ensurePartitions(pool, Date.now());
  await pool.query(`INSERT INTO nodes (started_at, heartbeat_at, oldest_leased_id) VALUES (now(), now(), $1)`, [
    newId(),
  ]);
});
afterAll(async () => {
  await pool.end();
  await handle.close();
  await database.drop();
});

/** Where rows of a status can be. */
const PLACES: Record<DeliveryStatus, readonly Place[]> = {
  pending: ['in_hand', 'waiting', 'parked'],
  failed: ['in_hand', 'waiting', 'parked'],
  held: ['held'],
  delivered: ['ended'],
  dead: ['ended'],
  cancelled: ['ended'],
  discarded: ['ended'],
};

/** The statement of each command, as the program has it. */
const STATEMENTS: Record<Command, (task: DeliveryTask, place: Place) => Promise<unknown>> = {
  claim: (task) => rows.claim([{ lane: task, room: 1, first: 1, later: 1, bytes: 1_000, ordered: false }], Date.now()),
  // A claim parks what has a waiting predecessor; what is in hand is given up.
  park: (task, place) => (place === 'in_hand' ? giveUp({ task, to: 'parked' }) : parkByClaim(task)),
  succeed: (task) => record(task, { status: 'delivered' }),
  fail: (task) => record(task, { status: 'failed', dueAtMs: Date.now() + 60_000, failover: false }),
  bury: (task) => record(task, { status: 'dead', reason: 'attempts_used_up', disableWebhook: false }),
  hold: (task) => giveUp({ task, to: 'held' }),
  release: (task) =>
    handle.db.transaction().execute((trx) => releaseHeld(trx, task.tenantId, task.webhookId, new Date())),
  unpark: (task) => rows.releaseKeys(task, [task.orderingKey ?? ''], 1, Date.now()),
  give_back: (task) => giveUp({ task, to: 'waiting', dueAtMs: Date.now() + 60_000 }),
  free: () => rows.freeLeasesOf(NODE, '00000000-0000-0000-0000-000000000000', Date.now()),
  discard: (task, place) =>
    place === 'in_hand'
      ? giveUp({ task, to: 'discarded', reason: 'payload_erased', atMs: Date.now() })
      : erasePayload(pool, task.tenantId, task.event.uuid, new Date()),
  cancel: (task) => cancelDelivery(pool, task.tenantId, task.id, new Date()),
  retry: (task) => retryNow(handle.db, scope, task.id, Date.now()),
  replay: (task) => replayDelivery(pool, task.tenantId, task.id, new Date()),
};

const giveUp = (lease: GiveUp) => rows.giveUp([lease]);

async function parkByClaim(task: DeliveryTask): Promise<void> {
  const before = await insert({ ...task, id: newId(), orderNumber: 1 }, 'pending', 'waiting', Date.now() + 60_000);
  await rows.claim([{ lane: task, room: 1, first: 1, later: 1, bytes: 1_000, ordered: true }], Date.now());
  await pool.query('DELETE FROM deliveries WHERE id = $1', [before.id]);
}

async function record(task: DeliveryTask, outcome: Outcome): Promise<void> {
  const recorded = Promise.withResolvers<void>();
  const recorder = new Recorder({
    pool,
    clock: systemClock,
    logger,
    onRecorded: () => recorded.resolve(),
    onUnrecordable: () => recorded.reject(new Error('It could not be recorded.')),
    leaseOf: () => NODE,
  });
  const attempt: AttemptRecord = {
    task,
    id: newId(),
    number: task.attemptCount + 1,
    trigger: 'scheduled',
    outcome,
    parksKey: false,
    url: 'http://example.com/',
    method: 'POST',
    requestHeaders: '{}',
    envelope: 'standard',
    responseStatus: null,
    responseHeaders: null,
    responseBody: null,
    responseTruncated: false,
    errorClass: null,
    errorMessage: null,
    durationMs: 1,
    endedAtMs: Date.now(),
  };
  recorder.add(attempt);
  await recorded.promise;
}

function newTask(attemptCount: number): DeliveryTask {
  const uuid = newId();
  return {
    ...scope,
    id: newId(),
    webhookId: newId(),
    event: {
      uuid,
      id: '',
      publicId: '',
      type: 'a',
      timestamp: '',
      data: Buffer.from('{}'),
      metadata: null,
      source: '',
    },
    attemptCount,
    trigger: 'scheduled',
    priority: 0,
    late: false,
    claimed: false,
    orderingKey: 'key',
    orderNumber: 2,
  };
}

async function insert(task: DeliveryTask, status: DeliveryStatus, place: Place, dueAtMs = Date.now() - 1) {
  const due = { in_hand: null, waiting: new Date(dueAtMs), parked: 'infinity', held: 'infinity', ended: null }[place];
  await pool.query(
    `INSERT INTO deliveries (tenant_id, environment_id, id, event_id, webhook_id, event_type, status, trigger, priority,
       ordering_key, attempt_count, due_at, lease_node, completed_at, order_number)
     VALUES ($1, $2, $3, $4, $5, 'a', $6, $7, 0, $8, $9, $10, $11, $12, $13)`,
    [
      task.tenantId,
      task.environmentId,
      task.id,
      task.event.uuid,
      task.webhookId,
      status,
      task.trigger,
      task.orderingKey,
      task.attemptCount,
      due,
      place === 'in_hand' ? NODE : null,
      place === 'ended' ? new Date() : null,
      task.orderNumber,
    ],
  );
  return task;
}

async function insertEvent({ event }: DeliveryTask): Promise<void> {
  await pool.query(
    `INSERT INTO events (tenant_id, environment_id, id, event_type, occurred_at, data, priority, delivery_count, is_test)
     VALUES ($1, $2, $3, 'a', now(), $4, 0, 1, false)`,
    [scope.tenantId, scope.environmentId, event.uuid, event.data],
  );
}

interface Read {
  status: DeliveryStatus;
  due_at: Date | number | null;
  lease_node: number | null;
  attempt_count: number;
  completed_at: Date | null;
}

async function read(id: string): Promise<Read> {
  const result = await pool.query<Read>('SELECT * FROM deliveries WHERE id = $1', [id]);
  return result.rows[0] as Read;
}

/** SPEC.md, "The lease axis". */
function placeOf({ status, due_at, lease_node, completed_at }: Read): Place | 'impossible' {
  if (completed_at !== null) return due_at === null && lease_node === null ? 'ended' : 'impossible';
  if (lease_node !== null) return due_at === null ? 'in_hand' : 'impossible';
  if (due_at === null) return 'impossible';
  if (due_at !== Number.POSITIVE_INFINITY) return status === 'held' ? 'impossible' : 'waiting';
  return status === 'held' ? 'held' : 'parked';
}

const commands = Object.keys(COMMANDS) as Command[];
const statuses = Object.keys(TRANSITIONS) as DeliveryStatus[];

describe.each(statuses)('a delivery that is %s', (status) => {
  test.each(commands)('is moved by %s as the table says, wherever it is', async (command) => {
    const from: readonly Place[] = COMMANDS[command].from;
    const next: NextStatus = TRANSITIONS[status][command];
    for (const place of PLACES[status]) {
      for (const attempts of status === 'failed' ? [1] : [0, 1]) {
        if (status === 'pending' && attempts > 0) continue;
        const task = newTask(attempts);
        await insertEvent(task);
        await insert(task, status, place);
        await STATEMENTS[command](task, place);
        const row = await read(task.id);
        const moves = next !== 'refused' && from.includes(place);
        const unfinished = attempts > 0 ? 'failed' : 'pending';
        const expected = !moves ? status : next === 'unfinished' ? unfinished : next;
        expect({ place, status: row.status }).toEqual({ place, status: expected });
        expect({ place, to: placeOf(row) }).toEqual({ place, to: moves ? COMMANDS[command].to : place });
        await pool.query('DELETE FROM deliveries WHERE id = $1', [task.id]);
      }
    }
  });
});

test('the table of SPEC.md is the one that the program keeps to', () => {
  const spec = readFileSync(new URL('./SPEC.md', import.meta.url), 'utf8');
  const lines = spec.split('\n').filter((line) => line.startsWith('| '));
  const cells = lines.map((line) =>
    line
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim().replaceAll('`', '')),
  );
  const header = cells.findIndex(([first]) => first === 'command');
  expect(cells[header]?.slice(1, 1 + statuses.length)).toEqual(statuses);
  for (const [at, command] of commands.entries()) {
    const [name, ...rest] = cells[header + 1 + at] ?? [];
    expect(name).toBe(command);
    const { from, to } = COMMANDS[command];
    const expected = statuses
      .map((status) => TRANSITIONS[status][command])
      .map((next) => (next === 'refused' ? '–' : next));
    expect([name, ...rest]).toEqual([command, ...expected, from.join(', '), to]);
  }
});
