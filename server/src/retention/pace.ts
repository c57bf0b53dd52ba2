import type { Clock } from '../kernel/clock.ts';

const ROWS_FIRST = 100;
const ROWS_MAX = 2_000;

/** A step is to take about so long: it holds up nobody who waits for one of its rows for longer. */
const STEP_MS = 50;

/** A step is followed by a pause nine times as long: a tenth of one connection's time, also when the database is busy. */
const PAUSES_A_STEP = 9;
const PAUSE_MS_MIN = 5;

/** Sizes the steps of a long work by how long they take, and rests between them. */
export class Pace {
  readonly #clock: Clock;
  #rows = ROWS_FIRST;
  #stopped = false;
  #wake = () => {};

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get stopped(): boolean {
    return this.#stopped;
  }

  /** Ends a pause that is under way. */
  stop(): void {
    this.#stopped = true;
    this.#wake();
  }

  /** Does a step, tells it how many rows it may look at, and rests. */
  async step<T>(work: (rows: number) => Promise<T>): Promise<T> {
    const startedMs = this.#clock.monotonicMs();
    const result = await work(this.#rows);
    const tookMs = this.#clock.monotonicMs() - startedMs;
    this.#rows = nextRows(this.#rows, tookMs);
    await this.#rest(Math.max(PAUSE_MS_MIN, tookMs * PAUSES_A_STEP));
    return result;
  }

  async #rest(ms: number): Promise<void> {
    if (this.#stopped) return;
    await new Promise<void>((resolve) => {
      const cancel = this.#clock.after(ms, resolve);
      this.#wake = () => {
        cancel();
        resolve();
      };
    });
  }
}

/** Rows of the next step, after one of so many rows took so long. Payloads may be megabytes: from one row on. */
function nextRows(rows: number, tookMs: number): number {
  if (tookMs > 2 * STEP_MS) return Math.max(1, Math.floor(rows / 2));
  return tookMs < STEP_MS / 2 ? Math.min(ROWS_MAX, rows * 2) : rows;
}
