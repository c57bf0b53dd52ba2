import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isWithinWhitelist, literalOf, readCidr } from './ip-whitelist.ts';

describe('readCidr', () => {
  it.each([
    ['10.0.0.1', '10.0.0.1/32'],
    ['10.1.2.3/8', '10.0.0.0/8'],
    ['10.1.2.255/25', '10.1.2.128/25'],
    ['1.2.3.4/0', '0.0.0.0/0'],
    ['2001:DB8:0::1', '2001:db8::1/128'],
    ['2001:db8:ffff::/33', '2001:db8:8000::/33'],
    ['::/0', '::/0'],
    ['::ffff:10.0.0.1', '10.0.0.1/32'],
    ['::ffff:10.1.2.3/104', '10.0.0.0/8'],
    ['::ffff:0:0/90', '::ffc0:0:0/90'],
    ['::1.2.3.4', '::102:304/128'],
    ['::1.2.3.4/128', '::102:304/128'],
    ['203.0.113.7', '203.0.113.7/32'],
    ['2606:4700::1111', '2606:4700::1111/128'],
  ])('writes %s as %s', (text, expected) => {
    expect(readCidr(text)).toBe(expected);
  });

  it.each([
    '',
    ' 10.0.0.1',
    '10.0.0.1 ',
    '10.0.0',
    '010.0.0.1',
    '0x7f000001',
    '256.0.0.1',
    '10.0.0.1/33',
    '10.0.0.1/',
    '10.0.0.1/-1',
    '10.0.0.1/8/8',
    '::1/129',
    'fe80::1%eth0',
    'fe80::1%eth0/64',
    '[::1]',
    'example.com',
    '*',
    '10.0.0.1\n',
    '10.0.0.1\u0000',
    '167772160/8',
    '10.0.0.0/8,11.0.0.0/8',
    `${'0'.repeat(100)}::/8`,
  ])('is no range: %j', (text) => {
    expect(readCidr(text)).toBeUndefined();
  });

  it('gives a range that holds the address it was made of, and is canonical already', () => {
    const address = fc.oneof(fc.ipV4(), fc.ipV6());
    fc.assert(
      fc.property(address, fc.integer({ min: 0, max: 128 }), (host, bits) => {
        const range = readCidr(`${host}/${host.includes(':') ? bits : bits % 33}`);
        if (range === undefined) throw new Error(`${host} is an address`);
        expect(readCidr(range)).toBe(range);
        // A range of IPv6 that begins before the mapped addresses holds none of them: they are IPv4.
        if (readCidr(host)?.includes(':') === range.includes(':'))
          expect(isWithinWhitelist([range], [host])).toBe(true);
      }),
    );
  });
});

describe('isWithinWhitelist', () => {
  it('holds a host only with all of its addresses', () => {
    const list = ['10.0.0.0/8', '2001:db8::/32'];
    expect(isWithinWhitelist(list, ['10.1.2.3'])).toBe(true);
    expect(isWithinWhitelist(list, ['10.1.2.3', '2001:db8::1', '::ffff:10.9.9.9'])).toBe(true);
    expect(isWithinWhitelist(list, ['10.1.2.3', '11.0.0.1'])).toBe(false);
    expect(isWithinWhitelist(list, ['2001:db9::1'])).toBe(false);
    expect(isWithinWhitelist(list, ['no address'])).toBe(false);
  });

  it('holds nothing when it is empty, and takes no IPv6 form for the IPv4 address in it', () => {
    expect(isWithinWhitelist([], ['8.8.8.8'])).toBe(false);
    expect(isWithinWhitelist(['8.8.8.8/32'], ['64:ff9b::808:808'])).toBe(false);
    expect(isWithinWhitelist(['0.0.0.0/0'], ['2606:4700::1'])).toBe(false);
  });

  it.each([
    ['10.0.0.1', true],
    ['10.255.255.255', true],
    ['11.0.0.0', false],
    ['::ffff:10.0.0.1', true],
    ['2001:db8::42', true],
    ['2001:db9::', false],
    ['hooks.example.com', false],
  ])('finds %s in the list: %s', (address, held) => {
    expect(isWithinWhitelist(['10.0.0.0/8', '2001:db8::/32'], [address])).toBe(held);
  });
});

describe('literalOf', () => {
  it('gives the address that a connect would take, whatever its spelling, and nothing for a name', () => {
    expect(literalOf(new URL('https://0x7f.1/'))).toBe('127.0.0.1');
    expect(literalOf(new URL('https://[2001:DB8::1]:8443/'))).toBe('2001:db8::1');
    expect(literalOf(new URL('https://hooks.example.com/'))).toBeUndefined();
  });
});
