/** Digests kept at most; the oldest makes room. About 4 MB. */
const ENTRIES_MAX = 20_000;

/**
 * Keys, or tokens, that were valid when they were last looked up. They may be looked up again from an address that is
 * refused for its failures: the caches forget them each minute and with each change of their tenant, and a customer must
 * not be locked out then by whoever else is behind the same address.
 */
export interface ProvenKeys {
  add(digest: string): void;
  has(digest: string): boolean;
  delete(digest: string): void;
}

export function createProvenKeys(): ProvenKeys {
  const proven = new Set<string>();
  return {
    add(digest) {
      proven.delete(digest);
      proven.add(digest);
      for (const oldest of proven) {
        if (proven.size <= ENTRIES_MAX) break;
        proven.delete(oldest);
      }
    },
    has: (digest) => proven.has(digest),
    delete: (digest) => {
      proven.delete(digest);
    },
  };
}
