import { setImmediate as nextTurn } from 'node:timers/promises';
import type pg from 'pg';
import type { Clock } from '../../src/kernel/clock.ts';

/** Counts the statements under way on all wires, so that a test knows when nothing happens any more. */
export class Activity {
  #underWay = 0;
  #wake: (() => void) | undefined;

  async during<T>(work: () => Promise<T>): Promise<T> {
    this.#underWay += 1;
    try {
      return await work();
    } finally {
      this.#underWay -= 1;
      if (this.#underWay === 0) this.#wake?.();
    }
  }

  /** Resolves when nothing is under way and what the last answers set off has had its turns of the event loop. */
  async whenIdle(): Promise<void> {
    for (let quiet = 0; quiet < QUIET_TURNS; quiet++) {
      await nextTurn();
      if (this.#underWay === 0) continue;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      quiet = -1;
    }
  }
}

/** An answer leads to the next statement within so many turns: a group commit takes one, reading webhooks another. */
const QUIET_TURNS = 3;

/** A statement that is to fail, and whether the database has executed it by then. */
export interface Fault {
  /** Its name, or its text where it has none. */
  statement: string;
  when: 'before' | 'after';
}

export interface WireOptions {
  real: pg.Pool;
  activity: Activity;
  clock: Clock;
  /** A statement is being sent that tells other nodes something. */
  onNotice: () => void;
}

/** `query_timeout` of the engine's pool. */
const STATEMENT_MS_MAX = 20_000;

/**
 * A node's way to the database: a pool whose statements can be held up, cut off for ever, or made to fail. The
 * statements themselves are executed by the real pool.
 */
export class Wire {
  /** To be given to the engine. */
  readonly pool: pg.Pool;
  fault: Fault | undefined;
  readonly #options: WireOptions;
  #state: 'up' | 'stalled' | 'cut' = 'up';
  #waiting: (() => void)[] = [];

  constructor(options: WireOptions) {
    this.#options = options;
    const { real } = options;
    this.pool = { query: this.#queryBy(real), connect: () => this.#connect() } as unknown as pg.Pool;
  }

  get stalled(): boolean {
    return this.#state === 'stalled';
  }

  /** Statements are not sent until `resume`. */
  stall(): void {
    if (this.#state === 'up') this.#state = 'stalled';
  }

  resume(): void {
    if (this.#state !== 'stalled') return;
    this.#state = 'up';
    for (const go of this.#waiting.splice(0)) go();
  }

  /** The process is gone: nothing is sent any more, and nothing that is under way is answered. */
  cut(): void {
    this.#state = 'cut';
    this.#waiting = [];
  }

  async #connect() {
    await this.#gate();
    const client = await this.#options.activity.during(() => this.#options.real.connect());
    return {
      query: this.#queryBy(client),
      release: (error?: Error) => client.release(error),
    };
  }

  /** The driver's `query`, for a statement, which gives a promise, and for a pipeline, which calls back. */
  #queryBy(real: pg.Pool | pg.PoolClient) {
    return (config: Statement, values?: unknown[], done?: (error?: Error) => void) => {
      if (done === undefined) return this.#pass(config, () => real.query(config as string, values));
      const send = () =>
        new Promise<void>((resolve, reject) => {
          const settle = (error?: Error | null) => (error ? reject(error) : resolve());
          (real as unknown as Queries).query(config, undefined, settle);
        });
      return this.#pass(config, send).then(() => done(), done);
    };
  }

  async #pass<T>(config: Statement, send: () => Promise<T>): Promise<T> {
    await this.#gate();
    const text = typeof config === 'string' ? config : (config.text ?? '');
    const name = typeof config === 'string' ? config : (config.name ?? text);
    const fault = this.fault?.statement === name ? this.fault.when : undefined;
    if (fault !== undefined) this.fault = undefined;
    if (fault === 'before') throw lost('ECONNREFUSED');
    if (text.includes('pg_notify')) this.#options.onNotice();
    const answer = await this.#options.activity.during(send);
    await this.#gate();
    if (fault === 'after') throw lost('ECONNRESET');
    return answer;
  }

  async #gate(): Promise<void> {
    if (this.#state === 'up') return;
    // Of one that is cut off nobody hears again.
    await new Promise<void>((resolve, reject) => {
      if (this.#state !== 'stalled') return;
      const cancel = this.#options.clock.after(STATEMENT_MS_MAX, () => reject(lost('ETIMEDOUT')));
      this.#waiting.push(() => {
        cancel();
        resolve();
      });
    });
  }
}

interface Queries {
  query(config: Statement, values: undefined, settle: (error?: Error | null) => void): void;
}

type Statement = string | { name?: string; text?: string };

function lost(code: string): Error {
  return Object.assign(new Error('The connection was lost.'), { code });
}
