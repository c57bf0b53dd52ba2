import { startSteps } from '../../db/step-worker.ts';
import { type ReplayOptions, runChunk } from './chunk.ts';

/** Between two chunks of this node, whosever they are: 4,000 deliveries a second at most. */
const PAUSE_MS = 50;

/** Between two looks for a job when there was none. */
const IDLE_MS = 500;

/** Works on the replay jobs of all tenants, a chunk at a time. */
export function startReplayWorker(options: ReplayOptions): ReturnType<typeof startSteps> {
  const { clock, logger } = options;
  const step = () => runChunk(options);
  return startSteps({ what: 'replay jobs', step, pauseMs: () => PAUSE_MS, idleMs: IDLE_MS, clock, logger });
}
