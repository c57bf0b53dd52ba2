import type { Clock } from '../kernel/clock.ts';
import { RecentEntries } from '../kernel/recent-entries.ts';

/** Of an environment, so many at once, and then so many a minute. */
export const TOLD_AT_ONCE_MAX = 1_000;
export const TOLD_A_MINUTE = 100;

const ENVIRONMENTS_MAX = 10_000;

/**
 * Of which deliveries that are held or discarded one by one the live stream tells. A webhook that is paused may have
 * thousands a second, and so may one whose transform wants few: what is told is a row for a day.
 */
export class TellingPace {
  readonly #clock: Clock;
  readonly #left = new RecentEntries<{ left: number; atMs: number }>(ENVIRONMENTS_MAX);

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Whether one more of an environment (UUID) is told of. Counts it. */
  takes(environmentId: string): boolean {
    const nowMs = this.#clock.monotonicMs();
    const before = this.#left.get(environmentId) ?? { left: TOLD_AT_ONCE_MAX, atMs: nowMs };
    const left = Math.min(TOLD_AT_ONCE_MAX, before.left + ((nowMs - before.atMs) / 60_000) * TOLD_A_MINUTE);
    this.#left.set(environmentId, { left: left < 1 ? left : left - 1, atMs: nowMs });
    return left >= 1;
  }
}
