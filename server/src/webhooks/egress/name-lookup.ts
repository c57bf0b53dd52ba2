import dns from 'node:dns';
import type { HostsFile } from './hosts-file.ts';
import type { Resolve } from './resolver.ts';

export interface NameLookupOptions {
  /** Names that the operator chose; they are asked as every program of the machine asks. */
  isOperators: (host: string) => boolean;
  hosts: HostsFile;
  /** Name servers as `address` or `address:port`, in place of the machine's. */
  servers?: readonly string[];
}

/**
 * Asks name servers for A and AAAA records without a thread, and the system (getaddrinfo) only for names that name
 * servers cannot know.
 *
 * getaddrinfo blocks a thread of libuv's pool, and libuv lets it have two of the four. A name whose servers never
 * answer keeps one for 10 seconds and more (resolv.conf(5): 5 seconds, 2 attempts, for each server), so two such names
 * of one tenant would stop all name lookups of the process; no deadline of ours can end them. c-ares, behind
 * `dns.Resolver`, asks over sockets of the event loop: beside 1,000 unanswered names another one took 1 to 3 ms.
 *
 * The system is asked for names without a dot, names in the hosts file, names that the operator allows, and for all
 * names where the machine has no name server that c-ares can ask. What is lost are search domains (`search` in
 * resolv.conf) for names with a dot that the operator's list does not name: those need their full name.
 */
export function createNameLookup(options: NameLookupOptions): Resolve {
  const { isOperators, hosts } = options;
  const resolver = new dns.Resolver({ timeout: TRY_MS, tries: TRIES, maxTimeout: TRY_MS });
  if (options.servers !== undefined) resolver.setServers(options.servers);

  return (host, lookupOptions, done) => {
    if (isSingleLabel(host) || isOperators(host)) {
      dns.lookup(host, lookupOptions, done);
      return;
    }
    hosts.names(host, (isNamed) => {
      if (isNamed) dns.lookup(host, lookupOptions, done);
      else askServers(resolver, host, lookupOptions, done);
    });
  };
}

const askServers = (
  resolver: dns.Resolver,
  host: string,
  lookupOptions: dns.LookupAllOptions,
  done: Parameters<Resolve>[2],
): void => {
  const found: dns.LookupAddress[] = [];
  const errors: NodeJS.ErrnoException[] = [];
  let open = 2;
  const ended = (family: 4 | 6) => (error: NodeJS.ErrnoException | null, addresses: string[] | undefined) => {
    if (error !== null) errors.push(error);
    // IPv4 comes first: it is what works where only one of the two does. Connects try both.
    for (const address of addresses ?? []) found.push({ address, family });
    open -= 1;
    if (open > 0) return;
    found.sort((a, b) => a.family - b.family);
    if (found.length > 0) done(null, found);
    else if (errors.every(isNoServer)) dns.lookup(host, lookupOptions, done);
    else done(mostTelling(errors), []);
  };
  resolver.resolve4(host, ended(4));
  resolver.resolve6(host, ended(6));
};

function isNoServer(error: NodeJS.ErrnoException): boolean {
  return error.code === dns.CONNREFUSED;
}

/** One family's records may be missing while the other's cannot be had: then it is not known that there are none. */
function mostTelling(errors: readonly NodeJS.ErrnoException[]): NodeJS.ErrnoException {
  const [first] = errors.toSorted((a, b) => Number(a.code === dns.NODATA) - Number(b.code === dns.NODATA));
  return first ?? Object.assign(new Error(), { code: dns.NODATA });
}

function isSingleLabel(host: string): boolean {
  return !host.replace(/\.$/, '').includes('.');
}

/** Two tries of this many milliseconds, so that a lookup ends within the time that callers give it. */
const TRY_MS = 2_000;
const TRIES = 2;
