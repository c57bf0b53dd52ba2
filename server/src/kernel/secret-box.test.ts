import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createSecretBox, parseEncryptionKey } from './secret-box.ts';

const KEY = Buffer.alloc(32, 7);
const box = createSecretBox(KEY);

test('a sealed text opens to itself for its own row', () => {
  fc.assert(
    fc.property(
      fc.string({ unit: 'grapheme' }),
      fc.string(),
      (plain, row) => box.open(box.seal(plain, row), row) === plain,
    ),
  );
  expect(box.open(box.seal('', 'row'), 'row')).toBe('');
});

test('a sealed text does not open for another row or with another key', () => {
  const sealed = box.seal('secret', 'webhooks/a/1');
  expect(() => box.open(sealed, 'webhooks/b/1')).toThrow();
  expect(() => box.open(sealed, '')).toThrow();
  expect(() => createSecretBox(Buffer.alloc(32, 8)).open(sealed, 'webhooks/a/1')).toThrow();
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

test('another process with the same key opens what this one sealed and hashes keys alike', () => {
  const other = createSecretBox(Buffer.from(KEY));
  expect(other.open(box.seal('secret', 'row'), 'row')).toBe('secret');
  expect(other.hashKey('k')).toEqual(box.hashKey('k'));
});

test('the hash of a key has 32 bytes and depends on the key and on the encryption key', () => {
  const other = createSecretBox(Buffer.alloc(32, 8));
  const hashes = [box.hashKey('k'), box.hashKey('l'), other.hashKey('k')].map((hash) => hash.toString('hex'));
  expect(new Set(hashes).size).toBe(3);
  expect(hashes[0]).toHaveLength(64);
});

test.each([0, 16, 31, 33, 64])('an encryption key of %i bytes is refused', (bytes) => {
  expect(() => createSecretBox(Buffer.alloc(bytes))).toThrow('32 bytes');
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
