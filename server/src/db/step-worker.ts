import type { Clock } from '../kernel/clock.ts';
import type { Logger } from '../kernel/logger.ts';
import { errorCode } from './pool.ts';

const AFTER_FAILURE_MS = 2_000;

/**
 * Does work of the background a step at a time, with a pause after each. Every node has such a worker, and the row locks
 * of the steps share the work.
 */
export function startSteps(options: {
  /** Names the work in the log: `replay jobs`. */
  what: string;
  /** One step; false: there was nothing to do. */
  step: () => Promise<boolean>;
  /** After a step that took so long. */
  pauseMs: (tookMs: number) => number;
  /** Between two looks for work when there was none. */
  idleMs: number;
  clock: Clock;
  logger: Logger;
}): {
  /** Ends after the step under way. */
  stop(): Promise<void>;
} {
  const { what, step, pauseMs, idleMs, clock, logger } = options;
  let stopped = false;
  let cancel = () => {};
  let running: Promise<void> = Promise.resolve();

  const work = async () => {
    const startedMs = clock.monotonicMs();
    try {
      const worked = await step();
      later(worked ? pauseMs(clock.monotonicMs() - startedMs) : idleMs);
    } catch (error) {
      logger.error({ code: errorCode(error), work: what }, 'work of the background failed; trying again');
      later(AFTER_FAILURE_MS);
    }
  };
  const later = (delayMs: number) => {
    if (stopped) return;
    cancel = clock.after(delayMs, () => {
      running = work();
    });
  };
  later(idleMs);
  return {
    async stop() {
      stopped = true;
      cancel();
      await running;
    },
  };
}
