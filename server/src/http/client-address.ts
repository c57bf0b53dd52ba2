import { BlockList, isIP } from 'node:net';

/** Hops that are looked at. A chain of proxies is short; what is longer was written by someone else. */
const HOPS_MAX = 16;

/** Characters of `X-Forwarded-For` that are looked at, from its end. */
const HEADER_CHARACTERS_MAX = 1_024;

/**
 * Finds out from where a request came. `X-Forwarded-For` counts only as far as it was written by proxies of which one
 * knows that they write it truly: from the right, each address that is one of theirs vouches for the one to its left,
 * and the first that is not is the client's. What stands further left anyone can have sent.
 *
 * `peer`: the address at the other end of the connection; the answer is it, when it is no such proxy. An entry that is
 * no address ends the search: then the answer is the proxy that wrote it.
 */
export type ClientAddress = (peer: string | undefined, forwardedFor: string | string[] | undefined) => string;

/** @param trustedProxies CIDRs and addresses that `isCidr` accepts. */
export function createClientAddress(trustedProxies: readonly string[]): ClientAddress {
  if (trustedProxies.length === 0) return (peer) => plainAddress(peer ?? '');
  const trusted = new BlockList();
  for (const cidr of trustedProxies) {
    const [address = '', bits] = cidr.split('/');
    const family = isIP(address) === 6 ? 'ipv6' : 'ipv4';
    if (bits === undefined) trusted.addAddress(address, family);
    else trusted.addSubnet(address, Number(bits), family);
  }
  const isTrusted = (address: string) => trusted.check(address, isIP(address) === 6 ? 'ipv6' : 'ipv4');

  return (peer, forwardedFor) => {
    let client = plainAddress(peer ?? '');
    if (forwardedFor === undefined || isIP(client) === 0 || !isTrusted(client)) return client;
    const whole = Array.isArray(forwardedFor) ? forwardedFor.join(',') : forwardedFor;
    const hops = whole.slice(-HEADER_CHARACTERS_MAX).split(',').slice(-HOPS_MAX);
    for (let at = hops.length - 1; at >= 0; at -= 1) {
      const address = plainAddress(withoutPort((hops[at] as string).trim()));
      if (isIP(address) === 0) return client;
      client = address;
      if (!isTrusted(address)) return client;
    }
    return client;
  };
}

/** Whether a text is an IP address or a CIDR, such as `10.0.0.0/8` or `fd00::/8`. */
export function isCidr(text: string): boolean {
  const [address = '', bits, ...more] = text.split('/');
  const family = isIP(address);
  if (family === 0 || more.length > 0 || address.includes('%')) return false;
  return bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) <= (family === 6 ? 128 : 32));
}

/** An IPv4 address that came over an IPv6 socket is written as what it is. */
function plainAddress(address: string): string {
  return /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1] ?? address;
}

/** Some proxies write `192.0.2.1:4711` and `[2001:db8::1]:4711`. */
function withoutPort(hop: string): string {
  const match = /^\[([^\]]+)\](?::\d{1,5})?$/.exec(hop) ?? /^(\d+\.\d+\.\d+\.\d+):\d{1,5}$/.exec(hop);
  return match?.[1] ?? hop;
}
