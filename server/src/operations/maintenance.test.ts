import { expect, test } from 'vitest';
import { createLogger } from '../kernel/logger.ts';
import { ManualClock } from '../testing/manual-clock.ts';
import { startMaintenance } from './maintenance.ts';

test.each([
  [undefined, 3_600_000],
  [60_000, 60_000],
])('with an interval of %s ms each task runs every %i ms', async (everyMs, expectedMs) => {
  const clock = new ManualClock();
  const runs: number[] = [];
  const startMs = clock.now();
  const task = { name: 'counted', run: async (nowMs: number) => runs.push(nowMs - startMs) };
  const logger = createLogger('silent');
  const { stop } = startMaintenance({ tasks: [task], clock, logger, ...(everyMs !== undefined && { everyMs }) });
  for (let round = 0; round < 2; round += 1) {
    clock.advance(expectedMs - 1);
    clock.advance(1);
    // The next time is set when the tasks have ended.
    await new Promise((resolve) => setImmediate(resolve));
  }
  expect(runs).toEqual([expectedMs, 2 * expectedMs]);
  await stop();
  expect(clock.pending).toBe(0);
});
