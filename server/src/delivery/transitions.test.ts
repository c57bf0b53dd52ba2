import { readFileSync } from 'node:fs';
import type { Transaction } from 'kysely';
import type pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Activity, ANY, Wire } from '../../test/model/wire.ts';
import { ensurePartitions } from '../db/partitions.ts';
import { type DatabaseHandle, openDatabase, openEnginePool } from '../db/pool.ts';
import type { Tables } from '../db/tables.ts';
import { erasePayload } from '../events/erase-payload.ts';
import { type Clock, systemClock } from '../kernel/clock.ts';
import { AppError } from '../kernel/errors.ts';
import { createIdSource } from '../kernel/ids.ts';
import { createLogger } from '../kernel/logger.ts';
import { createTestDatabase, type TestDatabase } from '../testing/database.ts';
import { discardWaiting, releaseHeld } from '../webhooks/waiting-deliveries.ts';
import type { Outcome } from './outcome.ts';
import { retryNow } from './queries.ts';
import { type AttemptRecord, Recorder } from './recorder.ts';
import { addReplays } from './recovery/add-replays.ts';
import { cancelDelivery } from './recovery/cancel.ts';
import { resume } from './recovery/chunk.ts';
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
  await pool.query(
    `INSERT INTO tenants (id, slug, name, settings, created_at, updated_at) VALUES ($1, 't', 'T', '{}', now(), now())`,
    [scope.tenantId],
  );
  await pool.query(`INSERT INTO environments (tenant_id, id, name, created_at) VALUES ($1, $2, 'production', now())`, [
    scope.tenantId,
    scope.environmentId,
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

/** A statement of the program. */
interface Statement {
  /** Of the command's places those from which it moves rows. */
  from: readonly Place[];
  act: (task: DeliveryTask) => Promise<unknown>;
}

/** The statements of each command: together they move rows from all its places. */
const STATEMENTS: Record<Command, Statement[]> = {
  claim: [
    {
      from: ['waiting'],
      act: (task) =>
        rows.claim([{ lane: task, room: 1, first: 1, later: 1, bytes: 1_000, ordered: false }], Date.now()),
    },
  ],
  // A claim parks what has a waiting predecessor; what is in hand is given up.
  park: [
    { from: ['waiting'], act: parkByClaim },
    { from: ['in_hand'], act: (task) => giveUp({ task, to: 'parked' }) },
  ],
  succeed: recording(() => ({ status: 'delivered' })),
  fail: recording(() => ({ status: 'failed', dueAtMs: Date.now() + 60_000, failover: false })),
  bury: recording(() => ({ status: 'dead', reason: 'attempts_used_up', disableWebhook: false })),
  hold: [{ from: ['in_hand'], act: (task) => giveUp({ task, to: 'held' }) }],
  release: [
    { from: ['held'], act: ({ tenantId, webhookId }) => inTransaction(releaseHeld, tenantId, webhookId, new Date()) },
    { from: ['held'], act: (task) => releaseStranded(task, 'active', '{"enabled":true}') },
  ],
  unpark: [
    { from: ['parked'], act: (task) => rows.releaseKeys(task, [task.orderingKey ?? ''], 1, Date.now()) },
    { from: ['parked'], act: (task) => releaseStranded(task, 'paused', null) },
  ],
  give_back: [{ from: ['in_hand'], act: (task) => giveUp({ task, to: 'waiting', dueAtMs: Date.now() + 60_000 }) }],
  free: [{ from: ['in_hand'], act: () => rows.freeLeasesOf(NODE, FIRST_ID, Date.now()) }],
  discard: [
    {
      from: ['in_hand'],
      act: (task) => giveUp({ task, to: 'discarded', reason: 'payload_erased', atMs: Date.now() }),
    },
    {
      from: ['waiting', 'parked', 'held'],
      act: ({ event }) => erasePayload(handle.db, scope, event.uuid, new Date()),
    },
    {
      from: ['waiting', 'parked', 'held'],
      act: ({ tenantId, webhookId }) => inTransaction(discardWaiting, tenantId, webhookId, new Date()),
    },
  ],
  cancel: [
    {
      from: ['in_hand', 'waiting', 'parked', 'held'],
      act: ({ id }) => cancelDelivery(handle.db, scope, id, new Date()).catch(expectConflict),
    },
  ],
  retry: [{ from: ['waiting', 'parked', 'ended'], act: ({ id }) => retryNow(handle.db, scope, id, Date.now()) }],
  replay: [
    {
      from: ['ended'],
      act: ({ id }) => inTransaction(resume, scope, [{ candidate: { id }, held: false }], new Date()),
    },
  ],
};

const FIRST_ID = '00000000-0000-0000-0000-000000000000';

const giveUp = (lease: GiveUp) => rows.giveUp([lease]);

function inTransaction<Rest extends unknown[]>(
  act: (trx: Transaction<Tables>, ...rest: Rest) => Promise<void>,
  ...rest: Rest
): Promise<void> {
  return handle.db.transaction().execute((trx) => act(trx, ...rest));
}

/** A refusal of a person's wish, and no other failure. */
function expectConflict(error: unknown): void {
  expect(error).toBeInstanceOf(AppError);
  expect(error).toMatchObject({ status: 409 });
}

/** For a webhook of this status and order. */
async function releaseStranded(task: DeliveryTask, status: string, ordering: string | null): Promise<void> {
  await pool.query(
    `INSERT INTO webhooks (tenant_id, environment_id, id, name, url, events, status, http_method, ordering, created_at,
       updated_at)
     VALUES ($1, $2, $3, 'W', 'https://e.example/', '{*}', $4, 'POST', $5, now(), now())`,
    [task.tenantId, task.environmentId, task.webhookId, status, ordering],
  );
  await rows.releaseStranded([task], 1, Date.now());
}

async function parkByClaim(task: DeliveryTask): Promise<void> {
  const before = await insert({ ...task, id: newId(), orderNumber: 1 }, 'pending', 'waiting', Date.now() + 60_000);
  await rows.claim([{ lane: task, room: 1, first: 1, later: 1, bytes: 1_000, ordered: true }], Date.now());
  await pool.query('DELETE FROM deliveries WHERE id = $1', [before.id]);
}

/** An attempt is recorded by one statement, and by another when that one's answer never came. */
function recording(outcome: () => Outcome): Statement[] {
  return [
    { from: ['in_hand'], act: (task) => record(task, outcome(), pool, systemClock) },
    {
      from: ['in_hand'],
      act: (task) => {
        const wire = new Wire({ real: pool, activity: new Activity(), clock: systemClock, onNotice: () => {} });
        wire.fail(ANY, 'before');
        return record(task, outcome(), wire.pool, IMPATIENT_CLOCK);
      },
    },
  ];
}

/** Does not wait before it repeats. */
const IMPATIENT_CLOCK: Clock = { ...systemClock, after: (_delayMs, task) => systemClock.after(0, task) };

async function record(task: DeliveryTask, outcome: Outcome, through: pg.Pool, clock: Clock): Promise<void> {
  const recorded = Promise.withResolvers<void>();
  const recorder = new Recorder({
    pool: through,
    clock,
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
    requestBody: null,
    templateId: null,
    templateVersion: null,
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

function newTask(attemptCount: number, orderingKey: string | null): DeliveryTask {
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
    orderingKey,
    orderNumber: orderingKey === null ? null : 2,
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

/** Only what keeps an order is ever parked. */
const KINDS = [
  { kind: 'ordered', orderingKey: 'key', commands, places: PLACES },
  {
    kind: 'plain',
    orderingKey: null,
    commands: commands.filter((command) => command !== 'park' && command !== 'unpark'),
    places: { ...PLACES, pending: ['in_hand', 'waiting'], failed: ['in_hand', 'waiting'] } satisfies typeof PLACES,
  },
];

describe.each(KINDS)('of the $kind deliveries', ({ orderingKey, commands, places }) => {
  describe.each(statuses)('one that is %s', (status) => {
    test.each(commands)('is moved by %s as the table says, wherever it is', async (command) => {
      const next: NextStatus = TRANSITIONS[status][command];
      for (const { from, act } of STATEMENTS[command]) {
        for (const place of places[status]) {
          for (const attempts of status === 'failed' ? [1] : status === 'pending' ? [0] : [0, 1]) {
            const task = newTask(attempts, orderingKey);
            await insertEvent(task);
            await insert(task, status, place);
            await act(task);
            const row = await read(task.id);
            const moves = next !== 'refused' && from.includes(place);
            const unfinished = attempts > 0 ? 'failed' : 'pending';
            const expected = !moves ? status : next === 'unfinished' ? unfinished : next;
            expect({ place, status: row.status }).toEqual({ place, status: expected });
            expect({ place, to: placeOf(row) }).toEqual({ place, to: moves ? COMMANDS[command].to : place });
            await pool.query('DELETE FROM deliveries WHERE id = $1', [task.id]);
          }
        }
      }
    });
  });
});

test.each(commands)('the statements of %s move rows from all places that the table names, and no others', (command) => {
  const from = STATEMENTS[command].flatMap((statement) => statement.from);
  expect(new Set(from)).toEqual(new Set<Place>(COMMANDS[command].from));
});

test.each(statuses)(
  'one that is %s is held by a replay, where one moves it, while its webhook is not active',
  async (status) => {
    const [place = 'ended'] = PLACES[status];
    const task = await insert(newTask(1, null), status, place);
    await inTransaction(resume, scope, [{ candidate: { id: task.id }, held: true }], new Date());
    const row = await read(task.id);
    const moves = TRANSITIONS[status].replay !== 'refused';
    expect([row.status, placeOf(row)]).toEqual(moves ? ['held', 'held'] : [status, place]);
  },
);

test('a delivery that a replay makes waits, or is held', async () => {
  const { webhookId, event } = newTask(0, null);
  const replays = [false, true].map((held) => ({
    id: newId(),
    eventId: event.uuid,
    webhookId,
    eventType: 'a',
    priority: 0,
    orderingKey: null,
    held,
  }));
  await inTransaction(addReplays, scope, replays, new Date());
  const [due, held] = await Promise.all(replays.map(({ id }) => read(id)));
  expect([due?.status, due && placeOf(due)]).toEqual(['pending', 'waiting']);
  expect([held?.status, held && placeOf(held)]).toEqual(['held', 'held']);
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
