import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { testSecretBox } from '../testing/secret-box.ts';
import { createSecretBox, type DataKeys, encrypt, keyIdOf, parseEncryptionKey } from './secret-box.ts';

const KEY = Buffer.alloc(32, 7);
const box = testSecretBox();

/** A box of several keys, of which `current` seals. */
function boxOf(keys: Record<number, Buffer>, current: number, refresh = async () => {}) {
  const find = (id: number) => keys[id];
  const sealing = { id: current, key: keys[current] as Buffer };
  const ring: DataKeys = { current: sealing, hashing: KEY, portal: KEY, find, refresh };
  return createSecretBox(ring);
}

test('a sealed text opens to itself in its own place', () => {
  fc.assert(
    fc.property(
      fc.string({ unit: 'grapheme' }),
      fc.string(),
      (plain, place) => box.open(box.seal(plain, place), place) === plain,
    ),
  );
  expect(box.open(box.seal('', 'place'), 'place')).toBe('');
});

test('a sealed text does not open in another place or with another key', () => {
  const sealed = box.seal('secret', 'webhooks/a/1/headers');
  for (const place of [
    'webhooks/b/1/headers',
    'webhooks/a/2/headers',
    'webhooks/a/1/secret',
    'tenants/a/1/headers',
    '',
  ]) {
    expect(() => box.open(sealed, place)).toThrow();
  }
  expect(() => testSecretBox(8).open(sealed, 'webhooks/a/1/headers')).toThrow();
});

test('a sealed text of which any one bit was changed, or which was cut, does not open', () => {
  const sealed = box.seal('secret', 'row');
  for (let bit = 0; bit < sealed.length * 8; bit += 1) {
    const changed = Buffer.from(sealed);
    changed[bit >> 3] = (changed[bit >> 3] as number) ^ (1 << (bit & 7));
    expect(() => box.open(changed, 'row')).toThrow();
  }
  for (let length = 0; length < sealed.length; length += 1) {
    expect(() => box.open(sealed.subarray(0, length), 'row')).toThrow();
  }
});

test('the same text is sealed differently each time and does not show', () => {
  const seals = Array.from({ length: 100 }, () => box.seal('secret', 'row').toString('hex'));
  expect(new Set(seals).size).toBe(100);
  expect(seals.join()).not.toContain(Buffer.from('secret').toString('hex'));
});

test('a value names the key it was sealed with, and opens after another one has taken its place', () => {
  const keys = { 3: randomBytes(32), 70000: randomBytes(32) };
  const sealed = boxOf(keys, 3).seal('secret', 'place');
  expect(keyIdOf(sealed)).toBe(3);
  const after = boxOf(keys, 70_000);
  expect(after.open(sealed, 'place')).toBe('secret');
  expect(keyIdOf(after.seal('secret', 'place'))).toBe(70_000);
  expect(() => boxOf({ 70000: keys[70_000] }, 70_000).open(sealed, 'place')).toThrow('data key 3');
  // The name of the key is authenticated: the same key under another name opens nothing.
  const renamed = Buffer.from(sealed);
  renamed.writeUInt32BE(4, 1);
  expect(() => boxOf({ 4: keys[3] }, 4).open(renamed, 'place')).toThrow();
});

test('the keys are read anew for a value that names an unknown one, and only then', async () => {
  const before = boxOf({ 1: KEY }, 1);
  const keys: Record<number, Buffer> = { 2: randomBytes(32) };
  let read = 0;
  const later = boxOf(keys, 2, async () => {
    read += 1;
    keys[1] = KEY;
  });
  const sealed = before.seal('secret', 'place');
  expect(later.learn([null, later.seal('x', 'place'), Buffer.from('no box'), Buffer.alloc(0)])).toBeUndefined();
  await later.learn([null, sealed]);
  expect(later.open(sealed, 'place')).toBe('secret');
  expect(later.learn([sealed])).toBeUndefined();
  expect(read).toBe(1);
});

test.each([
  ['webhook_secrets/t/w/1/secret', 'webhook_secrets/t/w/1'],
  ['idempotent_requests/t/e/a/response/response', 'idempotent_requests/t/e/a/response'],
  ['webhooks/t/1/headers', 'webhooks/t/1/headers'],
])('a value of format 1 opens in its place: %s', (place, placeThen) => {
  const key = randomBytes(32);
  const sealed = Buffer.concat([Buffer.of(1), encrypt(key, Buffer.from('secret'), Buffer.from(placeThen))]);
  const both = boxOf({ 0: key, 1: KEY }, 1);
  expect(both.open(sealed, place)).toBe('secret');
  expect(() => both.open(sealed, place.replace('/t/', '/u/'))).toThrow();
});

test('another process with the same keys opens what this one sealed and hashes keys alike', () => {
  const other = testSecretBox();
  expect(other.open(box.seal('secret', 'row'), 'row')).toBe('secret');
  expect(other.hashKey('k')).toEqual(box.hashKey('k'));
});

test('the hash of a key has 32 bytes and depends on the key and on the hashing key', () => {
  const hashes = [box.hashKey('k'), box.hashKey('l'), testSecretBox(8).hashKey('k')].map((hash) =>
    hash.toString('hex'),
  );
  expect(new Set(hashes).size).toBe(3);
  expect(hashes[0]).toHaveLength(64);
});

test('an encryption key is read from hex and from both forms of base64, padded or not', () => {
  for (const key of [KEY, Buffer.alloc(32, 0xff), ...Array.from({ length: 50 }, () => randomBytes(32))]) {
    const texts = [
      key.toString('hex'),
      key.toString('hex').toUpperCase(),
      key.toString('base64'),
      key.toString('base64').replace('=', ''),
      key.toString('base64url'),
    ];
    for (const text of texts) expect(parseEncryptionKey(text)).toEqual(key);
  }
});

test.each([
  '',
  'secret',
  'a'.repeat(32),
  'a'.repeat(63),
  'g'.repeat(64),
  'a'.repeat(65),
  'A'.repeat(42),
  'A'.repeat(44),
  `${'A'.repeat(43)}==`,
  ` ${'a'.repeat(64)}`,
  `${'a'.repeat(64)}\n`,
])('%j is no encryption key', (text) => {
  expect(parseEncryptionKey(text)).toBeUndefined();
});
