/** Whose something is, from the wider to the narrower: a tenant, and one of its programs. */
type Owners = readonly string[];

/** What waits: owners take turns, and so do those within one. */
export class FairQueue<Item extends { owners: Owners }> {
  readonly #root = new Node<Item>();

  get size(): number {
    return this.#root.size;
  }

  add(item: Item): void {
    this.#root.add(item, item.owners, false);
  }

  /** It was taken and is to be taken again, before what came later of its owner. */
  putBack(item: Item): void {
    this.#root.add(item, item.owners, true);
  }

  /** The next one of whose turn it is, who then waits for all others. */
  take(): Item | undefined {
    return this.#root.take();
  }

  /** Takes all. */
  drain(): Item[] {
    const all: Item[] = [];
    for (let item = this.take(); item !== undefined; item = this.take()) all.push(item);
    return all;
  }
}

class Node<Item> {
  size = 0;
  readonly #own: Item[] = [];
  readonly #below = new Map<string, Node<Item>>();

  add(item: Item, [owner, ...rest]: Owners, first: boolean): void {
    this.size += 1;
    if (owner === undefined) {
      if (first) this.#own.unshift(item);
      else this.#own.push(item);
      return;
    }
    let below = this.#below.get(owner);
    if (below === undefined) {
      below = new Node();
      this.#below.set(owner, below);
    }
    below.add(item, rest, first);
  }

  take(): Item | undefined {
    if (this.size === 0) return undefined;
    this.size -= 1;
    for (const [owner, below] of this.#below) {
      const item = below.take();
      this.#below.delete(owner);
      if (below.size > 0) this.#below.set(owner, below);
      return item;
    }
    return this.#own.shift();
  }
}
