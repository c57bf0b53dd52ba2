import type net from 'node:net';
import { type Clock, systemClock } from '../../kernel/clock.ts';
import { hostKey, parseAllowList } from './allow-list.ts';
import { classifyAddress } from './classify-address.ts';
import { type ConnectResult, connectThroughProxy, connectToAddresses } from './connect-judged.ts';
import { openHostsFile } from './hosts-file.ts';
import { type IpWhitelist, isWithinWhitelist, OUTSIDE_WHITELIST } from './ip-whitelist.ts';
import { addressOfName, judgeUrl, type UrlVerdict } from './judge-url.ts';
import { createNameLookup } from './name-lookup.ts';
import type { EgressProxy } from './proxy.ts';
import { refusal, refusedReason } from './refused-reason.ts';
import { type Resolve, Resolver } from './resolver.ts';

export type { ConnectResult } from './connect-judged.ts';
export type { Resolve } from './resolver.ts';

/** Refused: the destination is not one that deliveries may reach. Its text says why, and tells no address. */
export class EgressBlockedError extends Error {
  override name = 'EgressBlockedError';
}

/**
 * Decides where deliveries may go: to public addresses, and to what the operator allows beside them. Every tenant
 * chooses URLs freely, so without it they could reach the operator's own network from inside (SSRF).
 *
 * A URL is judged when it is written, for a quick and clear answer, and the address again at every connect, because a
 * name may lead elsewhere by then. Only the second protects, so the guard opens the connections itself: what it hands
 * out is connected to an address that it has judged.
 */
export interface EgressGuard {
  /** Judges a URL by its text alone. The reason is a sentence for the person who wrote it. */
  judgeUrl(text: string): UrlVerdict;
  /**
   * Looks a host up and gives the reason when any of its addresses is refused; undefined when none is, and also when
   * the name cannot be resolved within two seconds: it may come later, and every connect judges it again.
   */
  judgeHostByLookup(host: string, ipWhitelist?: IpWhitelist | null): Promise<string | undefined>;
  /**
   * The reason why a host is refused whose address is known without asking: an IP literal (IPv6 also in brackets),
   * `localhost`, or the name of a metadata service. undefined for a good one and for other names.
   */
  judgeLiteral(host: string, ipWhitelist?: IpWhitelist | null): string | undefined;
  /**
   * Connects to a host: looks it up, judges every address it has, and dials one of them, through the egress proxy where
   * one is set. A name with a good and a bad address is refused, so that it cannot win by luck. Fails before any packet
   * with EgressBlockedError, and with NameLookupError, EgressProxyError or the socket's own error.
   *
   * Returns what stops it; `done` is called once, later, and not after it was stopped.
   */
  connect(target: EgressTarget, done: (result: ConnectResult) => void): () => void;
}

export interface EgressTarget {
  /** A name or an IP literal, without brackets. */
  host: string;
  port: number;
  /** null: any address that deliveries may reach. */
  ipWhitelist: IpWhitelist | null;
  /**
   * Who reads, without a `data` event, and into which memory (`net.connect`); left aside through a proxy, whose answer
   * has to be read first.
   */
  onread?: net.OnReadOpts | undefined;
}

export interface EgressOptions {
  /** CIDRs, addresses and host names that may be reached although they are not public. */
  allow: readonly string[];
  /** true: http only to what `allow` names. */
  requireHttps: boolean;
  /** undefined: deliveries go straight out. The proxy variables of the environment count for nothing. */
  proxy?: EgressProxy | undefined;
  /** How names become addresses; the machine's name servers and hosts file by default. */
  resolve?: Resolve;
  clock?: Clock;
}

/** @throws StartupError for an entry of `allow` that is no CIDR, address or host name. */
export function createEgressGuard(options: EgressOptions): EgressGuard {
  const { requireHttps, proxy, clock = systemClock } = options;
  const allow = parseAllowList(options.allow);
  const lookup = options.resolve ?? createNameLookup({ isOperators: allow.hasHost, hosts: openHostsFile(clock) });
  const resolver = new Resolver({ clock, lookup });

  const judgeAddresses = (
    addresses: readonly string[],
    hostname: string | undefined,
    ipWhitelist: IpWhitelist | null,
  ): string | undefined => {
    for (const address of addresses) {
      const reason = refusedReason(allow, address, hostname);
      if (reason !== undefined) return refusal(reason);
    }
    return ipWhitelist === null || isWithinWhitelist(ipWhitelist, addresses) ? undefined : OUTSIDE_WHITELIST;
  };

  const judgeLiteral = (host: string, ipWhitelist: IpWhitelist | null = null): string | undefined => {
    const key = hostKey(withoutBrackets(host));
    if (classifyAddress(key) !== 'unreadable') return judgeAddresses([key], undefined, ipWhitelist);
    const address = addressOfName(key);
    const reason = address && refusedReason(allow, address, key);
    return reason && refusal(reason);
  };

  return {
    judgeUrl: (text) => judgeUrl(text, allow, requireHttps),
    judgeLiteral,
    judgeHostByLookup(host, ipWhitelist = null) {
      if (classifyAddress(withoutBrackets(host)) !== 'unreadable') {
        return Promise.resolve(judgeLiteral(host, ipWhitelist));
      }
      return new Promise((settle) => {
        const cancel = clock.after(LOOKUP_MS_MAX, () => settle(undefined));
        resolver.resolve(host, (resolved) => {
          cancel();
          settle('error' in resolved ? undefined : judgeAddresses(resolved.addresses, host, ipWhitelist));
        });
      });
    },
    connect({ host, port, ipWhitelist, onread }, done) {
      let stopped = false;
      let stopConnect = (): void => {
        stopped = true;
      };
      const refuse = (error: Error) => {
        queueMicrotask(() => {
          if (!stopped) done({ ok: false, error });
        });
      };
      const dial = (addresses: readonly string[], hostname: string | undefined) => {
        const reason = judgeAddresses(addresses, hostname, ipWhitelist);
        if (reason !== undefined) refuse(new EgressBlockedError(reason));
        else if (proxy === undefined) stopConnect = connectToAddresses(addresses, port, onread, done);
        else stopConnect = connectThroughProxy(proxy, addresses, port, done);
      };
      const literalReason = judgeLiteral(host, ipWhitelist);
      if (literalReason !== undefined) refuse(new EgressBlockedError(literalReason));
      else if (classifyAddress(host) !== 'unreadable') dial([host], undefined);
      else {
        resolver.resolve(host, (resolved) => {
          if (stopped) return;
          if ('error' in resolved) refuse(resolved.error);
          else dial(resolved.addresses, host);
        });
      }
      return () => stopConnect();
    },
  };
}

/** A person waits for the answer; a name server that is slower than this will be asked again at every connect. */
const LOOKUP_MS_MAX = 2_000;

function withoutBrackets(host: string): string {
  return host.startsWith('[') && host.endsWith(']') ? host.slice(1, -1) : host;
}
