import { beforeAll, beforeEach, expect, test } from 'vitest';
import { createLogger } from '../../kernel/logger.ts';
import { ManualClock } from '../../testing/manual-clock.ts';
import { createKeySets, FRESH_MS, KEPT_MS, type KeySets, REFETCH_MS } from './key-sets.ts';
import { keySet, makeKey, type SigningKey } from './token-fixture.ts';

let first: SigningKey;
let second: SigningKey;
beforeAll(() => {
  [first, second] = [makeKey('ES256', 'first'), makeKey('ES256', 'second')];
});

const ISSUER = { id: 'a', url: new URL('https://issuer.example/jwks.json') };
let clock: ManualClock;
let sets: KeySets;
let fetches: number;
/** What the URL answers with; undefined: nothing. */
let document: Buffer | undefined;
beforeEach(() => {
  clock = new ManualClock();
  fetches = 0;
  document = keySet(first);
  sets = createKeySets({
    clock,
    logger: createLogger('silent'),
    fetchDocument: async () => {
      fetches += 1;
      if (document === undefined) throw new Error('away');
      return document;
    },
  });
});

const find = (keyId: string | undefined) => sets.find(ISSUER, { algorithm: 'ES256', keyId });
const has = async (keyId: string) => (await find(keyId)) !== undefined;

test('a stranger’s key ids have the keys fetched once in ten seconds at most', async () => {
  expect(await has('first')).toBe(true);
  for (let count = 0; count < 100; count += 1) expect(await has(`unknown-${count}`)).toBe(false);
  expect(fetches).toBe(1);
  clock.advance(REFETCH_MS);
  await Promise.all(Array.from({ length: 100 }, (_, count) => has(`unknown-${count}`)));
  expect(fetches).toBe(2);
});

test('a new key is found as soon as the URL may be asked again', async () => {
  expect(await has('first')).toBe(true);
  document = keySet(first, second);
  expect(await has('second')).toBe(false);
  clock.advance(REFETCH_MS);
  expect([await has('second'), await has('first')]).toEqual([true, true]);
});

test('a withdrawn key is refused after ten minutes', async () => {
  expect(await has('first')).toBe(true);
  document = keySet(second);
  clock.advance(FRESH_MS - 1);
  expect(await has('first')).toBe(true);
  clock.advance(1);
  expect(await has('first')).toBe(false);
});

test('while the URL is away the old keys are used for six hours, and it is asked every ten seconds at most', async () => {
  expect(await has('first')).toBe(true);
  document = undefined;
  clock.advance(FRESH_MS);
  for (let count = 0; count < 10; count += 1) expect(await has('first')).toBe(true);
  expect(fetches).toBe(2);
  clock.advance(KEPT_MS - FRESH_MS - 1);
  expect(await has('first')).toBe(true);
  clock.advance(1);
  await expect(find('first')).rejects.toMatchObject({ status: 503 });
  document = keySet(first);
  await expect(find('first')).rejects.toMatchObject({ status: 503 });
  clock.advance(REFETCH_MS);
  expect(await has('first')).toBe(true);
});

test.each([
  ['no JSON', 'x'],
  ['no object', '[]'],
  ['null', 'null'],
  ['without keys', '{}'],
  ['keys that are no list', '{"keys":{}}'],
  ['keys that are no objects', '{"keys":[1]}'],
  ['too many keys', JSON.stringify({ keys: Array.from({ length: 51 }, () => ({ kty: 'EC' })) })],
  ['deep', '['.repeat(30_000)],
])('a document that is %s does not replace the keys', async (_what, text) => {
  expect(await has('first')).toBe(true);
  document = Buffer.from(text);
  clock.advance(FRESH_MS);
  expect(await has('first')).toBe(true);
  expect(fetches).toBe(2);
});

test('secrets, private keys and keys for encryption are no public keys', async () => {
  const jwk = first.publicKey.export({ format: 'jwk' });
  document = Buffer.from(
    JSON.stringify({
      keys: [
        { kty: 'oct', kid: 'secret', k: 'c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA' },
        { ...first.privateKey.export({ format: 'jwk' }), kid: 'private' },
        { ...jwk, kid: 'encryption', use: 'enc' },
        { ...jwk, kid: 'operations', key_ops: ['encrypt'] },
        { ...jwk, kid: 'other', alg: 'ES384' },
        { ...jwk, kid: 'broken', x: 'AA' },
        { ...jwk, kid: 'good' },
      ],
    }),
  );
  expect(await has('good')).toBe(true);
  for (const keyId of ['secret', 'private', 'encryption', 'operations', 'other', 'broken']) {
    expect([keyId, await has(keyId)]).toEqual([keyId, false]);
  }
  expect(await sets.find(ISSUER, { algorithm: 'HS256', keyId: 'secret' })).toBeUndefined();
});

test('keys of one issuer are not another’s, and go with the issuer or its URL', async () => {
  expect(await has('first')).toBe(true);
  document = keySet(second);
  const other = { id: 'b', url: ISSUER.url };
  expect(await sets.find(other, { algorithm: 'ES256', keyId: 'first' })).toBeUndefined();
  expect(await has('first')).toBe(true);
  const moved = { id: 'a', url: new URL('https://issuer.example/other.json') };
  expect(await sets.find(moved, { algorithm: 'ES256', keyId: 'first' })).toBeUndefined();
  sets.keepOnly(new Set(['b']));
  const before = fetches;
  expect(await has('second')).toBe(true);
  expect(fetches).toBe(before + 1);
});
