import { startSteps } from '../db/step-worker.ts';
import { type ErasureOptions, eraseSome } from './step.ts';

/** Works on the erasures of all tenants, a step at a time. Every node does. */
export function startErasureWorker(options: ErasureOptions): ReturnType<typeof startSteps> {
  const { clock, logger } = options;
  return startSteps({
    what: 'erasures',
    step: () => eraseSome(options),
    // A third of one connection's time at most.
    pauseMs: (tookMs) => Math.max(10, 2 * tookMs),
    idleMs: 500,
    clock,
    logger,
  });
}
