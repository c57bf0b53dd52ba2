import ipaddr from 'ipaddr.js';
import { parseAddress } from './classify-address.ts';

export type IpAddress = ipaddr.IPv4 | ipaddr.IPv6;

/** Addresses of one family that share their first `bits` bits with `base`. */
export interface IpRange {
  readonly base: IpAddress;
  readonly bits: number;
}

/** Reads a CIDR (RFC 4632, RFC 4291) or a single address, which is a range of one; undefined for what is neither. */
export function parseRange(text: string): IpRange | undefined {
  const cidr = ipaddr.IPv4.isValidCIDRFourPartDecimal(text)
    ? ipaddr.IPv4.parseCIDR(text)
    : ipaddr.IPv6.isValidCIDR(text)
      ? ipaddr.IPv6.parseCIDR(text)
      : undefined;
  if (cidr !== undefined) return { base: cidr[0], bits: cidr[1] };
  const address = parseAddress(text);
  return address && { base: address, bits: widthOf(address) };
}

/** The address that a range is compared with: a mapped IPv4 address (RFC 4291, section 2.5.5.2) is the IPv4 one. */
export function comparable(address: IpAddress): IpAddress {
  return address instanceof ipaddr.IPv6 && address.isIPv4MappedAddress() ? address.toIPv4Address() : address;
}

/** Whether a `comparable` address lies in a range; `bits` narrows it. */
export function isInRange(address: IpAddress, range: IpRange, bits = range.bits): boolean {
  return address.kind() === range.base.kind() && address.match(range.base, bits);
}

/** 32 or 128. */
export function widthOf(address: IpAddress): number {
  return address instanceof ipaddr.IPv4 ? 32 : 128;
}
