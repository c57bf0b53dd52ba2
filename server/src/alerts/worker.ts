import { startSteps } from '../db/step-worker.ts';
import type { Clock } from '../kernel/clock.ts';
import type { Logger } from '../kernel/logger.ts';
import { type AnnounceDeps, announceNext } from './announce.ts';
import { type EvaluateDeps, evaluateNext } from './evaluate.ts';

/** How often is looked whether a rule or an announcement is due. */
const ALERTS_IDLE_MS = 1_000;

/** Looks at alert rules, and tells of what has fired and is over. Every node does, and the row locks share the work. */
export function startAlertWorker(options: EvaluateDeps & AnnounceDeps & { logger: Logger; clock: Clock }): {
  stop(): Promise<void>;
} {
  const { clock, logger } = options;
  const pace = {
    // A quarter of one connection's time at most, however many rules there are.
    pauseMs: (tookMs: number) => Math.max(10, tookMs * 3),
    idleMs: ALERTS_IDLE_MS,
    clock,
    logger,
  };
  const workers = [
    startSteps({ what: 'alert rules', step: () => evaluateNext(options), ...pace }),
    startSteps({ what: 'alert announcements', step: () => announceNext(options), ...pace }),
  ];
  return {
    async stop() {
      await Promise.all(workers.map((worker) => worker.stop()));
    },
  };
}
