import { isIP } from 'node:net';
import ipaddr from 'ipaddr.js';

/** Why an address is no destination for a delivery. */
export type AddressReason =
  | 'unreadable'
  | 'unspecified'
  | 'loopback'
  | 'private'
  | 'link_local'
  | 'carrier_grade_nat'
  | 'metadata'
  | 'multicast'
  | 'broadcast'
  | 'benchmarking'
  | 'documentation'
  | 'reserved'
  | 'tunnel';

/**
 * Whether packets to an address leave for the public Internet, and if not, why. After the IANA special-purpose
 * registries (RFC 6890 and its updates) and the addresses under which clouds serve instance metadata.
 *
 * IPv6 addresses that carry an IPv4 address are judged by it where networks really use them to reach IPv4 hosts
 * (mapped, RFC 4291; NAT64, RFC 6052). Tunnels and retired forms (6to4, Teredo, IPv4-compatible, SIIT, local NAT64,
 * RFC 8215) are never public: who answers at their other end is not ours to know.
 *
 * `address` is a dotted IPv4 or an IPv6 address without brackets; other spellings of IPv4 are `unreadable`, since a
 * URL's parser has already resolved them.
 */
export function classifyAddress(address: string): 'public' | AddressReason {
  const parsed = parseAddress(address);
  if (parsed === undefined) return 'unreadable';
  return parsed instanceof ipaddr.IPv4 ? classifyIPv4(parsed) : classifyIPv6(parsed);
}

/** Reads an address as `classifyAddress` does; undefined for what is none. */
export function parseAddress(text: string): ipaddr.IPv4 | ipaddr.IPv6 | undefined {
  // The library's own checks throw inside, which takes 50 us for each text that is no IPv4 address.
  const family = isIP(text);
  if (family === 0) return undefined;
  if (family === 4) return ipaddr.IPv4.parse(text);
  // A zone names an interface and changes nothing. The library reads `::a.b.c.d`, which is how resolvers print the
  // IPv4-compatible form, as the mapped one.
  return ipaddr.IPv6.parse(text.replace(/%.*/, '').replace(/^::(?=\d+\.)/, '::0:'));
}

/** The first range that holds an address counts. */
const IPV4_RANGES = parseRanges([
  // Amazon, Azure, Google, Oracle, DigitalOcean and others; Amazon ECS; Alibaba; Azure's wire server; Oracle.
  ['169.254.169.254/32', 'metadata'],
  ['169.254.170.2/32', 'metadata'],
  ['100.100.100.200/32', 'metadata'],
  ['168.63.129.16/32', 'metadata'],
  ['192.0.0.192/32', 'metadata'],
  ['0.0.0.0/8', 'unspecified'],
  ['10.0.0.0/8', 'private'],
  ['100.64.0.0/10', 'carrier_grade_nat'],
  ['127.0.0.0/8', 'loopback'],
  ['169.254.0.0/16', 'link_local'],
  ['172.16.0.0/12', 'private'],
  ['192.0.0.0/24', 'reserved'],
  ['192.0.2.0/24', 'documentation'],
  ['192.88.99.0/24', 'tunnel'],
  ['192.168.0.0/16', 'private'],
  ['198.18.0.0/15', 'benchmarking'],
  ['198.51.100.0/24', 'documentation'],
  ['203.0.113.0/24', 'documentation'],
  ['224.0.0.0/4', 'multicast'],
  ['255.255.255.255/32', 'broadcast'],
  ['240.0.0.0/4', 'reserved'],
]);

const IPV6_RANGES = parseRanges([
  // Amazon and Google.
  ['fd00:ec2::/32', 'metadata'],
  ['fd20:ce::254/128', 'metadata'],
  ['fc00::/7', 'private'],
  ['fe80::/10', 'link_local'],
  ['fec0::/10', 'private'],
  ['ff00::/8', 'multicast'],
  ['2001:2::/48', 'benchmarking'],
  ['2001:db8::/32', 'documentation'],
  ['2001::/23', 'reserved'],
  ['3fff::/20', 'documentation'],
]);

interface Embedding {
  range: [ipaddr.IPv6, number];
  /** The IPv4 address that is carried. */
  carried: (parts: readonly number[]) => ipaddr.IPv4;
  /** What the whole address is when the carried one is public. */
  otherwise: 'public' | AddressReason;
}

const EMBEDDINGS: readonly Embedding[] = [
  { range: parseIPv6Range('::ffff:0:0/96'), carried: lastBits, otherwise: 'public' },
  { range: parseIPv6Range('64:ff9b::/96'), carried: lastBits, otherwise: 'public' },
  { range: parseIPv6Range('64:ff9b:1::/48'), carried: lastBits, otherwise: 'private' },
  { range: parseIPv6Range('::ffff:0:0:0/96'), carried: lastBits, otherwise: 'tunnel' },
  { range: parseIPv6Range('::/96'), carried: lastBits, otherwise: 'tunnel' },
  // 6to4 (RFC 3056) has it behind the prefix; Teredo (RFC 4380) has the client's address at the end, inverted.
  { range: parseIPv6Range('2002::/16'), carried: (parts) => toIPv4(parts[1], parts[2]), otherwise: 'tunnel' },
  {
    range: parseIPv6Range('2001::/32'),
    carried: (parts) => toIPv4(~(parts[6] ?? 0), ~(parts[7] ?? 0)),
    otherwise: 'tunnel',
  },
];

const GLOBAL_UNICAST = parseIPv6Range('2000::/3');

function classifyIPv4(address: ipaddr.IPv4): 'public' | AddressReason {
  return IPV4_RANGES.find(({ range }) => address.match(range))?.reason ?? 'public';
}

function classifyIPv6(address: ipaddr.IPv6): 'public' | AddressReason {
  const { parts } = address;
  // Also the form of an IPv4-compatible 0.0.0.1, which is nobody's.
  if (parts.every((part, at) => part === (at === 7 ? 1 : 0))) return 'loopback';
  const embedding = EMBEDDINGS.find(({ range }) => address.match(range));
  if (embedding !== undefined) {
    const carried = classifyIPv4(embedding.carried(parts));
    return carried === 'public' ? embedding.otherwise : carried;
  }
  const known = IPV6_RANGES.find(({ range }) => address.match(range));
  if (known !== undefined) return known.reason;
  if (isIsatap(parts)) {
    const carried = classifyIPv4(lastBits(parts));
    if (carried !== 'public') return carried;
  }
  return address.match(GLOBAL_UNICAST) ? 'public' : 'reserved';
}

/** RFC 5214, section 6.1: an interface identifier of `0000:5efe` or `0200:5efe` and then the IPv4 address. */
function isIsatap(parts: readonly number[]): boolean {
  return ((parts[4] ?? 0) & ~0x0200) === 0 && parts[5] === 0x5efe;
}

function lastBits(parts: readonly number[]): ipaddr.IPv4 {
  return toIPv4(parts[6], parts[7]);
}

function toIPv4(high = 0, low = 0): ipaddr.IPv4 {
  return new ipaddr.IPv4([(high >> 8) & 0xff, high & 0xff, (low >> 8) & 0xff, low & 0xff]);
}

function parseIPv6Range(cidr: string): [ipaddr.IPv6, number] {
  return ipaddr.IPv6.parseCIDR(cidr);
}

function parseRanges(ranges: readonly (readonly [cidr: string, reason: AddressReason])[]) {
  return ranges.map(([cidr, reason]) => ({ range: ipaddr.parseCIDR(cidr), reason }));
}
