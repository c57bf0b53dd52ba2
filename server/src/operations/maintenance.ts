import { errorCode } from '../db/pool.ts';
import type { Clock } from '../kernel/clock.ts';
import type { Logger } from '../kernel/logger.ts';

/** Work that must be done now and then, whoever does it. */
export interface MaintenanceTask {
  name: string;
  run(nowMs: number): Promise<unknown>;
}

const EVERY_MS = 3_600_000;

/** After a failure the task is tried again sooner: partitions stand three days ahead, so there is time. */
const AFTER_FAILURE_MS = 60_000;

/** Runs every task, hourly and the first time after an hour unless told otherwise. Every node does it; the tasks do not mind. */
export function startMaintenance(options: {
  tasks: MaintenanceTask[];
  clock: Clock;
  logger: Logger;
  everyMs?: number;
}): {
  stop(): Promise<void>;
} {
  const { tasks, clock, logger, everyMs = EVERY_MS } = options;
  let stopped = false;
  let cancel = () => {};
  let running: Promise<void> = Promise.resolve();

  const runAll = async () => {
    let failed = false;
    for (const task of tasks) {
      if (stopped) return;
      try {
        await task.run(clock.now());
      } catch (error) {
        failed = true;
        logger.error({ task: task.name, code: errorCode(error) }, 'maintenance failed; it is tried again in a minute');
      }
    }
    later(failed ? AFTER_FAILURE_MS : everyMs);
  };
  const later = (delayMs: number) => {
    if (stopped) return;
    cancel = clock.after(delayMs, () => {
      running = runAll();
    });
  };
  later(everyMs);
  return {
    async stop() {
      stopped = true;
      cancel();
      await running;
    },
  };
}
