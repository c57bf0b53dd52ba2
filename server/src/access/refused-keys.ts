import type { Clock } from '../kernel/clock.ts';

/** Milliseconds for which a key that was not found is refused without a query. */
const REMEMBERED_MS = 5_000;

/** Entries at most; the oldest makes room. In a list of their own, so that a flood of bad keys displaces no good one. */
const ENTRIES_MAX = 1_000;

/**
 * Keys that were lately not found, so that a client that keeps trying a revoked key costs no query each time. It needs
 * no invalidation: a key is random and nobody can try it before it is made, and a revoked one stays revoked.
 */
export interface RefusedKeys {
  add(digest: string): void;
  has(digest: string): boolean;
}

export function createRefusedKeys(clock: Clock): RefusedKeys {
  /** Digest to the monotonic time at which it is forgotten, oldest first. */
  const refused = new Map<string, number>();
  return {
    add(digest) {
      refused.delete(digest);
      refused.set(digest, clock.monotonicMs() + REMEMBERED_MS);
      for (const oldest of refused.keys()) {
        if (refused.size <= ENTRIES_MAX) break;
        refused.delete(oldest);
      }
    },
    has(digest) {
      const until = refused.get(digest);
      return until !== undefined && clock.monotonicMs() < until;
    },
  };
}
