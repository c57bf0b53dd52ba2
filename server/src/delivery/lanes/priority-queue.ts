import { Fifo } from './fifo.ts';

/**
 * Higher priorities first, and within a priority first in, first out. Nearly every queue has one priority only.
 *
 * What is less urgent does not wait for ever: after `PASSED_OVER_MAX` more urgent ones in a row one of the others comes,
 * of the priority that was not served for longest.
 */
export class PriorityQueue<Item> {
  /** The highest priority stands first. */
  readonly #bands: Band<Item>[] = [];
  #size = 0;
  /** Items taken in a row while less urgent ones waited. */
  #passedOver = 0;
  #servings = 0;

  get size(): number {
    return this.#size;
  }

  /** The priority of the item that `shift` takes next; 0 when there is none. */
  get highest(): number {
    return this.#size === 0 ? 0 : (this.#bands[0]?.priority ?? 0);
  }

  push(item: Item, priority: number): void {
    this.#band(priority).push(item);
    this.#size += 1;
  }

  /** Puts one back that was taken: it comes before all of its priority. */
  putBack(item: Item, priority: number): void {
    this.#band(priority).unshift(item);
    this.#size += 1;
  }

  /** What `shift` takes next. */
  peek(): Item | undefined {
    return this.#size === 0 ? undefined : this.#bands[this.#nextBand()]?.items.first;
  }

  shift(): Item | undefined {
    if (this.#size === 0) return undefined;
    const at = this.#nextBand();
    const band = this.#bands[at];
    if (band === undefined) return undefined;
    if (this.#bands.length > 1) {
      this.#passedOver = at === 0 ? this.#passedOver + 1 : 0;
      this.#servings += 1;
      band.servedAt = this.#servings;
    }
    this.#size -= 1;
    const item = band.items.shift();
    if (band.items.size === 0 && this.#size > 0) this.#bands.splice(at, 1);
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

  /** The most urgent one, unless its turn is over. */
  #nextBand(): number {
    if (this.#passedOver < PASSED_OVER_MAX || this.#bands.length < 2) return 0;
    let next = 1;
    for (let at = 2; at < this.#bands.length; at++) {
      if ((this.#bands[at]?.servedAt ?? 0) < (this.#bands[next]?.servedAt ?? 0)) next = at;
    }
    return next;
  }

  #band(priority: number): Fifo<Item> {
    // The band of the last item stays when it is empty; it gives way to another priority.
    if (this.#size === 0 && this.#bands[0]?.priority !== priority) this.#bands.length = 0;
    let at = 0;
    for (; at < this.#bands.length; at++) {
      const band = this.#bands[at];
      if (band === undefined || band.priority < priority) break;
      if (band.priority === priority) return band.items;
    }
    const items = new Fifo<Item>();
    this.#bands.splice(at, 0, { priority, items, servedAt: this.#servings });
    return items;
  }
}

/** What is less urgent has one place in so many and one. */
export const PASSED_OVER_MAX = 31;

interface Band<Item> {
  priority: number;
  items: Fifo<Item>;
  /** Which of the queue's servings was its latest; that of its coming before the first. */
  servedAt: number;
}
