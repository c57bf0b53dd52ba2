import type { DataKey, DataKeys } from '../kernel/secret-box.ts';
import type { OpenedKey } from './key-rows.ts';

/**
 * The keys in a process's memory. Keys that were rotated away stay until the process ends: what was read before, and is
 * not yet opened, must open. `key-keeper.ts` keeps it up to date.
 */
export class KeyRing implements DataKeys {
  readonly #sealing = new Map<number, Buffer>();
  #current: DataKey | undefined;
  #hashing: Buffer | undefined;
  #portal: Buffer | undefined;
  #newest: number | undefined;
  /** How they are read anew; set by whoever keeps the ring. */
  onUnknown: () => Promise<void> = async () => {};

  get current(): DataKey {
    if (this.#current === undefined) throw new Error('The data keys are not read yet.');
    return this.#current;
  }

  get hashing(): Buffer {
    if (this.#hashing === undefined) throw new Error('The data keys are not read yet.');
    return this.#hashing;
  }

  get portal(): Buffer {
    if (this.#portal === undefined) throw new Error('The data keys are not read yet.');
    return this.#portal;
  }

  /** The id of the newest data key that it can open with. */
  get newest(): number | undefined {
    return this.#newest;
  }

  find(id: number): Buffer | undefined {
    return this.#sealing.get(id);
  }

  refresh(): Promise<void> {
    return this.onUnknown();
  }

  /** Takes over what all rows hold now. */
  take(keys: readonly OpenedKey[]): void {
    for (const { id, purpose, state, key } of keys) {
      if (purpose === 'hashing') {
        this.#hashing = key;
        continue;
      }
      if (purpose === 'portal') {
        this.#portal = key;
        continue;
      }
      this.#sealing.set(id, key);
      this.#newest = Math.max(id, this.#newest ?? 0);
      if (state === 'current') this.#current = { id, key };
    }
  }
}
