import { isIP } from 'node:net';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { classifyAddress } from './classify-address.ts';

describe('classifyAddress', () => {
  it.each([
    // IPv4, with both ends of the ranges
    ['0.0.0.0', 'unspecified'],
    ['0.255.255.255', 'unspecified'],
    ['9.255.255.255', 'public'],
    ['10.0.0.0', 'private'],
    ['10.255.255.255', 'private'],
    ['11.0.0.0', 'public'],
    ['100.63.255.255', 'public'],
    ['100.64.0.0', 'carrier_grade_nat'],
    ['100.127.255.255', 'carrier_grade_nat'],
    ['100.128.0.0', 'public'],
    ['100.100.100.200', 'metadata'],
    ['127.0.0.1', 'loopback'],
    ['127.255.255.254', 'loopback'],
    ['168.63.129.16', 'metadata'],
    ['168.63.129.17', 'public'],
    ['169.254.169.254', 'metadata'],
    ['169.254.170.2', 'metadata'],
    ['169.254.1.1', 'link_local'],
    ['172.15.255.255', 'public'],
    ['172.16.0.1', 'private'],
    ['172.31.255.255', 'private'],
    ['172.32.0.0', 'public'],
    ['192.0.0.1', 'reserved'],
    ['192.0.0.192', 'metadata'],
    ['192.0.2.1', 'documentation'],
    ['192.88.99.1', 'tunnel'],
    ['192.168.255.255', 'private'],
    ['192.169.0.0', 'public'],
    ['198.17.255.255', 'public'],
    ['198.18.0.1', 'benchmarking'],
    ['198.19.255.255', 'benchmarking'],
    ['198.51.100.7', 'documentation'],
    ['203.0.113.7', 'documentation'],
    ['223.255.255.255', 'public'],
    ['224.0.0.1', 'multicast'],
    ['239.255.255.255', 'multicast'],
    ['240.0.0.1', 'reserved'],
    ['255.255.255.255', 'broadcast'],
    ['8.8.8.8', 'public'],
    // IPv6
    ['::', 'unspecified'],
    ['::1', 'loopback'],
    ['0:0:0:0:0:0:0:1', 'loopback'],
    ['2606:4700:4700::1111', 'public'],
    ['fc00::1', 'private'],
    ['fdff:ffff::1', 'private'],
    ['fd00:ec2::254', 'metadata'],
    ['fd20:ce::254', 'metadata'],
    ['fe80::1', 'link_local'],
    ['fe80::1%eth0', 'link_local'],
    ['fe80::1%br-0.1', 'link_local'],
    ['::1%lo', 'loopback'],
    ['febf::1', 'link_local'],
    ['fec0::1', 'private'],
    ['ff02::1', 'multicast'],
    ['100::1', 'reserved'],
    ['2001:db8::1', 'documentation'],
    ['3fff:fff::1', 'documentation'],
    ['2001:2::1', 'benchmarking'],
    ['2001:20::1', 'reserved'],
    ['2001:200::1', 'public'],
    ['5f00::1', 'reserved'],
    ['4000::1', 'reserved'],
    // IPv6 that carries IPv4
    ['::ffff:127.0.0.1', 'loopback'],
    ['::ffff:7f00:1', 'loopback'],
    ['::ffff:a9fe:a9fe', 'metadata'],
    ['::ffff:8.8.8.8', 'public'],
    ['::7f00:1', 'loopback'],
    ['::127.0.0.1', 'loopback'],
    ['::8.8.8.8', 'tunnel'],
    ['::ffff:0:7f00:1', 'loopback'],
    ['::ffff:0:8.8.8.8', 'tunnel'],
    ['64:ff9b::7f00:1', 'loopback'],
    ['64:ff9b::10.0.0.1', 'private'],
    ['64:ff9b::8.8.8.8', 'public'],
    ['64:ff9b:1::7f00:1', 'loopback'],
    ['64:ff9b:1::8.8.8.8', 'private'],
    ['64:ff9b:1:ffff:ffff::1', 'unspecified'],
    ['2002:7f00:1::1', 'loopback'],
    ['2002:a00:1::1', 'private'],
    ['2002:808:808::1', 'tunnel'],
    ['2001:0:4136:e378:8000:63bf:80ff:fffe', 'loopback'],
    ['2001:0:4136:e378:8000:63bf:f7f7:f7f7', 'tunnel'],
    ['2606:4700::5efe:a00:1', 'private'],
    ['2606:4700::200:5efe:7f00:1', 'loopback'],
    ['2606:4700::200:5efe:808:808', 'public'],
    // not addresses
    ['', 'unreadable'],
    ['localhost', 'unreadable'],
    ['127.1', 'unreadable'],
    ['0177.0.0.1', 'unreadable'],
    ['2130706433', 'unreadable'],
    ['127.0.0.1 ', 'unreadable'],
    ['[::1]', 'unreadable'],
    ['1.2.3.4.5', 'unreadable'],
  ])('%s is %s', (address, expected) => {
    expect(classifyAddress(address)).toBe(expected);
  });

  it('judges an address that carries an IPv4 one as it does the IPv4 one, where that is not public', () => {
    const octets = fc.tuple(fc.nat(255), fc.nat(255), fc.nat(255), fc.nat(255));
    fc.assert(
      fc.property(octets, ([a, b, c, d]) => {
        const plain = classifyAddress(`${a}.${b}.${c}.${d}`);
        const high = ((a << 8) | b).toString(16);
        const low = ((c << 8) | d).toString(16);
        // Teredo (RFC 4380, section 4) has the client's address inverted at its end.
        const inverted = [(a << 8) | b, (c << 8) | d].map((part) => (part ^ 0xffff).toString(16)).join(':');
        for (const form of [
          `::ffff:${high}:${low}`,
          `::${high}:${low}`,
          `::ffff:0:${high}:${low}`,
          `64:ff9b::${high}:${low}`,
          `64:ff9b:1::${high}:${low}`,
          `2002:${high}:${low}::5`,
          `2606:4700::5efe:${high}:${low}`,
          `2001:0:4136:e378:8000:63bf:${inverted}`,
        ]) {
          // The IPv4-compatible form of 0.0.0.1 is the loopback address of IPv6.
          if (plain !== 'public') expect(classifyAddress(form), form).toBe(form === '::0:1' ? 'loopback' : plain);
        }
      }),
      { numRuns: 500 },
    );
  });

  it('never throws and calls no text public that is not an address', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        if (!/^[0-9a-f:.%]+$/i.test(text)) expect(classifyAddress(text)).toBe('unreadable');
      }),
    );
  });

  it('reads every address that Node takes for one', () => {
    const zone = fc.constantFrom('', '%eth0', '%br-0.1');
    fc.assert(
      fc.property(fc.oneof(fc.ipV4(), fc.ipV6()), zone, (address, suffix) => {
        const text = address.includes(':') ? address + suffix : address;
        if (isIP(text) !== 0) expect(classifyAddress(text)).not.toBe('unreadable');
      }),
    );
  });
});
