import { errorCode } from '../../db/pool.ts';
import { type ReplayOptions, runChunk } from './chunk.ts';

/** Between two chunks of this node, whosever they are: 4,000 deliveries a second at most. */
const PAUSE_MS = 50;

/** Between two looks for a job when there was none. */
const IDLE_MS = 500;

const AFTER_FAILURE_MS = 2_000;

/** Works on the replay jobs of all tenants, a chunk at a time. Every node does; a job's row lock shares the work. */
export function startReplayWorker(options: ReplayOptions): {
  /** Ends after the chunk under way. */
  stop(): Promise<void>;
} {
  const { clock, logger } = options;
  let stopped = false;
  let cancel = () => {};
  let running: Promise<void> = Promise.resolve();

  const work = async () => {
    try {
      later((await runChunk(options)) ? PAUSE_MS : IDLE_MS);
    } catch (error) {
      logger.error({ code: errorCode(error) }, 'replay jobs could not be read; trying again');
      later(AFTER_FAILURE_MS);
    }
  };
  const later = (delayMs: number) => {
    if (stopped) return;
    cancel = clock.after(delayMs, () => {
      running = work();
    });
  };
  later(IDLE_MS);
  return {
    async stop() {
      stopped = true;
      cancel();
      await running;
    },
  };
}
