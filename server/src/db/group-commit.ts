/**
 * Gathers what arrives while the previous commit is under way into the next one. There is no timer: an idle database
 * commits an item at once, a busy one commits many together, so the cost of a commit is shared just when it matters.
 */
export class GroupCommit<Item> {
  readonly #commit: (items: Item[]) => Promise<void>;
  readonly #weigh: (item: Item) => number;
  readonly #weightMax: number;
  #waiting: Item[] = [];
  #running = false;
  #idle: (() => void)[] = [];

  /**
   * `commit` must take care of its own failures: what it throws is a fault of the program.
   * A batch takes items until their weights (1 each unless `weigh` says otherwise) reach `weightMax`.
   */
  constructor(options: {
    commit: (items: Item[]) => Promise<void>;
    weightMax: number;
    weigh?: (item: Item) => number;
  }) {
    this.#commit = options.commit;
    this.#weightMax = options.weightMax;
    this.#weigh = options.weigh ?? (() => 1);
  }

  /** Items that no commit has taken yet. */
  get waiting(): number {
    return this.#waiting.length;
  }

  add(item: Item): void {
    this.#waiting.push(item);
    if (this.#running) return;
    this.#running = true;
    // All that the current turn of the event loop brings goes into one batch.
    setImmediate(() => void this.#run());
  }

  /** Resolves when nothing waits and nothing is under way. */
  whenIdle(): Promise<void> {
    if (!this.#running) return Promise.resolve();
    return new Promise((resolve) => this.#idle.push(resolve));
  }

  async #run(): Promise<void> {
    while (this.#waiting.length > 0) await this.#commit(this.#take());
    this.#running = false;
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
