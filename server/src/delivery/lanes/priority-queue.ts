import { Fifo } from './fifo.ts';

/** Higher priorities first, and within a priority first in, first out. Nearly every queue has one priority only. */
export class PriorityQueue<Item> {
  /** The highest priority stands first. */
  readonly #bands: { priority: number; items: Fifo<Item> }[] = [];
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** The priority of the item that `shift` takes next; 0 when there is none. */
  get highest(): number {
    return this.#size === 0 ? 0 : (this.#bands[0]?.priority ?? 0);
  }

  push(item: Item, priority: number): void {
    // The band of the last item stays when it is empty; it gives way to another priority.
    if (this.#size === 0 && this.#bands[0]?.priority !== priority) this.#bands.length = 0;
    this.#band(priority).push(item);
    this.#size += 1;
  }

  shift(): Item | undefined {
    const band = this.#bands[0];
    if (this.#size === 0 || band === undefined) return undefined;
    this.#size -= 1;
    const item = band.items.shift();
    if (band.items.size === 0 && this.#size > 0) this.#bands.shift();
    return item;
  }

  drain(): Item[] {
    this.#size = 0;
    return this.#bands.splice(0).flatMap(({ items }) => items.drain());
  }

  /** Takes the items that match. */
  remove(matches: (item: Item) => boolean): Item[] {
    const removed = this.#bands.flatMap(({ items }) => items.remove(matches));
    this.#size -= removed.length;
    for (let at = this.#bands.length - 1; at >= 0; at--)
      if (this.#bands[at]?.items.size === 0) this.#bands.splice(at, 1);
    return removed;
  }

  #band(priority: number): Fifo<Item> {
    let at = 0;
    for (; at < this.#bands.length; at++) {
      const band = this.#bands[at];
      if (band === undefined || band.priority < priority) break;
      if (band.priority === priority) return band.items;
    }
    const items = new Fifo<Item>();
    this.#bands.splice(at, 0, { priority, items });
    return items;
  }
}
