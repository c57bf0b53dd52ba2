import type { Clock } from '../kernel/clock.ts';
import type { Answer, Bucket } from './bucket.ts';

/** What a bucket holds when it is full, in milliseconds of its rate: one second's worth. */
const BURST_MS = 1_000;

/** Sums of fractions miss whole numbers by less than this. */
const ROUNDING_MS = 1e-6;

/**
 * A token bucket, as GCRA (ITU-T I.371): it holds one second's worth and fills evenly. So no stretch of t seconds has
 * more than `perSecond` times (t + 1). For a node that is alone; others take slices (`slices.ts`) under the same rule.
 */
export class TokenBucket implements Bucket {
  readonly #clock: Clock;
  #intervalMs: number;
  /** When the last one taken would have come, had all come evenly: the theoretical arrival time. */
  #arrivalMs = Number.NEGATIVE_INFINITY;

  constructor(clock: Clock, perSecond: number) {
    this.#clock = clock;
    this.#intervalMs = 1_000 / perSecond;
  }

  take(count: number): Answer {
    const nowMs = this.#clock.monotonicMs();
    const arrivalMs = Math.max(this.#arrivalMs, nowMs) + count * this.#intervalMs;
    const tooEarlyMs = arrivalMs - BURST_MS - nowMs;
    const granted = tooEarlyMs <= ROUNDING_MS;
    if (granted) this.#arrivalMs = arrivalMs;
    const resetMs = Math.max(0, this.#arrivalMs - nowMs);
    const remaining = Math.floor((BURST_MS - resetMs + ROUNDING_MS) / this.#intervalMs);
    return { granted, remaining: Math.max(0, remaining), resetMs, retryMs: granted ? 0 : tooEarlyMs };
  }

  giveBack(count: number): void {
    this.#arrivalMs -= count * this.#intervalMs;
  }

  setLimit(perSecond: number): void {
    this.#intervalMs = 1_000 / perSecond;
  }
}
