import { StartupError } from '../../kernel/startup-error.ts';
import { classifyAddress, parseAddress } from './classify-address.ts';
import { comparable, type IpRange, isInRange, parseRange, widthOf } from './ip-range.ts';

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
  const ranges: IpRange[] = [];
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
      const address = comparable(parsed);
      const alone = classifyAddress(text) === 'metadata';
      return ranges.some((range) => isInRange(address, range, alone ? widthOf(range.base) : range.bits));
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
