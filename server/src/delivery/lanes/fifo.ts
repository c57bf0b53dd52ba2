/**
 * First in, first out. `Array.shift` moves every element; here a head moves instead, and the spent part goes when it is
 * half of the array.
 */
export class Fifo<Item> {
  /** None before the head: what was taken is not held on to, for it may have a large payload. */
  #items: (Item | undefined)[] = [];
  #head = 0;

  get size(): number {
    return this.#items.length - this.#head;
  }

  get first(): Item | undefined {
    return this.#items[this.#head];
  }

  push(item: Item): void {
    this.#items.push(item);
  }

  /** Puts an item before all others. */
  unshift(item: Item): void {
    if (this.#head === 0) {
      this.#items.unshift(item);
      return;
    }
    this.#head -= 1;
    this.#items[this.#head] = item;
  }

  shift(): Item | undefined {
    const item = this.#items[this.#head];
    if (item === undefined) return undefined;
    this.#items[this.#head] = undefined;
    this.#head += 1;
    if (this.#head > SPENT_MAX && this.#head * 2 > this.#items.length) {
      this.#items = this.#items.slice(this.#head);
      this.#head = 0;
    }
    return item;
  }

  /** Takes all that is in it. */
  drain(): Item[] {
    const items = this.#items.slice(this.#head) as Item[];
    this.#items = [];
    this.#head = 0;
    return items;
  }

  /** Takes the items that match. */
  remove(matches: (item: Item) => boolean): Item[] {
    const all = this.drain();
    this.#items = all.filter((item) => !matches(item));
    return all.filter(matches);
  }
}

const SPENT_MAX = 64;
