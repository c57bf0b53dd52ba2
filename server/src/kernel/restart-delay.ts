import type { Clock } from './clock.ts';

/** A run that lasted this long was no failed one: its end is restarted from at once. */
const STEADY_MS = 2_000;

const DELAY_MS_MIN = 1_000;
const DELAY_MS_MAX = 10_000;

/**
 * How long to wait before something that ended by itself is started again: not at all the first time, then 1 s, twice
 * as long each time, up to 10 s. After a run of two seconds it begins anew.
 */
export class RestartDelay {
  readonly #clock: Clock;
  #delayMs = 0;
  #startedMs: number | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** It runs now. */
  started(): void {
    this.#startedMs = this.#clock.monotonicMs();
  }

  /** It has ended, or did not start: the delay until the next try, in milliseconds. */
  next(): number {
    if (this.#startedMs !== undefined && this.#clock.monotonicMs() - this.#startedMs >= STEADY_MS) this.#delayMs = 0;
    this.#startedMs = undefined;
    const delayMs = this.#delayMs;
    this.#delayMs = Math.min(Math.max(DELAY_MS_MIN, delayMs * 2), DELAY_MS_MAX);
    return delayMs;
  }
}
