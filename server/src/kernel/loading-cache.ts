import type { Clock } from './clock.ts';
import { RecentEntries } from './recent-entries.ts';

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
  readonly #maxAgeMs: number;
  readonly #entries: RecentEntries<Entry<Value>>;
  readonly #loads = new Map<string, Promise<Value | undefined>>();
  #generation = 0;

  constructor(options: LoadingCacheOptions) {
    this.#clock = options.clock;
    this.#entries = new RecentEntries(options.maxEntries ?? 10_000);
    this.#maxAgeMs = options.maxAgeMs ?? 60_000;
  }

  cached(key: string): Value | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined) return undefined;
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
    for (const [key, entry] of this.#entries) if (matches(entry.value)) this.#entries.delete(key);
  }

  invalidateAll(): void {
    this.#forgetLoads();
    this.#entries.clear();
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
    this.#entries.set(key, { value, loadedAtMs });
    return value;
  }
}

interface Entry<Value> {
  value: Value;
  loadedAtMs: number;
}
