import dns from 'node:dns';
import type { LookupFunction } from 'node:net';
import { type Clock, systemClock } from '../../kernel/clock.ts';
import { parseAllowList } from './allow-list.ts';
import { type AddressReason, classifyAddress } from './classify-address.ts';
import { judgeUrl, type UrlVerdict } from './judge-url.ts';
import { refusal, refusedReason } from './refused-reason.ts';

/** The `code` of the error with which `EgressGuard.lookup` refuses a destination. */
export const EGRESS_BLOCKED = 'EGRESS_BLOCKED';

/** Refused: the name leads to an address that deliveries may not reach. */
export class EgressBlockedError extends Error {
  override name = 'EgressBlockedError';
  readonly code = EGRESS_BLOCKED;
  readonly reason: AddressReason;

  constructor(reason: AddressReason) {
    super(refusal(reason));
    this.reason = reason;
  }
}

/**
 * Decides where deliveries may go: to public addresses, and to what the operator allows beside them. Every tenant
 * chooses URLs freely, so without it they could reach the operator's own network from inside (SSRF).
 *
 * A URL is judged when it is written, for a quick and clear answer, and the address again at every connect, because a
 * name may lead elsewhere by then. Only the second protects.
 */
export interface EgressGuard {
  /** Judges a URL by its text alone. The reason is a sentence for the person who wrote it. */
  judgeUrl(text: string): UrlVerdict;
  /**
   * Looks a host up and gives the reason when any of its addresses is refused; undefined when none is, and also when
   * the name cannot be resolved within two seconds: it may come later, and every connect judges it again.
   */
  judgeHostByLookup(host: string): Promise<string | undefined>;
  /** The reason why a host that is an IP literal (IPv6 also in brackets) is refused; undefined for a name or a good one. */
  judgeLiteral(host: string): string | undefined;
  /**
   * `dns.lookup` for connects; fails with EgressBlockedError when any address of the name is refused, so that a name
   * with a good and a bad address cannot win by luck. Sockets do not call it for IP literals: see `judgeLiteral`.
   */
  lookup: LookupFunction;
}

export interface EgressOptions {
  /** CIDRs, addresses and host names that may be reached although they are not public. */
  allow: readonly string[];
  /** true: http only to what `allow` names. */
  requireHttps: boolean;
  /** How names become addresses (`dns.lookup`). */
  resolve?: Resolve;
  clock?: Clock;
}

export type Resolve = (
  hostname: string,
  options: dns.LookupAllOptions,
  callback: (error: NodeJS.ErrnoException | null, addresses: dns.LookupAddress[]) => void,
) => void;

/** @throws StartupError for an entry of `allow` that is no CIDR, address or host name. */
export function createEgressGuard(options: EgressOptions): EgressGuard {
  const { requireHttps, resolve = dns.lookup, clock = systemClock } = options;
  const allow = parseAllowList(options.allow);

  const findRefused = (hostname: string, addresses: readonly dns.LookupAddress[]): AddressReason | undefined => {
    for (const { address } of addresses) {
      const reason = refusedReason(allow, address, hostname);
      if (reason !== undefined) return reason;
    }
    return undefined;
  };

  const judgeLiteral = (host: string): string | undefined => {
    const address = withoutBrackets(host);
    if (classifyAddress(address) === 'unreadable') return undefined;
    const reason = refusedReason(allow, address);
    return reason && refusal(reason);
  };

  return {
    judgeUrl: (text) => judgeUrl(text, allow, requireHttps),
    judgeLiteral,
    judgeHostByLookup(host) {
      if (classifyAddress(withoutBrackets(host)) !== 'unreadable') return Promise.resolve(judgeLiteral(host));
      return new Promise((settle) => {
        const cancel = clock.after(LOOKUP_MS_MAX, () => settle(undefined));
        resolve(host, { all: true }, (error, addresses) => {
          cancel();
          const reason = error === null ? findRefused(host, addresses) : undefined;
          settle(reason && refusal(reason));
        });
      });
    },
    lookup(hostname, lookupOptions, callback) {
      resolve(hostname, { ...lookupOptions, all: true }, (error, addresses) => {
        if (error !== null) return callback(error, []);
        const reason = findRefused(hostname, addresses);
        if (reason !== undefined) return callback(new EgressBlockedError(reason), []);
        if (lookupOptions.all === true) return callback(null, addresses);
        const first = addresses[0];
        return first === undefined
          ? callback(Object.assign(new Error('The name has no address.'), { code: dns.NODATA }), [])
          : callback(null, first.address, first.family);
      });
    },
  };
}

/** A person waits for the answer; a name server that is slower than this will be asked again at every connect. */
const LOOKUP_MS_MAX = 2_000;

function withoutBrackets(host: string): string {
  return host.startsWith('[') && host.endsWith(']') ? host.slice(1, -1) : host;
}
