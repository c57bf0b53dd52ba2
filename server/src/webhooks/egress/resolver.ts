import type dns from 'node:dns';
import { errorCode } from '../../db/pool.ts';
import type { Clock } from '../../kernel/clock.ts';

/** How a name becomes addresses: `dns.lookup` with `all: true`, or what a test puts in its place. */
export type Resolve = (
  hostname: string,
  options: dns.LookupAllOptions,
  callback: (error: NodeJS.ErrnoException | null, addresses: dns.LookupAddress[]) => void,
) => void;

/** A name has no addresses, or nobody could say them. `code` is the resolver's, or one of `LookupFault`. */
export class NameLookupError extends Error {
  override name = 'NameLookupError';
  readonly code: string;

  constructor(code: string) {
    super(`The host name could not be resolved. (${code})`);
    this.code = code;
  }
}

export type LookupFault = 'LOOKUP_TIMEOUT' | 'TOO_MANY_LOOKUPS' | 'TOO_MANY_ADDRESSES' | 'NO_ADDRESS';

export type Resolved = { addresses: readonly string[] } | { error: NameLookupError };

export interface ResolverOptions {
  clock: Clock;
  lookup: Resolve;
}

/** What an answer is kept for, in milliseconds. A failure that is not the name's own may be over soon. */
export const KEPT_MS = { found: 30_000, noSuchName: 5_000, failed: 1_000 } as const;

/** How long one asks; whoever is still asked then keeps an answer for the next. */
export const LOOKUP_MS_MAX = 5_000;

/** Names in memory; those asked least lately go. */
export const NAMES_MAX = 10_000;

/** Lookups under way, all together and for one zone; more wait for their turn. */
export const LOOKUPS_MAX = 512;
export const ZONE_LOOKUPS_MAX = 32;

/** Lookups that wait for their turn; more fail at once. */
const WAITING_MAX = 10_000;

/** An honest name has a handful; each is judged, and a name server under a tenant's control could send thousands. */
const ADDRESSES_MAX = 64;

/**
 * Names and their addresses, asked once for all who want to know.
 *
 * Tenants choose the names, so slow ones must not hold up the others. A zone, which is a name's last two labels, has
 * its own share of the lookups, and zones take turns: whoever makes names under one domain that nobody answers waits
 * for himself.
 */
export class Resolver {
  readonly #clock: Clock;
  readonly #lookup: Resolve;
  /** In the order of their last use. */
  readonly #known = new Map<string, { resolved: Resolved; untilMs: number }>();
  /** Names under way or waiting for their turn, with those who want to know. */
  readonly #asked = new Map<string, Set<(resolved: Resolved) => void>>();
  readonly #running = new Map<string, number>();
  /** Zones with names that wait; the first is next. */
  readonly #waiting = new Map<string, string[]>();
  #runningCount = 0;
  #waitingCount = 0;

  constructor(options: ResolverOptions) {
    this.#clock = options.clock;
    this.#lookup = options.lookup;
  }

  /** Calls `done` once, at once when the answer is known, and within LOOKUP_MS_MAX in any case. */
  resolve(host: string, done: (resolved: Resolved) => void): void {
    const known = this.#known.get(host);
    if (known !== undefined && known.untilMs > this.#clock.monotonicMs()) {
      this.#known.delete(host);
      this.#known.set(host, known);
      done(known.resolved);
      return;
    }
    const askers = this.#asked.get(host);
    // What need not wait is asked, whoever fills the line.
    if (askers === undefined && this.#waitingCount >= WAITING_MAX && !this.#mayRun(zoneOf(host))) {
      done({ error: fault('TOO_MANY_LOOKUPS') });
      return;
    }
    const asker = (resolved: Resolved) => {
      cancel();
      done(resolved);
    };
    const cancel = this.#clock.after(LOOKUP_MS_MAX, () => {
      this.#asked.get(host)?.delete(asker);
      done({ error: fault('LOOKUP_TIMEOUT') });
    });
    if (askers !== undefined) {
      askers.add(asker);
      return;
    }
    this.#asked.set(host, new Set([asker]));
    this.#begin(host);
  }

  #begin(host: string): void {
    const zone = zoneOf(host);
    if (this.#mayRun(zone)) {
      this.#run(host, zone);
      return;
    }
    const queue = this.#waiting.get(zone);
    if (queue === undefined) this.#waiting.set(zone, [host]);
    else queue.push(host);
    this.#waitingCount += 1;
  }

  #mayRun(zone: string): boolean {
    return this.#runningCount < LOOKUPS_MAX && (this.#running.get(zone) ?? 0) < ZONE_LOOKUPS_MAX;
  }

  #run(host: string, zone: string): void {
    this.#runningCount += 1;
    this.#running.set(zone, (this.#running.get(zone) ?? 0) + 1);
    this.#lookup(host, { all: true }, (error, found) => {
      this.#runningCount -= 1;
      const left = (this.#running.get(zone) ?? 0) - 1;
      if (left > 0) this.#running.set(zone, left);
      else this.#running.delete(zone);
      this.#ended(host, readAnswer(error, found));
      this.#runNext();
    });
  }

  #ended(host: string, resolved: Resolved): void {
    this.#known.delete(host);
    if (this.#known.size >= NAMES_MAX) {
      for (const oldest of this.#known.keys()) {
        this.#known.delete(oldest);
        break;
      }
    }
    this.#known.set(host, { resolved, untilMs: this.#clock.monotonicMs() + keptMs(resolved) });
    const askers = this.#asked.get(host) ?? [];
    this.#asked.delete(host);
    for (const asker of askers) asker(resolved);
  }

  /** Starts the first name of the first zone that has a share left; the zone goes to the end of the line. */
  #runNext(): void {
    for (const [zone, queue] of this.#waiting) {
      if (!this.#mayRun(zone)) continue;
      this.#waiting.delete(zone);
      for (let host = queue.shift(); host !== undefined; host = queue.shift()) {
        this.#waitingCount -= 1;
        if (queue.length > 0) this.#waiting.set(zone, queue);
        if ((this.#asked.get(host)?.size ?? 0) > 0) {
          this.#run(host, zone);
          return;
        }
        // Everyone who wanted it has given up.
        this.#asked.delete(host);
      }
      this.#waiting.delete(zone);
    }
  }
}

function readAnswer(error: NodeJS.ErrnoException | null, found: readonly dns.LookupAddress[]): Resolved {
  if (error !== null) return { error: new NameLookupError(errorCode(error)) };
  if (found.length === 0) return { error: fault('NO_ADDRESS') };
  if (found.length > ADDRESSES_MAX) return { error: fault('TOO_MANY_ADDRESSES') };
  return { addresses: found.map(({ address }) => address) };
}

function keptMs(resolved: Resolved): number {
  if ('addresses' in resolved) return KEPT_MS.found;
  return NO_SUCH_NAME.has(resolved.error.code) ? KEPT_MS.noSuchName : KEPT_MS.failed;
}

/** Of getaddrinfo and of c-ares: the name server answered, and there is nothing. */
const NO_SUCH_NAME: ReadonlySet<string> = new Set<string>([
  'ENOTFOUND',
  'ENODATA',
  'EAI_NODATA',
  'EAI_NONAME',
  'EBADNAME',
  'NO_ADDRESS' satisfies LookupFault,
  'TOO_MANY_ADDRESSES' satisfies LookupFault,
]);

function zoneOf(host: string): string {
  return host.split('.').slice(-2).join('.');
}

function fault(code: LookupFault): NameLookupError {
  return new NameLookupError(code);
}
