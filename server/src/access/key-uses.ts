import { type Database, errorCode } from '../db/pool.ts';
import type { Clock } from '../kernel/clock.ts';
import type { Logger } from '../kernel/logger.ts';
import { type KeyUse, recordUses } from './queries.ts';

/** A key's last use is written at most once in so many milliseconds. */
export const USE_RESOLUTION_MS = 60_000;

/** Milliseconds for which uses are collected before one statement writes them. */
const COLLECT_MS = 5_000;

/** Last uses of keys on their way to the database. No request waits for it. */
export interface KeyUses {
  add(use: KeyUse): void;
  /** Writes what was collected. @throws when the database cannot; nothing is lost then. */
  flush(): Promise<void>;
  /** Writes the rest; what cannot be written is logged. */
  stop(): Promise<void>;
}

export function createKeyUses(options: { db: Database; clock: Clock; logger: Logger }): KeyUses {
  const { db, clock, logger } = options;
  /** One entry a key, so its size is bounded by the number of keys. */
  const waiting = new Map<string, KeyUse>();
  let cancelTimer: (() => void) | undefined;
  let stopped = false;

  function startTimer(): void {
    if (stopped || cancelTimer !== undefined) return;
    cancelTimer = clock.after(COLLECT_MS, () => {
      cancelTimer = undefined;
      void flushOrLog();
    });
  }

  async function flush(): Promise<void> {
    cancelTimer?.();
    cancelTimer = undefined;
    if (waiting.size === 0) return;
    const uses = [...waiting.values()];
    waiting.clear();
    try {
      await recordUses(db, uses);
    } catch (error) {
      for (const use of uses) {
        if (!waiting.has(use.id)) waiting.set(use.id, use);
      }
      startTimer();
      throw error;
    }
  }

  async function flushOrLog(): Promise<void> {
    try {
      await flush();
    } catch (error) {
      logger.warn({ code: errorCode(error), keys: waiting.size }, 'the last use of keys could not be recorded');
    }
  }

  return {
    add(use) {
      waiting.set(use.id, use);
      startTimer();
    },
    flush,
    async stop() {
      stopped = true;
      await flushOrLog();
    },
  };
}
