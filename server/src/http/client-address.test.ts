import { expect, test } from 'vitest';
import { createClientAddress, isCidr } from './client-address.ts';

const address = createClientAddress(['10.0.0.0/8', 'fd00::/8', '192.0.2.7']);

test.for([
  ['without the header, the peer', '10.0.0.1', undefined, '10.0.0.1'],
  ['from a peer that is no proxy the header does nothing', '203.0.113.5', '198.51.100.1', '203.0.113.5'],
  ['what a proxy saw', '10.0.0.1', '198.51.100.1', '198.51.100.1'],
  [
    'the right-most that is no proxy, whatever the client wrote before it',
    '10.0.0.1',
    '1.1.1.1, 198.51.100.1',
    '198.51.100.1',
  ],
  ['through a chain of proxies', '10.0.0.1', '1.1.1.1, 198.51.100.1, 10.2.2.2, 192.0.2.7', '198.51.100.1'],
  ['with nothing but proxies, the first of them', '10.0.0.1', '10.1.1.1, 10.2.2.2', '10.1.1.1'],
  ['an IPv6 client', 'fd00::1', '2001:db8::9', '2001:db8::9'],
  ['a port beside the address', '10.0.0.1', '198.51.100.1:4711', '198.51.100.1'],
  ['a port beside an IPv6 address', '10.0.0.1', '[2001:db8::9]:4711', '2001:db8::9'],
  ['an IPv4 peer on an IPv6 socket', '::ffff:10.0.0.1', '198.51.100.1', '198.51.100.1'],
  ['an IPv4 address written as IPv6', '10.0.0.1', '::ffff:198.51.100.1', '198.51.100.1'],
  ['garbage is the word of the proxy that passed it on', '10.0.0.1', '198.51.100.1, <script>', '10.0.0.1'],
  ['garbage behind a proxy', '10.0.0.1', '198.51.100.1, ?, 10.2.2.2', '10.2.2.2'],
  ['nothing', '10.0.0.1', '', '10.0.0.1'],
  ['only commas', '10.0.0.1', ',,,,', '10.0.0.1'],
  ['a peer that is gone', undefined, '198.51.100.1', ''],
] as const)('%s', ([, peer, header, expected]) => {
  expect(address(peer, header)).toBe(expected);
});

test('no more of a huge header is read than a chain of proxies can need', () => {
  expect(address('10.0.0.1', `${'1.1.1.1,'.repeat(1_000_000)}198.51.100.1`)).toBe('198.51.100.1');
  // A chain of trusted hops beyond any sense ends where looking ends, at an address that is theirs.
  expect(address('10.0.0.1', `198.51.100.1${',10.0.0.2'.repeat(500)}`)).toBe('10.0.0.2');
  expect(address('10.0.0.1', 'x'.repeat(1_000_000))).toBe('10.0.0.1');
});

test('without proxies to trust the header never counts', () => {
  expect(createClientAddress([])('127.0.0.1', '198.51.100.1')).toBe('127.0.0.1');
});

test('addresses and CIDRs are told from all else', () => {
  for (const good of ['10.0.0.0/8', '192.0.2.7', '::1', 'fd00::/8', '0.0.0.0/0']) expect(isCidr(good), good).toBe(true);
  for (const bad of [
    '',
    '10.0.0.0/33',
    '10/8',
    'host',
    '::1/129',
    '10.0.0.0/8/8',
    '10.0.0.0/',
    '1.1.1.1/-1',
    'fe80::1%eth0',
  ]) {
    expect(isCidr(bad), bad).toBe(false);
  }
});
