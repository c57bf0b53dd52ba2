import ipaddr from 'ipaddr.js';
import { StartupError } from '../../kernel/startup-error.ts';
import { classifyAddress, parseAddress } from './classify-address.ts';

/** What the operator lets deliveries reach although it is not public. */
export interface AllowList {
  /**
   * Whether an entry holds this address. A cloud's metadata address is only held by an entry that names it alone, not
   * by a range around it.
   */
  hasAddress(address: string): boolean;
  /** Whether an entry is this host name, whatever its case and whether it ends with the root's dot. */
  hasHost(host: string): boolean;
}

/** @throws StartupError for an entry that is no CIDR, address or host name. */
export function parseAllowList(entries: readonly string[]): AllowList {
  const ranges: [ipaddr.IPv4 | ipaddr.IPv6, number][] = [];
  const hosts = new Set<string>();
  for (const entry of entries) {
    const range = parseRange(entry);
    if (range !== undefined) ranges.push(range);
    else if (HOST_NAME.test(entry)) hosts.add(hostKey(entry));
    else throw new StartupError(`POSTHORN_EGRESS_ALLOW holds "${entry}", which is no CIDR, address or host name.`);
  }
  return {
    hasAddress(text) {
      const parsed = parseAddress(text);
      if (parsed === undefined) return false;
      // A mapped IPv4 address (RFC 4291, section 2.5.5.2) is the IPv4 address, and is held by IPv4 entries.
      const isMapped = parsed instanceof ipaddr.IPv6 && parsed.isIPv4MappedAddress();
      const address = isMapped ? parsed.toIPv4Address() : parsed;
      const alone = classifyAddress(text) === 'metadata';
      return ranges.some(([base, bits]) => {
        if (base.kind() !== address.kind()) return false;
        return address.match(base, alone ? base.toByteArray().length * 8 : bits);
      });
    },
    hasHost: (host) => hosts.has(hostKey(host)),
  };
}

/** A host name as it is compared. */
export function hostKey(host: string): string {
  return host.toLowerCase().replace(/\.$/, '');
}

/** The last label of a name is never all digits, so that a mistyped address is not taken for a name. */
const HOST_NAME = /^(?:[a-z0-9_-]{1,63}\.)*(?!\d+\.?$)[a-z0-9_-]{1,63}\.?$/i;

function parseRange(entry: string): [ipaddr.IPv4 | ipaddr.IPv6, number] | undefined {
  if (ipaddr.IPv4.isValidCIDRFourPartDecimal(entry)) return ipaddr.IPv4.parseCIDR(entry);
  if (ipaddr.IPv6.isValidCIDR(entry)) return ipaddr.IPv6.parseCIDR(entry);
  const address = parseAddress(entry);
  return address && [address, address.toByteArray().length * 8];
}
