import ipaddr from 'ipaddr.js';
import { parseAddress } from './classify-address.ts';
import { comparable, type IpAddress, type IpRange, isInRange, parseRange, widthOf } from './ip-range.ts';

/** A webhook's `ip_whitelist`: canonical CIDRs, as `readCidr` gives them. An empty one holds no address. */
export type IpWhitelist = readonly string[];

/** Why a destination outside the whitelist is refused. It tells no address, as for every refused destination. */
export const OUTSIDE_WHITELIST = 'The destination has an address outside the ip_whitelist of the webhook.';

/**
 * A CIDR or an address in the one spelling in which it is stored: host bits cleared, an address with its full prefix
 * (`10.0.0.1` is `10.0.0.1/32`), IPv6 after RFC 5952, IPv4-mapped ranges (RFC 4291, section 2.5.5.2) as IPv4.
 * Undefined for a text that is neither; a zone (`%eth0`) means nothing on another machine and is refused.
 */
export function readCidr(text: string): string | undefined {
  const [, addressText = '', bitsText] = CIDR.exec(text) ?? [];
  const base = parseAddress(addressText);
  if (base === undefined) return undefined;
  const bits = bitsText === undefined ? widthOf(base) : Number(bitsText);
  if (bits > widthOf(base)) return undefined;
  const plain = bits >= MAPPED_BITS ? comparable(base) : base;
  return networkText(plain, plain.kind() === base.kind() ? bits : bits - MAPPED_BITS);
}

/** The address in a URL's host; undefined for a name. */
export function literalOf(url: URL): string | undefined {
  const host = url.hostname.replace(/^\[|\]$/g, '');
  return parseAddress(host) && host;
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

const CIDR = /^([^/%]+)(?:\/(\d{1,3}))?$/;

/** The bits before the IPv4 address of a mapped one. */
const MAPPED_BITS = 96;

function networkText(address: IpAddress, bits: number): string {
  const network = ipaddr.fromByteArray(address.toByteArray().map((byte, at) => byte & byteMask(bits - at * 8)));
  return `${network instanceof ipaddr.IPv6 ? network.toRFC5952String() : network.toString()}/${bits}`;
}

/** The mask of a byte of which the first `bits` belong to the network. */
function byteMask(bits: number): number {
  return (0xff00 >> Math.min(Math.max(bits, 0), 8)) & 0xff;
}
