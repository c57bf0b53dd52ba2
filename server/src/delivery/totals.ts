import type pg from 'pg';
import { errorCode } from '../db/pool.ts';
import type { Clock } from '../kernel/clock.ts';
import type { Logger } from '../kernel/logger.ts';
import { FOLD_FILTERED } from './sql/fold-filtered.ts';
import { FOLD_TALLIES } from './sql/fold-tallies.ts';

/**
 * How often tallies are added to the totals of webhooks: the longer, the more deliveries of a webhook share a change of
 * its row. Whoever reads totals adds what is not added yet (`webhooks/counts.ts`).
 */
const FOLD_EVERY_MS = 5_000;

/** Commits whose tallies one statement takes. */
const FOLD_ROWS = 100;

/** Adds what each commit of attempts, and of events, counted to the totals of its webhooks, now and then, while there is something. */
export class Totals {
  readonly #pool: pg.Pool;
  readonly #clock: Clock;
  readonly #logger: Logger;
  #cancel: (() => void) | undefined;
  #folding: Promise<void> = Promise.resolve();
  #stopped = false;

  constructor(options: { pool: pg.Pool; clock: Clock; logger: Logger }) {
    this.#pool = options.pool;
    this.#clock = options.clock;
    this.#logger = options.logger;
  }

  /** There may be tallies. */
  foldLater(): void {
    if (this.#cancel !== undefined || this.#stopped) return;
    this.#cancel = this.#clock.after(FOLD_EVERY_MS, () => {
      this.#folding = this.#folding.then(() => this.#fold());
    });
  }

  /** Leaves what there is to other nodes, or to the next start. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#cancel?.();
    await this.#folding;
  }

  async #fold(): Promise<void> {
    // What is recorded from here on may be too late for this time.
    this.#cancel = undefined;
    try {
      await foldTallies(this.#pool);
    } catch (error) {
      this.#logger.warn({ code: errorCode(error) }, 'webhooks could not be counted yet');
      this.foldLater();
    }
  }
}

/** Adds all tallies there are to the totals of their webhooks. */
export async function foldTallies(pool: pg.Pool): Promise<void> {
  for (const statement of [FOLD_TALLIES, FOLD_FILTERED]) {
    let rows: number;
    do {
      const result = await pool.query<{ rows: number }>({ ...statement, values: [FOLD_ROWS] });
      rows = result.rows[0]?.rows ?? 0;
    } while (rows === FOLD_ROWS);
  }
}
