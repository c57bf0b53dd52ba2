import type pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ensurePartitions } from '../db/partitions.ts';
import { openEnginePool } from '../db/pool.ts';
import { createIdSource } from '../kernel/ids.ts';
import { createLogger } from '../kernel/logger.ts';
import { createTestDatabase, type TestDatabase } from '../testing/database.ts';
import { eventually } from '../testing/eventually.ts';
import { ManualClock } from '../testing/manual-clock.ts';
import { Claims } from './claims.ts';
import { firstAttemptDueAtMs } from './first-attempts.ts';
import { InHand } from './lanes/in-hand.ts';
import type { Lane, LaneKey } from './lanes/lane.ts';
import { DeliveryRows, type LaneRoom } from './rows.ts';

const NOW_MS = Date.now();
const newId = createIdSource();

let database: TestDatabase;
let pool: pg.Pool;
let rows: DeliveryRows;
beforeAll(async () => {
  database = await createTestDatabase();
  pool = openEnginePool({ connection: database.connection, logger: createLogger('silent') });
  rows = new DeliveryRows(pool);
  await ensurePartitions(pool, NOW_MS);
  const joined = await pool.query<{ id: number }>(
    'INSERT INTO nodes (started_at, heartbeat_at, oldest_leased_id) VALUES (now(), now(), $1) RETURNING id',
    [newId()],
  );
  rows.nodeId = joined.rows[0]?.id ?? 0;
});
afterAll(async () => {
  await pool.end();
  await database.drop();
});

const newLane = (): LaneKey => ({ tenantId: newId(), environmentId: newId(), webhookId: newId() });

interface Waiting {
  bytes?: number;
  priority?: number;
  /** With a place in it. */
  orderingKey?: string;
  /** A first attempt that waits for its turn only. */
  first?: boolean;
}

/** Deliveries that became due one after the other, in this order; gives their ids. */
async function addWaiting(lane: LaneKey, waiting: Waiting[]): Promise<string[]> {
  const ids: string[] = [];
  for (const [at, { bytes = 10, priority = 0, orderingKey = null, first = false }] of waiting.entries()) {
    const [id, eventId] = [newId(), newId()];
    await pool.query(
      `INSERT INTO events (tenant_id, environment_id, id, event_type, occurred_at, data, priority, delivery_count, is_test)
       VALUES ($1, $2, $3, 'a', now(), $4, 0, 1, false)`,
      [lane.tenantId, lane.environmentId, eventId, Buffer.alloc(bytes, 'x')],
    );
    await pool.query(
      `INSERT INTO deliveries (tenant_id, environment_id, id, event_id, webhook_id, event_type, status, trigger, priority,
         attempt_count, due_at, ordering_key, order_number)
       VALUES ($1, $2, $3, $4, $5, 'a', 'pending', 'scheduled', $6, 0, $7, $8, $9)`,
      [
        lane.tenantId,
        lane.environmentId,
        id,
        eventId,
        lane.webhookId,
        priority,
        new Date(first ? firstAttemptDueAtMs(NOW_MS + at) : NOW_MS - 60_000 + at),
        orderingKey,
        orderingKey === null ? null : at + 1,
      ],
    );
    ids.push(id);
  }
  return ids;
}

/** Ids of what a claim leases. */
async function claim(lane: LaneKey, room: Partial<LaneRoom>): Promise<string[]> {
  const claimed = await rows.claim(
    [{ lane, room: 100, first: 75, later: 100, bytes: 1_000_000, ordered: false, ...room }],
    NOW_MS,
  );
  return claimed.flatMap((row) => ('task' in row ? [row.task.id] : []));
}

test('payloads are claimed while there is room for their bytes, those of longest waiting first', async () => {
  const lane = newLane();
  const ids = await addWaiting(lane, [{ bytes: 400 }, { bytes: 500 }, { bytes: 200 }, { bytes: 50 }]);
  expect(await claim(lane, { bytes: 1_000 })).toEqual(ids.slice(0, 2));
  expect(await claim(lane, { bytes: 1_000 })).toEqual(ids.slice(2));
});

test('urgent ones take the room for bytes first', async () => {
  const lane = newLane();
  const [first = '', urgent = '', most = ''] = await addWaiting(lane, [
    { bytes: 400 },
    { bytes: 400, priority: 2 },
    { bytes: 400, priority: 5 },
  ]);
  expect((await claim(lane, { bytes: 800 })).sort()).toEqual([urgent, most].sort());
  expect(await claim(lane, { bytes: 800 })).toEqual([first]);
});

test('one that is larger than all the room is claimed alone, so that it does not wait for ever', async () => {
  const lane = newLane();
  const ids = await addWaiting(lane, [{ bytes: 5_000 }, { bytes: 1 }]);
  expect(await claim(lane, { bytes: 100 })).toEqual(ids.slice(0, 1));
  expect(await claim(lane, { bytes: 100 })).toEqual(ids.slice(1));
});

test('the lanes of a claim have rooms of their own, and a missing payload has no bytes', async () => {
  const [large, small, erased] = [newLane(), newLane(), newLane()];
  const inLarge = await addWaiting(large, [{ bytes: 900 }, { bytes: 900 }]);
  const inSmall = await addWaiting(small, [{ bytes: 100 }, { bytes: 100 }]);
  const inErased = await addWaiting(erased, [{ bytes: 900 }, { bytes: 900 }]);
  await pool.query('UPDATE events SET data = NULL WHERE tenant_id = $1', [erased.tenantId]);
  const claimed = await rows.claim(
    [large, small, erased].map((lane) => ({ lane, room: 10, first: 10, later: 10, bytes: 1_000, ordered: false })),
    NOW_MS,
  );
  const ids = claimed.flatMap((row) => ('task' in row ? [row.task.id] : []));
  expect(ids.sort()).toEqual([...inLarge.slice(0, 1), ...inSmall, ...inErased].sort());
});

test('of an ordered key those that found no room for their bytes stop the ones behind them', async () => {
  const lane = newLane();
  const [first = '', ...behind] = await addWaiting(lane, [
    { bytes: 900, orderingKey: 'a' },
    { bytes: 900, orderingKey: 'a' },
    { bytes: 10, orderingKey: 'a' },
  ]);
  expect(await claim(lane, { bytes: 1_000, ordered: true })).toEqual([first]);
  const waiting = await pool.query(
    'SELECT id FROM deliveries WHERE webhook_id = $1 AND lease_node IS NULL ORDER BY id',
    [lane.webhookId],
  );
  expect(waiting.rows.map(({ id }) => id)).toEqual(behind);
});

describe('first attempts that wait for their turn', () => {
  const LATER = Array.from({ length: 20 }, (): Waiting => ({}));
  const FIRST = Array.from({ length: 20 }, (): Waiting => ({ first: true }));

  test('are claimed before retries that are due for longer, and leave some of the room to these', async () => {
    const lane = newLane();
    const ids = await addWaiting(lane, [...LATER, ...FIRST]);
    const claimed = await claim(lane, { room: 8, first: 6, later: 8 });
    expect(claimed.sort()).toEqual([...ids.slice(0, 2), ...ids.slice(20, 26)].sort());
  });

  test('find room while memory has no more for what is later', async () => {
    const lane = newLane();
    const ids = await addWaiting(lane, [...LATER, ...FIRST]);
    expect(await claim(lane, { room: 8, first: 6, later: 0 })).toEqual(ids.slice(20, 26));
  });

  test('find it also behind urgent retries', async () => {
    const lane = newLane();
    const urgent = LATER.map((each) => ({ ...each, priority: 3 }));
    const ids = await addWaiting(lane, [...urgent, ...FIRST]);
    expect((await claim(lane, { room: 8, first: 6, later: 5 })).sort()).toEqual(
      [...ids.slice(0, 5), ...ids.slice(20, 23)].sort(),
    );
  });

  test('find room behind more urgent retries when they are urgent, too, and memory has none for these', async () => {
    const lane = newLane();
    const more = LATER.map((each) => ({ ...each, priority: 5 }));
    const less = FIRST.map((each) => ({ ...each, priority: 3 }));
    const ids = await addWaiting(lane, [...more, ...less]);
    expect(await claim(lane, { room: 8, first: 6, later: 0 })).toEqual(ids.slice(20, 27));
  });

  test('leave all the room that they do not need', async () => {
    const lane = newLane();
    const ids = await addWaiting(lane, [...LATER, { first: true }]);
    expect((await claim(lane, { room: 8, first: 6, later: 8 })).sort()).toEqual(
      [...ids.slice(0, 7), ...ids.slice(20)].sort(),
    );
  });
});

/** Claims of lanes of which all may be claimed; `asked` has the statements that they send. */
function startClaims(lanes: InHand, admitted: (lanes: Lane[]) => Lane[]) {
  const [asked, taken, clock]: [string[], string[], ManualClock] = [[], [], new ManualClock(NOW_MS)];
  const query = (statement: pg.QueryConfig) => {
    asked.push(statement.name ?? '');
    return pool.query(statement);
  };
  const ofOurs = new DeliveryRows({ query } as unknown as pg.Pool);
  ofOurs.nodeId = rows.nodeId;
  const claims = new Claims({
    rows: ofOurs,
    clock,
    logger: createLogger('silent'),
    lanes: lanes.lanes,
    lane: (key) => lanes.lane(key),
    forgetIdleLanes: () => lanes.forgetIdleLanes(),
    admit: async (due) =>
      admitted(due).map((lane) => ({
        lane,
        kind: 'claim',
        room: { rows: 10, later: 10, bytes: 1_000_000 },
        ordered: false,
      })),
    begin: () => {},
    take: (claimed) => taken.push(...claimed.flatMap((row) => ('task' in row ? [row.task.id] : []))),
    restoreOrder: async () => {},
    alive: () => true,
    inDoubt: () => {},
  });
  return { claims, clock, asked, taken };
}

test('what somebody else has locked is looked for again after a while, and not all the time until then', async () => {
  const lane = newLane();
  const [id] = await addWaiting(lane, [{}]);
  const { claims, clock, asked, taken } = startClaims(new InHand(100), (due) =>
    due.filter(({ webhookId }) => webhookId === lane.webhookId),
  );
  const other = await pool.connect();
  try {
    await other.query('BEGIN');
    await other.query('SELECT FROM deliveries WHERE id = $1 FOR UPDATE', [id]);
    await claims.start();
    // What it would ask at once stands in its chain before each of these.
    for (let turn = 0; turn < 20; turn++) await claims.exclusively(async () => {});
    expect(asked.filter((name) => name === 'claim-due')).toHaveLength(1);
    await other.query('COMMIT');
    clock.advance(100);
    await eventually(
      async () => taken,
      (ids) => ids.length > 0,
    );
    expect(taken).toEqual([id]);
  } finally {
    other.release();
    await claims.stop();
  }
});

test('of lanes whose rows others have sent nothing is left in memory', async () => {
  const lane = newLane();
  await addWaiting(lane, [{}]);
  const inHand = new InHand(100);
  const { claims, clock } = startClaims(inHand, () => []);
  try {
    await claims.start();
    expect(inHand.lanes.has(lane.webhookId)).toBe(true);
    await pool.query('UPDATE deliveries SET due_at = NULL WHERE webhook_id = $1', [lane.webhookId]);
    await claims.exclusively(async () => {});
    clock.advance(10_000);
    await eventually(
      async () => inHand.lanes.has(lane.webhookId),
      (isThere) => !isThere,
    );
  } finally {
    await claims.stop();
  }
});
