import type { Clock } from '../kernel/clock.ts';

/** When commits of a kind begin while many items come. */
export interface CommitPace {
  clock: Clock;
  /** Commits that may be under way at once. */
  commits: number;
  /** Milliseconds from the beginning of one commit to that of the next. */
  everyMs: number;
}

/**
 * Gathers what arrives while earlier commits are under way into the next one. An idle database commits an item at once,
 * a busy one commits many together, so the cost of a commit is shared just when it matters.
 *
 * A `pace` shares it better. The beginning of a statement costs as much as ten of its rows, so with many items commits
 * begin `everyMs` apart, or as soon as there are enough; with few, at once. And an item need not wait for the whole
 * commit before its own: a commit spends most of its time waiting for the disk, and PostgreSQL writes what several
 * sessions have ready with one flush, so a further one may begin beside it.
 */
export class GroupCommit<Item> {
  readonly #commit: (items: Item[]) => Promise<void>;
  readonly #weigh: (item: Item) => number;
  readonly #weightMax: number;
  readonly #pace: CommitPace | undefined;
  readonly #commitsMax: number;
  #waiting: Item[] = [];
  #underWay = 0;
  #scheduled = false;
  #cancelTimer: (() => void) | undefined;
  #lastBeganMs = Number.NEGATIVE_INFINITY;
  #lastItems = 0;
  #idle: (() => void)[] = [];

  /**
   * `commit` must take care of its own failures: what it throws is a fault of the program.
   * A batch takes items until their weights (1 each unless `weigh` says otherwise) reach `weightMax`.
   * Without a `pace` there is one commit at a time, and the next begins when it has ended. Batches begin in the order of
   * their items, and with several at once may end in another.
   */
  constructor(options: {
    commit: (items: Item[]) => Promise<void>;
    weightMax: number;
    weigh?: (item: Item) => number;
    pace?: CommitPace;
  }) {
    this.#commit = options.commit;
    this.#weightMax = options.weightMax;
    this.#weigh = options.weigh ?? (() => 1);
    this.#pace = options.pace;
    this.#commitsMax = options.pace?.commits ?? 1;
  }

  /** Items that no commit has taken yet. */
  get waiting(): number {
    return this.#waiting.length;
  }

  add(item: Item): void {
    this.#waiting.push(item);
    this.#consider();
  }

  /** Resolves when nothing waits and nothing is under way. */
  whenIdle(): Promise<void> {
    if (this.#isIdle) return Promise.resolve();
    return new Promise((resolve) => this.#idle.push(resolve));
  }

  get #isIdle(): boolean {
    return this.#waiting.length === 0 && this.#underWay === 0;
  }

  /** Begins a commit, now or when it is time, if there is something to commit and room for it. */
  #consider(): void {
    if (this.#scheduled || this.#waiting.length === 0 || this.#underWay === this.#commitsMax) return;
    const waitMs = this.#waitMs();
    if (waitMs > 0) {
      this.#cancelTimer ??= this.#pace?.clock.after(waitMs, () => {
        this.#cancelTimer = undefined;
        this.#begin();
      });
      return;
    }
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    this.#scheduled = true;
    // All that the current turn of the event loop brings goes into one batch.
    setImmediate(() => {
      this.#scheduled = false;
      this.#begin();
    });
  }

  #waitMs(): number {
    if (this.#pace === undefined || this.#waiting.length >= ENOUGH_ITEMS) return 0;
    const isBusy = this.#lastItems >= MANY_ITEMS || this.#underWay > 0;
    return isBusy ? this.#lastBeganMs + this.#pace.everyMs - this.#pace.clock.monotonicMs() : 0;
  }

  #begin(): void {
    if (this.#waiting.length > 0 && this.#underWay < this.#commitsMax) void this.#run();
  }

  async #run(): Promise<void> {
    this.#underWay += 1;
    const items = this.#take();
    this.#lastBeganMs = this.#pace?.clock.monotonicMs() ?? 0;
    this.#lastItems = items.length;
    this.#consider();
    await this.#commit(items);
    this.#underWay -= 1;
    this.#consider();
    if (!this.#isIdle) return;
    const idle = this.#idle;
    this.#idle = [];
    for (const resolve of idle) resolve();
  }

  #take(): Item[] {
    let weight = 0;
    let count = 0;
    while (count < this.#waiting.length && (count === 0 || weight < this.#weightMax)) {
      weight += this.#weigh(this.#waiting[count] as Item);
      count += 1;
    }
    return this.#waiting.splice(0, count);
  }
}

/** A commit of so many items shows that more are coming. */
const MANY_ITEMS = 4;

/** For so many items the beginning of a statement is a small part of its cost, and waiting for more gains little. */
const ENOUGH_ITEMS = 256;
