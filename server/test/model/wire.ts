import { setImmediate as nextTurn } from 'node:timers/promises';
import type pg from 'pg';
import type { Clock } from '../../src/kernel/clock.ts';

/** Counts the statements under way on all wires, so that a test knows when nothing happens any more. */
export class Activity {
  /** How often each statement was made to fail. */
  readonly failed = new Map<string, number>();
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

/** Whether the database has executed a statement that fails. */
export type FaultTime = 'before' | 'after';

/** Whichever statement comes next. */
export const ANY = '*';

export interface WireOptions {
  real: pg.Pool;
  activity: Activity;
  clock: Clock;
  /** A statement is being sent that tells other nodes something. */
  onNotice: () => void;
  /** A statement fails, as `fail` wanted it. */
  onFault?: () => void;
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
  readonly #faults = new Map<string, FaultTime>();
  readonly #options: WireOptions;
  #state: 'up' | 'stalled' | 'cut' = 'up';
  #waiting: (() => void)[] = [];

  constructor(options: WireOptions) {
    this.#options = options;
    this.pool = { query: this.#queryOf(options.real), connect: () => this.#connect() } as unknown as pg.Pool;
  }

  get stalled(): boolean {
    return this.#state === 'stalled';
  }

  /** A statement fails the next time that it is sent: by its name, its text where it has none, or `ANY`. */
  fail(statement: string, when: FaultTime): void {
    this.#faults.set(statement, when);
  }

  /** Nothing more fails. */
  mend(): void {
    this.#faults.clear();
  }

  /** What was read over another pool reaches this node as its own statements do. */
  async bring<T>(read: Promise<T>): Promise<T> {
    const found = await read;
    await this.#gate();
    return found;
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
    return { query: this.#queryOf(client), release: (error?: Error) => client.release(error) };
  }

  /**
   * `query` of a pool or a client. A query that submits itself is answered by its own callback too, as `pg` does it, or
   * by the one that is given with it.
   */
  #queryOf(real: pg.Pool | pg.ClientBase) {
    return (query: Query, values?: unknown[] | Callback): Promise<unknown> => {
      const callback = typeof values === 'function' ? values : callbackOf(query);
      const answer = this.#pass(query, () => send(real, query, typeof values === 'function' ? undefined : values));
      if (callback !== undefined) {
        answer.then(
          (result) => callback(undefined, result),
          (error) => callback(error),
        );
      }
      return answer;
    };
  }

  async #pass<T>(query: Query, execute: () => Promise<T>): Promise<T> {
    await this.#gate();
    const { name, text } = typeof query === 'string' ? { name: undefined, text: query } : query;
    const fault = this.#takeFault(name ?? text);
    if (fault === 'before') throw lost('ECONNREFUSED');
    if (text?.includes('pg_notify')) this.#options.onNotice();
    const answer = await this.#options.activity.during(execute);
    await this.#gate();
    if (fault === 'after') throw lost('ECONNRESET');
    return answer;
  }

  #takeFault(statement = ''): FaultTime | undefined {
    const armed = this.#faults.has(statement) ? statement : ANY;
    const when = this.#faults.get(armed);
    if (when === undefined) return undefined;
    this.#faults.delete(armed);
    const { activity, onFault } = this.#options;
    activity.failed.set(statement, (activity.failed.get(statement) ?? 0) + 1);
    onFault?.();
    return when;
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

/** What `pg` takes: a text, a statement, or an object that submits itself and may have a name all the same. */
type Query = string | { name?: string; text?: string; submit?: unknown; callback?: Callback };
type Callback = (error: Error | undefined, result?: unknown) => void;

function callbackOf(query: Query): Callback | undefined {
  return typeof query === 'string' ? undefined : query.callback;
}

function send(real: pg.Pool | pg.ClientBase, query: Query, values: unknown[] | undefined): Promise<unknown> {
  if (typeof query === 'string' || query.submit === undefined) return real.query(query as string, values);
  return new Promise((resolve, reject) => {
    // Whom its own callback tells is told when the answer has passed the wire.
    delete query.callback;
    const answered: Callback = (error, result) => (error ? reject(error) : resolve(result));
    real.query(query as unknown as string, answered as unknown as unknown[]);
  });
}

function lost(code: string): Error {
  return Object.assign(new Error('The connection was lost.'), { code });
}
