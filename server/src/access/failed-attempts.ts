import { isIPv6 } from 'node:net';
import type { Clock } from '../kernel/clock.ts';
import { AppError } from '../kernel/errors.ts';

/** Addresses remembered at most; the one that failed longest ago makes room. About 10 MB. */
const ADDRESSES_MAX = 50_000;

const WINDOW_MS = 60_000;

/** Credentials of one address that may be looked up at the same time. More of them at once are no customers. */
const LOOKUPS_MAX = 1_000;

/**
 * Counts authentication that failed, by address, so that guessing costs the guesser more than Posthorn. Each address has
 * a bucket of `perMinute` failures, which fills evenly: no stretch of t minutes has more than `perMinute` times (t + 1).
 * An IPv6 address counts as its /64, of which one customer mostly has all.
 *
 * Only what is not known from memory is asked about here. So an address from which someone guesses stays open to the
 * credentials that are in use behind it, such as those of other customers behind the same NAT.
 */
export interface FailedAttempts {
  /** @throws AppError 429 when too many have failed from there. Before anything is looked up or computed. */
  refuse(address: string): void;
  /** One more has failed. */
  add(address: string): void;
  /** Counts a look-up until it is done. @throws AppError 429 for too many at once. */
  lookingUp<T>(address: string, lookup: () => Promise<T>): Promise<T>;
}

/** @param perMinute undefined: nothing is counted. */
export function createFailedAttempts(clock: Clock, perMinute: number | undefined): FailedAttempts {
  /** When the last failure would have come, had all come evenly; the longest unchanged first. */
  const arrivals = new Map<string, number>();
  const lookups = new Map<string, number>();
  const intervalMs = WINDOW_MS / (perMinute ?? 1);

  return {
    refuse(address) {
      if (perMinute === undefined) return;
      const arrivalMs = arrivals.get(blockOf(address));
      if (arrivalMs === undefined) return;
      const waitMs = arrivalMs + intervalMs - WINDOW_MS - clock.monotonicMs();
      if (waitMs > ROUNDING_MS) throw tooManyFailures(waitMs);
    },
    add(address) {
      if (perMinute === undefined) return;
      const block = blockOf(address);
      const nowMs = clock.monotonicMs();
      // Those that were under way at once may be more than there was room for; they count for a minute, no longer.
      const arrivalMs = Math.min(Math.max(arrivals.get(block) ?? 0, nowMs) + intervalMs, nowMs + WINDOW_MS);
      arrivals.delete(block);
      arrivals.set(block, arrivalMs);
      for (const oldest of arrivals.keys()) {
        if (arrivals.size <= ADDRESSES_MAX) break;
        arrivals.delete(oldest);
      }
    },
    async lookingUp(address, lookup) {
      const block = blockOf(address);
      const underWay = lookups.get(block) ?? 0;
      if (perMinute !== undefined && underWay >= LOOKUPS_MAX) throw tooManyFailures(1_000);
      lookups.set(block, underWay + 1);
      try {
        return await lookup();
      } finally {
        const left = (lookups.get(block) ?? 1) - 1;
        if (left === 0) lookups.delete(block);
        else lookups.set(block, left);
      }
    },
  };
}

/** Sums of fractions miss whole numbers by less than this. */
const ROUNDING_MS = 1e-6;

/** An IPv4 address, or the first 64 bits of an IPv6 address; canonical, as Node writes addresses of sockets. */
function blockOf(address: string): string {
  if (!isIPv6(address)) return address;
  const [head = '', tail] = address.split('%', 1)[0]?.split('::') ?? [];
  const groups = head === '' ? [] : head.split(':');
  if (tail !== undefined) {
    const after = tail === '' ? [] : tail.split(':');
    // An IPv4 address at the end stands for two groups.
    const width = after.length + (tail.includes('.') ? 1 : 0);
    groups.push(...Array.from({ length: Math.max(0, 8 - groups.length - width) }, () => '0'), ...after);
  }
  return groups
    .slice(0, 4)
    .map((group) => Number.parseInt(group, 16).toString(16))
    .join(':');
}

function tooManyFailures(waitMs: number): AppError {
  return new AppError({
    code: 'too_many_failed_attempts',
    message: 'Too many requests from this address had no valid key; wait before you try another one.',
    retryAfterSeconds: Math.max(1, Math.ceil(waitMs / 1_000)),
  });
}
