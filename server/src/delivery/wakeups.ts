import TinyQueue from 'tinyqueue';
import type { Clock } from '../kernel/clock.ts';

interface Wakeup {
  atMs: number;
  key: string;
}

/**
 * One alarm clock for all lanes: remembers when each key wants to be woken, with one timer for the earliest.
 * A key has one time; an earlier one replaces a later one.
 */
export class Wakeups {
  readonly #clock: Clock;
  readonly #wake: (keys: string[]) => void;
  readonly #times = new Map<string, number>();
  readonly #queue = new TinyQueue<Wakeup>([], (a, b) => a.atMs - b.atMs);
  #cancelTimer: (() => void) | undefined;
  #timerAtMs = Number.POSITIVE_INFINITY;

  constructor(clock: Clock, wake: (keys: string[]) => void) {
    this.#clock = clock;
    this.#wake = wake;
  }

  set(key: string, atMs: number): void {
    const known = this.#times.get(key);
    if (known !== undefined && known <= atMs) return;
    this.#times.set(key, atMs);
    this.#queue.push({ atMs, key });
    this.#arm();
  }

  clear(): void {
    this.#times.clear();
    this.#queue.data = [];
    this.#queue.length = 0;
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    this.#timerAtMs = Number.POSITIVE_INFINITY;
  }

  #arm(): void {
    const next = this.#queue.peek();
    if (next === undefined || next.atMs >= this.#timerAtMs) return;
    this.#cancelTimer?.();
    this.#timerAtMs = next.atMs;
    this.#cancelTimer = this.#clock.after(Math.max(0, next.atMs - this.#clock.now()), () => this.#ring());
  }

  #ring(): void {
    this.#cancelTimer = undefined;
    this.#timerAtMs = Number.POSITIVE_INFINITY;
    const now = this.#clock.now();
    const due: string[] = [];
    for (let next = this.#queue.peek(); next !== undefined && next.atMs <= now; next = this.#queue.peek()) {
      this.#queue.pop();
      // An entry that an earlier time replaced is no longer the key's.
      if (this.#times.get(next.key) !== next.atMs) continue;
      this.#times.delete(next.key);
      due.push(next.key);
    }
    if (due.length > 0) this.#wake(due);
    this.#arm();
  }
}
