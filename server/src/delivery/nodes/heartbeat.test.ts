import type pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openEnginePool } from '../../db/pool.ts';
import { createLogger } from '../../kernel/logger.ts';
import { createTestDatabase, type TestDatabase } from '../../testing/database.ts';
import { eventually } from '../../testing/eventually.ts';
import { ManualClock } from '../../testing/manual-clock.ts';
import { DeliveryRows } from '../rows.ts';
import { Heartbeat } from './heartbeat.ts';
import { NodeRegistry } from './node-registry.ts';

const logger = createLogger('silent');
let database: TestDatabase;
let pool: pg.Pool;
beforeAll(async () => {
  database = await createTestDatabase();
  pool = openEnginePool({ connection: database.connection, logger });
});
afterAll(async () => {
  await pool.end();
  await database.drop();
});

test('a node whose heartbeat lapsed while a beat was under way is told when it lives again', async () => {
  const clock = new ManualClock();
  let told = 0;
  const heartbeat = new Heartbeat({
    rows: new DeliveryRows(pool),
    registry: new NodeRegistry(pool, clock),
    clock,
    logger,
    soleNode: true,
    exclusively: (work) => work(),
    oldestInHand: () => undefined,
    idsInHand: () => [],
    onNode: () => {},
    onNodes: () => {},
    onFreed: () => {},
    onDoubtOver: () => {},
    onAlive: () => {
      told += heartbeat.alive ? 1 : 0;
    },
  });
  await heartbeat.start();
  const lock = await pool.connect();
  await lock.query('BEGIN');
  await lock.query('LOCK TABLE nodes');
  clock.advance(2_000);
  const waits = () => pool.query("SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'");
  await eventually(waits, ({ rowCount }) => rowCount === 1);
  expect(heartbeat.alive).toBe(true);
  clock.advance(4_500);
  expect(heartbeat.alive).toBe(false);
  await lock.query('COMMIT');
  lock.release();
  // The beat counts from its beginning: it is young enough by now.
  await eventually(
    async () => told,
    (times) => times === 1,
  );
  await heartbeat.stop(true);
});
