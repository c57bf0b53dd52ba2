import pg from 'pg';
import { errorCode } from '../db/pool.ts';
import type { Clock } from '../kernel/clock.ts';
import type { Logger } from '../kernel/logger.ts';
import { Pace } from './pace.ts';
import { type RoundOptions, type RoundReport, runRound } from './round.ts';

const FIRST_MS = 5 * 60_000;
const EVERY_MS = 3_600_000;

/** One statement: a vacuum of a large day, or the wait for transactions that may still see a day that goes. */
const STATEMENT_MS_MAX = 10 * 60_000;

/** For the lock of a day that nobody else should have. What it waits for holds up no one else. */
const LOCK_MS_MAX = 5_000;

export interface RetentionWorker {
  /** Begins a round now; false when this node is at one. */
  runNow(): boolean;
  /** Ends after the step under way. */
  stop(): Promise<void>;
}

/**
 * Removes what has been kept for long enough: five minutes after the start, and then every hour, or `everyMs`. Every node tries, and
 * one is at it at a time. It has a connection of its own while it works.
 */
export function startRetention(options: {
  connection: pg.ClientConfig;
  clock: Clock;
  logger: Logger;
  removeAuditBefore: RoundOptions['removeAuditBefore'];
  everyMs?: number;
}): RetentionWorker {
  const { clock, everyMs = EVERY_MS } = options;
  let stopped = false;
  let cancel = () => {};
  let running: { pace: Pace; ended: Promise<void> } | undefined;

  const begin = (): boolean => {
    if (running !== undefined || stopped) return false;
    cancel();
    const pace = new Pace(clock);
    const ended = round(options, pace).finally(() => {
      running = undefined;
      later(everyMs);
    });
    running = { pace, ended };
    return true;
  };
  const later = (delayMs: number) => {
    if (!stopped) cancel = clock.after(delayMs, begin);
  };
  later(FIRST_MS);
  return {
    runNow: begin,
    async stop() {
      stopped = true;
      cancel();
      running?.pace.stop();
      await running?.ended;
    },
  };
}

async function round(options: Parameters<typeof startRetention>[0], pace: Pace): Promise<void> {
  const { connection, clock, logger, removeAuditBefore } = options;
  const client = new pg.Client({
    application_name: 'posthorn-retention',
    ...connection,
    connectionTimeoutMillis: 5_000,
    statement_timeout: STATEMENT_MS_MAX,
    lock_timeout: LOCK_MS_MAX,
    // A vacuum rests too.
    options: '-c vacuum_cost_delay=10ms',
  });
  // A statement under way fails with the same reason.
  client.on('error', () => {});
  try {
    await client.connect();
    const report = await runRound({ client, nowMs: clock.now(), pace, logger, removeAuditBefore });
    if (report !== undefined && hasDone(report)) logger.info({ ...report }, 'records whose time is over were removed');
  } catch (error) {
    logger.error({ code: errorCode(error) }, 'retention failed; it is tried again at its next time');
  } finally {
    await client.end().catch(() => {
      // It is broken already.
    });
  }
}

function hasDone(report: RoundReport): boolean {
  const { dropped, blankedPayloads, removedEvents, removedDeliveries, removedAttempts, removedAuditEntries } = report;
  const removed = removedEvents + removedDeliveries + removedAttempts + removedAuditEntries;
  return dropped.length + blankedPayloads + removed > 0;
}
