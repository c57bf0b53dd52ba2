/**
 * A map that holds entries up to a number, and lets those go that were not used lately.
 *
 * What was used lately is in one `Map`; when that holds half of the number it becomes the earlier one, and what was
 * there and was not used since is gone. Moving an entry to a Map's end at each use would keep the exact order, and cost
 * 6 us a use once the Map is nearly full: it is rebuilt every few dozen moves.
 */
export class RecentEntries<Value> {
  readonly #maxRecent: number;
  #recent = new Map<string, Value>();
  #earlier = new Map<string, Value>();

  constructor(maxEntries: number) {
    this.#maxRecent = Math.max(1, Math.floor(maxEntries / 2));
  }

  get(key: string): Value | undefined {
    const recent = this.#recent.get(key);
    if (recent !== undefined) return recent;
    const earlier = this.#earlier.get(key);
    if (earlier !== undefined) this.set(key, earlier);
    return earlier;
  }

  set(key: string, value: Value): void {
    if (this.#recent.size >= this.#maxRecent && !this.#recent.has(key)) {
      this.#earlier = this.#recent;
      this.#recent = new Map();
    }
    this.#earlier.delete(key);
    this.#recent.set(key, value);
  }

  /** The entry if it is there; using it so counts for nothing. */
  peek(key: string): Value | undefined {
    return this.#recent.get(key) ?? this.#earlier.get(key);
  }

  delete(key: string): void {
    this.#recent.delete(key);
    this.#earlier.delete(key);
  }

  clear(): void {
    this.#recent.clear();
    this.#earlier.clear();
  }

  /** Deletions meanwhile are fine. */
  *[Symbol.iterator](): IterableIterator<[string, Value]> {
    yield* this.#recent;
    yield* this.#earlier;
  }
}
