import type pg from 'pg';
import { startSteps } from '../db/step-worker.ts';
import type { Clock } from '../kernel/clock.ts';
import type { Logger } from '../kernel/logger.ts';
import { LEVELS } from './series.ts';
import { ADD_PARTS } from './sql/add-parts.ts';

/**
 * How often parts are added to the rollups: the longer, the more attempts share a change of a row. Whoever reads rollups adds
 * what is not added yet (`figures.ts`).
 */
const ADD_EVERY_MS = 60_000;

/** Of each node there is a part for five seconds, or more of them under load. Bounded by the statement timeout. */
const PARTS_A_STEP = 20;

/** Rows of old minutes, hours and days that a statement removes. */
const REMOVED_AT_ONCE = 5_000;

/** Any number that no other program on the same database is likely to lock. */
const ROLLUP_LOCK = 7_678_015;

export interface RollupWorkerOptions {
  /** The engine's, whose plans keep to index lookups. */
  pool: pg.Pool;
  clock: Clock;
  logger: Logger;
}

/**
 * It takes a twentieth of one processor at most: with ten thousand webhooks a minute's parts take seconds, and are then added
 * less often.
 */
const PAUSE_TIMES = 20;

/** Adds up what commits of attempts counted. Every node asks to, and a lock lets one of them. */
export function startRollupWorker(options: RollupWorkerOptions): ReturnType<typeof startSteps> {
  return startSteps({
    what: 'rollups',
    step: async () => {
      while ((await addParts(options.pool)) === PARTS_A_STEP);
      return true;
    },
    pauseMs: (tookMs) => Math.max(ADD_EVERY_MS, PAUSE_TIMES * tookMs),
    idleMs: ADD_EVERY_MS,
    clock: options.clock,
    logger: options.logger,
  });
}

/** Adds some parts to the rollups, the oldest first. Gives how many rows of them it took; 0 while another node is at it. */
export async function addParts(pool: pg.Pool, partsMax = PARTS_A_STEP): Promise<number> {
  const client = await pool.connect();
  let broken = false;
  try {
    // Sums of some ten thousand rows fit into it, and would be made on disk else.
    await client.query("BEGIN; SET LOCAL work_mem = '64MB'");
    // A statement of its own, before the one that reads: what that sees must be from after the lock.
    const locked = await client.query<{ locked: boolean }>('SELECT pg_try_advisory_xact_lock($1) AS locked', [
      ROLLUP_LOCK,
    ]);
    const rows =
      locked.rows[0]?.locked === true
        ? await client.query<{ rows: number }>({ ...ADD_PARTS, values: [partsMax] })
        : undefined;
    await client.query('COMMIT');
    return rows?.rows[0]?.rows ?? 0;
  } catch (error) {
    await client.query('ROLLBACK').catch(() => {
      broken = true;
    });
    throw error;
  } finally {
    client.release(broken);
  }
}

/** Removes the minutes, hours and days that have been kept for long enough. */
export async function purgeRollups(pool: pg.Pool, nowMs: number): Promise<void> {
  for (const { table, keptMs } of Object.values(LEVELS)) {
    const before = new Date(nowMs - keptMs);
    let removed: number;
    do {
      const result = await pool.query(
        `DELETE FROM ${table} WHERE ctid = ANY (ARRAY(SELECT ctid FROM ${table} WHERE at < $1 LIMIT ${REMOVED_AT_ONCE}))`,
        [before],
      );
      removed = result.rowCount ?? 0;
    } while (removed === REMOVED_AT_ONCE);
  }
}
