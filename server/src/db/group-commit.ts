import type { Clock } from '../kernel/clock.ts';

/**
 * Gathers what arrives while earlier commits are under way into the next one. There is no timer: an idle database
 * commits an item at once, a busy one commits many together, so the cost of a commit is shared just when it matters.
 *
 * With `parallel` above 1 an item need not wait for the whole commit before its own: a commit spends most of its time
 * waiting for the disk, and PostgreSQL writes what several sessions have ready with one flush. A further commit begins
 * beside one under way when its first item has waited for a few milliseconds, so that it is worth its statement.
 */
export class GroupCommit<Item> {
  readonly #commit: (items: Item[], slot: number) => Promise<void>;
  readonly #weigh: (item: Item) => number;
  readonly #weightMax: number;
  /** Numbers of commits that could be under way besides those that are. */
  readonly #freeSlots: number[];
  readonly #parallel: number;
  #waiting: Item[] = [];
  #scheduled = false;
  #cancelTimer: (() => void) | undefined;
  readonly #clock: Clock | undefined;
  #idle: (() => void)[] = [];

  /**
   * `commit` must take care of its own failures: what it throws is a fault of the program. `slot`, under `parallel`,
   * is a number that no other commit under way has.
   * A batch takes items until their weights (1 each unless `weigh` says otherwise) reach `weightMax`.
   * `parallel`: how many commits may be under way at once, in place of one. Batches begin in the order of their items,
   * and may end in another.
   */
  constructor(options: {
    commit: (items: Item[], slot: number) => Promise<void>;
    weightMax: number;
    weigh?: (item: Item) => number;
    parallel?: { commits: number; clock: Clock };
  }) {
    this.#commit = options.commit;
    this.#weightMax = options.weightMax;
    this.#weigh = options.weigh ?? (() => 1);
    this.#parallel = options.parallel?.commits ?? 1;
    this.#clock = options.parallel?.clock;
    this.#freeSlots = Array.from({ length: this.#parallel }, (_, at) => this.#parallel - 1 - at);
  }

  /** Items that no commit has taken yet. */
  get waiting(): number {
    return this.#waiting.length;
  }

  add(item: Item): void {
    this.#waiting.push(item);
    if (this.#scheduled || this.#freeSlots.length === 0) return;
    if (this.#freeSlots.length < this.#parallel) {
      this.#cancelTimer ??= this.#clock?.after(BESIDE_ANOTHER_MS, () => this.#begin());
      return;
    }
    this.#scheduled = true;
    // All that the current turn of the event loop brings goes into one batch.
    setImmediate(() => {
      this.#scheduled = false;
      this.#begin();
    });
  }

  /** Resolves when nothing waits and nothing is under way. */
  whenIdle(): Promise<void> {
    if (!this.#scheduled && this.#freeSlots.length === this.#parallel) return Promise.resolve();
    return new Promise((resolve) => this.#idle.push(resolve));
  }

  #begin(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    const slot = this.#waiting.length > 0 ? this.#freeSlots.pop() : undefined;
    if (slot !== undefined) void this.#run(slot);
  }

  async #run(slot: number): Promise<void> {
    while (this.#waiting.length > 0) await this.#commit(this.#take(), slot);
    this.#freeSlots.push(slot);
    if (this.#scheduled || this.#freeSlots.length < this.#parallel) return;
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

/** Of a commit of 5 to 15 ms on a virtual disk, the part after which it pays not to wait for the rest. */
const BESIDE_ANOTHER_MS = 3;
