import fc from 'fast-check';
import { expect, test } from 'vitest';
import { generateSecret, secretProblem, standardKeyBytes } from './secrets.ts';

const whsec = (byteCount: number) => `whsec_${Buffer.alloc(byteCount, 0xfb).toString('base64')}`;

test('a generated secret is whsec_ and 32 random bytes, accepted, and never the same twice', () => {
  expect(generateSecret((count) => Buffer.alloc(count, 1))).toBe(`whsec_${Buffer.alloc(32, 1).toString('base64')}`);
  expect(secretProblem(generateSecret())).toBeUndefined();
  expect(generateSecret()).not.toBe(generateSecret());
});

test.each([
  ['24 bytes', whsec(24)],
  ['64 bytes', whsec(64)],
  ['8 characters', 'a'.repeat(8)],
  ['256 characters', 'a'.repeat(256)],
  ['256 characters outside the basic plane', '😀'.repeat(256)],
  ['spaces and quotes', ' my "own" secret '],
  ['a document', 'salesforce_webhook_secret'],
])('a secret of %s is accepted', (_, secret) => {
  expect(secretProblem(secret)).toBeUndefined();
});

test.each([
  ['empty', ''],
  ['too short', 'a'.repeat(7)],
  ['too short in characters', '😀'.repeat(7)],
  ['too long', 'a'.repeat(257)],
  ['huge', 'a'.repeat(1e6)],
  ['a line break', 'my secret\r\nX: y'],
  ['NUL', 'my\0secret'],
  ['a lone surrogate', 'my secret \ud800'],
  ['whsec_ with 23 bytes', whsec(23)],
  ['whsec_ with 65 bytes', whsec(65)],
  ['whsec_ alone', 'whsec_'],
  ['whsec_ without padding', whsec(25).replaceAll('=', '')],
  ['whsec_ with URL-safe base64', whsec(24).replaceAll('+', '-')],
  ['whsec_ with spare bits', `whsec_${'A'.repeat(34)}B=`],
  ['whsec_ with text', 'whsec_not base64 at all, really'],
  ['a private key', `whsk_${Buffer.alloc(32).toString('base64')}`],
  ['a public key', `whpk_${Buffer.alloc(32).toString('base64')}`],
])('a secret that is %s is refused, and the text does not repeat it', (_, secret) => {
  const problem = secretProblem(secret);
  expect(problem).toMatch(/^(must|starts) /);
  if (secret.length > 6) expect(problem).not.toContain(secret);
});

test('the key is the bytes behind whsec_, and the whole text as UTF-8 otherwise', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 1, maxLength: 64 }), (bytes) => {
      expect(standardKeyBytes(`whsec_${Buffer.from(bytes).toString('base64')}`).equals(bytes)).toBe(true);
    }),
  );
  for (const secret of ['pässwort', 'whsec_', 'whsec_?', 'WHSEC_AAAA', 'AAAA']) {
    expect(standardKeyBytes(secret).toString()).toBe(secret);
  }
});
