/** What waits, in order for each tenant, while tenants take turns. */
export class FairQueue<Item extends { tenantId: string }> {
  readonly #waiting = new Map<string, Item[]>();
  #size = 0;

  get size(): number {
    return this.#size;
  }

  add(item: Item): void {
    const ofTenant = this.#waiting.get(item.tenantId);
    if (ofTenant === undefined) this.#waiting.set(item.tenantId, [item]);
    else ofTenant.push(item);
    this.#size += 1;
  }

  /** It was taken and is to be taken again, before what its tenant added later. */
  putBack(item: Item): void {
    const ofTenant = this.#waiting.get(item.tenantId);
    if (ofTenant === undefined) this.#waiting.set(item.tenantId, [item]);
    else ofTenant.unshift(item);
    this.#size += 1;
  }

  /** The next one of the tenant whose turn it is, which then waits for all others. */
  take(): Item | undefined {
    for (const [tenantId, ofTenant] of this.#waiting) {
      const item = ofTenant.shift();
      this.#waiting.delete(tenantId);
      if (ofTenant.length > 0) this.#waiting.set(tenantId, ofTenant);
      if (item !== undefined) this.#size -= 1;
      return item;
    }
    return undefined;
  }

  /** Takes all. */
  drain(): Item[] {
    const all = [...this.#waiting.values()].flat();
    this.#waiting.clear();
    this.#size = 0;
    return all;
  }
}
