import { describe, expect, it } from 'vitest';
import { isWithinWhitelist, readCidr } from './ip-whitelist.ts';

describe('readCidr', () => {
  it.each([
    ['10.0.0.0/8', '10.0.0.0/8'],
    ['10.1.2.3/8', '10.0.0.0/8'],
    ['203.0.113.7', '203.0.113.7/32'],
    ['0.0.0.0/0', '0.0.0.0/0'],
    ['2001:DB8:0:0::/32', '2001:db8::/32'],
    ['2001:db8::5/32', '2001:db8::/32'],
    ['2606:4700::1111', '2606:4700::1111/128'],
    ['::ffff:10.1.2.3/104', '10.0.0.0/8'],
    ['::ffff:10.1.2.3', '10.1.2.3/32'],
    ['::/0', '::/0'],
  ])('writes %s as %s', (text, canonical) => {
    expect(readCidr(text)).toBe(canonical);
    expect(readCidr(canonical)).toBe(canonical);
  });

  it.each([
    '',
    '10.0.0.0/33',
    '10.0.0.0/-1',
    '10.0.0/8',
    '010.0.0.0/8',
    '0x0a.0.0.0/8',
    '167772160/8',
    '10.0.0.0/8 ',
    'fe80::1%eth0/64',
    '::/129',
    'example.com',
    '10.0.0.0/8,11.0.0.0/8',
    `${'0'.repeat(100)}::/8`,
  ])('refuses %j', (text) => {
    expect(readCidr(text)).toBeUndefined();
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
});
