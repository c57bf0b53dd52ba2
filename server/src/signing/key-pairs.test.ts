import { sign, verify } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { generateKeyPair, publicKeyOf, readPrivateKey, readPublicKey } from './key-pairs.ts';

const base64 = (hex: string) => Buffer.from(hex, 'hex').toString('base64');

/** RFC 8032, section 7.1, tests 1 to 3: seed, public key, message, signature. */
const RFC_8032 = [
  [
    '9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60',
    'd75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a',
    '',
    'e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b',
  ],
  [
    '4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb',
    '3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c',
    '72',
    '92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00',
  ],
  [
    'c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7',
    'fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025',
    'af82',
    '6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a',
  ],
] as const;

describe.each(RFC_8032)('the RFC 8032 key %s', (seed, publicHex, message, signature) => {
  const privateKey = `whsk_${base64(seed)}`;
  const publicKey = `whpk_${base64(publicHex)}`;

  test('has the public key of the RFC, as a seed and as seed and public key', () => {
    expect(publicKeyOf(privateKey)).toBe(publicKey);
    expect(publicKeyOf(`whsk_${base64(seed + publicHex)}`)).toBe(publicKey);
  });

  test('signs and verifies as in the RFC', () => {
    const bytes = Buffer.from(message, 'hex');
    expect(sign(null, bytes, readPrivateKey(privateKey)).toString('hex')).toBe(signature);
    const key = readPublicKey(publicKey);
    expect(key && verify(null, bytes, key, Buffer.from(signature, 'hex'))).toBe(true);
  });
});

test('a generated pair is a 32-byte seed and its public key', () => {
  const [seed, publicHex] = RFC_8032[0];
  const pair = generateKeyPair(() => Buffer.from(seed, 'hex'));
  expect(pair).toEqual({ privateKey: `whsk_${base64(seed)}`, publicKey: `whpk_${base64(publicHex)}` });
  expect(generateKeyPair().privateKey).not.toBe(generateKeyPair().privateKey);
});

test('a private key of another form is refused, and the error does not hold it', () => {
  const [seed] = RFC_8032[0];
  const foreign = RFC_8032[1][1];
  for (const key of ['', seed, base64(seed), `whpk_${base64(seed)}`, `whsk_${base64(seed.slice(2))}`, 'whsk_!']) {
    expect(() => readPrivateKey(key)).toThrow(/^An ed25519 private key must be/);
  }
  expect(() => readPrivateKey(`whsk_${base64(seed + foreign)}`)).toThrow('do not belong together');
});

test('a public key of another form is none', () => {
  const [seed, publicHex] = RFC_8032[0];
  for (const key of ['', base64(publicHex), `whsk_${base64(seed)}`, `whpk_${base64(publicHex)}AA`, 'whpk_']) {
    expect(readPublicKey(key)).toBeUndefined();
  }
});
