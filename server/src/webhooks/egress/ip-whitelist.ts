import ipaddr from 'ipaddr.js';
import { parseAddress } from './classify-address.ts';
import { comparable, type IpRange, isInRange, parseRange } from './ip-range.ts';

/** A webhook's `ip_whitelist`: canonical CIDRs, as `readCidr` gives them. An empty one holds no address. */
export type IpWhitelist = readonly string[];

/** Why a destination outside the whitelist is refused. It tells no address, as for every refused destination. */
export const OUTSIDE_WHITELIST = 'The destination has an address outside the ip_whitelist of the webhook.';

/**
 * The canonical text of a CIDR or a single address: host bits cleared, IPv6 compressed (RFC 5952), a mapped IPv4 range
 * as IPv4. undefined for what is neither, and for an IPv6 address with a zone.
 */
export function readCidr(text: string): string | undefined {
  if (text.length > CIDR_LENGTH_MAX || text.includes('%')) return undefined;
  const range = parseRange(text);
  if (range === undefined) return undefined;
  const isMapped = range.base instanceof ipaddr.IPv6 && range.base.isIPv4MappedAddress() && range.bits >= MAPPED_BITS;
  const base = isMapped ? comparable(range.base) : range.base;
  const bits = isMapped ? range.bits - MAPPED_BITS : range.bits;
  const network =
    base instanceof ipaddr.IPv4
      ? ipaddr.IPv4.networkAddressFromCIDR(`${base}/${bits}`)
      : ipaddr.IPv6.networkAddressFromCIDR(`${base}/${bits}`);
  return `${network}/${bits}`;
}

/**
 * Whether the whitelist holds all of a host's addresses. All, not one: whoever answers for the name chooses which of
 * them is dialled, so a name that also leads elsewhere is refused as a whole. A receiver with IPv4 and IPv6 addresses
 * needs both in its list.
 *
 * A whitelist is parsed once for as long as its array lives. It costs 1 us an address and range; kept-alive
 * connections remember the answer.
 */
export function isWithinWhitelist(whitelist: IpWhitelist, addresses: readonly string[]): boolean {
  let ranges = parsed.get(whitelist);
  if (ranges === undefined) {
    ranges = whitelist.map((cidr) => parseRange(cidr)).filter((range) => range !== undefined);
    parsed.set(whitelist, ranges);
  }
  const known = ranges;
  return addresses.every((text) => {
    const address = parseAddress(text);
    return address !== undefined && known.some((range) => isInRange(comparable(address), range));
  });
}

const parsed = new WeakMap<IpWhitelist, readonly IpRange[]>();

/** The bits before the IPv4 address of a mapped one. */
const MAPPED_BITS = 96;

/** The longest spelling of an IPv6 address, with its dotted end, and `/128`. */
const CIDR_LENGTH_MAX = 49;
