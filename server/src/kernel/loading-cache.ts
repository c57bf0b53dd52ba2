import type { Clock } from './clock.ts';

export interface LoadingCacheOptions {
  clock: Clock;
  /** Entries at most (10,000). Those not used lately make room. */
  maxEntries?: number;
  /**
   * Milliseconds after which an entry is loaded anew (60,000). Change notices make entries go at once; this bounds how
   * long a node is wrong whose connection for notices is dead without having noticed it.
   */
  maxAgeMs?: number;
}

/**
 * Values read from the database and kept until they change. A hit costs no promise.
 *
 * A value whose load began before an invalidation is handed to those who waited for it, whose requests were under way
 * while the change was, and is not kept: it may be from before the change. Whoever asks after the invalidation starts a
 * load of their own.
 */
export class LoadingCache<Value> {
  readonly #clock: Clock;
  readonly #maxRecent: number;
  readonly #maxAgeMs: number;
  /**
   * What was used lately; when it holds half of what the cache may hold it becomes `#earlier`, and what was there and
   * was not used since is gone. Moving an entry to a Map's end at each use would keep the exact order, and cost 6 us
   * a use once the Map is nearly full: it is rebuilt every few dozen moves.
   */
  #recent = new Map<string, Entry<Value>>();
  #earlier = new Map<string, Entry<Value>>();
  readonly #loads = new Map<string, Promise<Value | undefined>>();
  #generation = 0;

  constructor(options: LoadingCacheOptions) {
    this.#clock = options.clock;
    this.#maxRecent = Math.max(1, Math.floor((options.maxEntries ?? 10_000) / 2));
    this.#maxAgeMs = options.maxAgeMs ?? 60_000;
  }

  cached(key: string): Value | undefined {
    let entry = this.#recent.get(key);
    if (entry === undefined) {
      entry = this.#earlier.get(key);
      if (entry === undefined) return undefined;
      this.#keep(key, entry);
    }
    return this.#clock.monotonicMs() - entry.loadedAtMs < this.#maxAgeMs ? entry.value : undefined;
  }

  /** Loads a value; those who ask for the same key at the same time share one load. What is not there is not kept. */
  load(key: string, read: () => Promise<Value | undefined>): Promise<Value | undefined> {
    const underWay = this.#loads.get(key);
    if (underWay !== undefined) return underWay;
    const load = this.#loadAndKeep(key, read).finally(() => {
      if (this.#loads.get(key) === load) this.#loads.delete(key);
    });
    this.#loads.set(key, load);
    return load;
  }

  /** Drops the entries that match, and whatever is being loaded: nobody knows yet whether that matches. */
  invalidate(matches: (value: Value) => boolean): void {
    this.#forgetLoads();
    for (const entries of [this.#recent, this.#earlier]) {
      for (const [key, entry] of entries) {
        if (matches(entry.value)) entries.delete(key);
      }
    }
  }

  invalidateAll(): void {
    this.#forgetLoads();
    this.#recent.clear();
    this.#earlier.clear();
  }

  #forgetLoads(): void {
    this.#generation += 1;
    this.#loads.clear();
  }

  async #loadAndKeep(key: string, read: () => Promise<Value | undefined>): Promise<Value | undefined> {
    const generation = this.#generation;
    const loadedAtMs = this.#clock.monotonicMs();
    const value = await read();
    if (value === undefined || generation !== this.#generation) return value;
    this.#keep(key, { value, loadedAtMs });
    return value;
  }

  #keep(key: string, entry: Entry<Value>): void {
    if (this.#recent.size >= this.#maxRecent && !this.#recent.has(key)) {
      this.#earlier = this.#recent;
      this.#recent = new Map();
    }
    this.#earlier.delete(key);
    this.#recent.set(key, entry);
  }
}

interface Entry<Value> {
  value: Value;
  loadedAtMs: number;
}
