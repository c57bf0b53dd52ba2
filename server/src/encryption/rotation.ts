import type pg from 'pg';
import type { Clock } from '../kernel/clock.ts';
import { StartupError } from '../kernel/startup-error.ts';

/** What the two rotations of keys share. */
export interface RotationOptions {
  pool: pg.Pool;
  clock: Clock;
  /** Told of each step before it is taken. What it throws ends the rotation there; it can be taken up again. */
  onStep: (step: string) => void | Promise<void>;
  /** Milliseconds that are waited for running processes to take notice, and for locked rows (60,000). */
  noticeMs?: number;
}

export const NOTICE_MS = 60_000;

/** A rotation that cannot be done now; the message is one line that says why and what to do. */
export class RotationError extends StartupError {}

/** Any number that no other program on the same database is likely to lock. */
const ROTATION_LOCK = 7_678_003;

/** One rotation at a time. The lock goes with the connection, so with the process, however it ends. */
export async function alone<Result>(pool: pg.Pool, task: () => Promise<Result>): Promise<Result> {
  const client = await pool.connect();
  try {
    const result = await client.query<{ locked: boolean }>('SELECT pg_try_advisory_lock($1) AS locked', [
      ROTATION_LOCK,
    ]);
    if (result.rows[0]?.locked !== true) throw new RotationError('Another rotation of keys is under way.');
    try {
      return await task();
    } finally {
      // Where the connection is broken, its end has freed the lock.
      await client.query('SELECT pg_advisory_unlock($1)', [ROTATION_LOCK]).catch(() => {});
    }
  } finally {
    client.release(true);
  }
}

interface Holder {
  pid: number;
  host: string;
}

/** A process that was silent for so long is gone, or finds out that it was away before it seals anything. */
const SILENT_SECONDS = 30;

const POLL_MS = 100;

/**
 * Resolves when `condition`, on columns of `key_holders`, is true of every process that lives.
 *
 * @throws RotationError that names those of which it is not, when the time is over.
 */
export async function everyHolder(
  { pool, clock, noticeMs = NOTICE_MS }: RotationOptions,
  condition: string,
  value: unknown,
  lacking: string,
): Promise<void> {
  const endMs = clock.monotonicMs() + noticeMs;
  for (;;) {
    const { rows } = await pool.query<Holder>(
      `SELECT pid, host FROM key_holders
       WHERE seen_at > now() - make_interval(secs => ${SILENT_SECONDS}) AND (${condition}) IS NOT TRUE ORDER BY host, pid`,
      [value],
    );
    if (rows.length === 0) return;
    if (clock.monotonicMs() >= endMs) {
      const names = rows.map(({ pid, host }) => `process ${pid} on ${host}`).join(', ');
      throw new RotationError(`${lacking}: ${names}. Nothing was lost; start it anew and repeat the command.`);
    }
    await pauseFor(clock, POLL_MS);
  }
}

export function pauseFor(clock: Clock, ms: number): Promise<void> {
  return new Promise((resolve) => {
    clock.after(ms, resolve);
  });
}
