import type { Clock } from '../kernel/clock.ts';

/** A clock that a test moves. Timers fire in order as time passes them, each at its own moment. */
export class ManualClock implements Clock {
  #now: number;
  readonly #startMs: number;
  readonly #timers = new Set<{ atMs: number; task: () => void }>();

  constructor(startMs: number = Date.parse('2026-01-15T12:00:00.000Z')) {
    this.#now = startMs;
    this.#startMs = startMs;
  }

  now(): number {
    return this.#now;
  }

  monotonicMs(): number {
    return this.#now - this.#startMs;
  }

  after(delayMs: number, task: () => void): () => void {
    const timer = { atMs: this.#now + delayMs, task };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  /** Timers that have not fired. */
  get pending(): number {
    return this.#timers.size;
  }

  /** When the next timer rings; undefined when none is set. */
  get nextAtMs(): number | undefined {
    return this.#next(Number.POSITIVE_INFINITY)?.atMs;
  }

  advance(ms: number): void {
    const end = this.#now + ms;
    for (let next = this.#next(end); next !== undefined; next = this.#next(end)) {
      this.#timers.delete(next);
      this.#now = Math.max(this.#now, next.atMs);
      next.task();
    }
    this.#now = end;
  }

  #next(endMs: number): { atMs: number; task: () => void } | undefined {
    let first: { atMs: number; task: () => void } | undefined;
    for (const timer of this.#timers) {
      if (timer.atMs <= endMs && (first === undefined || timer.atMs < first.atMs)) first = timer;
    }
    return first;
  }
}
