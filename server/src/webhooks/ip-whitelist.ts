import ipaddr from 'ipaddr.js';
import { parseAddress } from './egress/classify-address.ts';

/**
 * A CIDR or an address in the one spelling in which it is stored: host bits cleared, an address with its full prefix
 * (`10.0.0.1` is `10.0.0.1/32`), IPv6 after RFC 5952, IPv4-mapped ranges (RFC 4291, section 2.5.5.2) as IPv4.
 * Undefined for a text that is neither; a zone (`%eth0`) means nothing on another machine and is refused.
 */
export function canonicalRange(text: string): string | undefined {
  const parsed = parseRange(text);
  if (parsed === undefined) return undefined;
  const [base, bits] = parsed;
  const network = ipaddr.fromByteArray(base.toByteArray().map((byte, at) => byte & byteMask(bits - at * 8)));
  return `${network instanceof ipaddr.IPv6 ? network.toRFC5952String() : network.toString()}/${bits}`;
}

/** Whether an address lies in one of the ranges, which are canonical. An IPv4-mapped address is the IPv4 address. */
export function rangesHold(ranges: readonly string[], address: string): boolean {
  const parsed = parseAddress(address);
  if (parsed === undefined) return false;
  const plain = unmapped(parsed);
  return ranges.some((range) => {
    const [base, bits] = ipaddr.parseCIDR(range);
    return base.kind() === plain.kind() && plain.match(base, bits);
  });
}

/** The address in a URL's host; undefined for a name. */
export function literalOf(url: URL): string | undefined {
  const host = url.hostname.replace(/^\[|\]$/g, '');
  return parseAddress(host) && host;
}

type Address = ipaddr.IPv4 | ipaddr.IPv6;

const MAPPED_BITS = 96;

function parseRange(text: string): [Address, number] | undefined {
  const [, addressText = '', bitsText] = /^([^/%]+)(?:\/(\d{1,3}))?$/.exec(text) ?? [];
  const base = parseAddress(addressText);
  if (base === undefined) return undefined;
  const bitsMax = base.toByteArray().length * 8;
  const bits = bitsText === undefined ? bitsMax : Number(bitsText);
  if (bits > bitsMax) return undefined;
  const plain = bits >= MAPPED_BITS ? unmapped(base) : base;
  return [plain, plain.kind() === base.kind() ? bits : bits - MAPPED_BITS];
}

function unmapped(address: Address): Address {
  return address instanceof ipaddr.IPv6 && address.isIPv4MappedAddress() ? address.toIPv4Address() : address;
}

/** The mask of a byte of which the first `bits` belong to the network. */
function byteMask(bits: number): number {
  return (0xff00 >> Math.min(Math.max(bits, 0), 8)) & 0xff;
}
