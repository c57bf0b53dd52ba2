import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { generateKeyPair } from './key-pairs.ts';
import { type SchemeName, SIGNING_SCHEMES } from './registry.ts';
import type { SigningKeys } from './scheme.ts';
import { generateSecret } from './secrets.ts';

interface Sample {
  keys: SigningKeys;
  prefix: string;
  body: string;
  signature: string;
}

const noKeys: SigningKeys = { secrets: [], privateKeys: [] };

/** One sample for each scheme, whose signature was made by somebody else's code. */
const SAMPLES: Record<SchemeName, Sample> = {
  // Published with the receiving guide of a Standard Webhooks sender.
  standard: {
    keys: { ...noKeys, secrets: ['whsec_plJ3nmyCDGBKInavdOK15jsl'] },
    prefix: 'msg_loFOjxBNrRLzqYUf.1731705121.',
    body: '{"event_type":"ping","data":{"success":true}}',
    signature: 'v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=',
  },
  // From the tests of the Go library in the Standard Webhooks repository.
  standard_asymmetric: {
    keys: { ...noKeys, privateKeys: ['whsk_VEVTVFNJR05JTkdLRVlET05PVFVTRVRISVNGT1JBTlk='] },
    prefix: 'msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.',
    body: '{"test": 2432232314}',
    signature: 'v1a,tQ9V2XOqn7jL/DQenEFpqIugdBVtiMmER5mhSkXBNwM0mkATuDe6KYYUuxqtaiHeYGb7KaaBRdM5WqyeFiL8Ag==',
  },
  // RFC 4231, test case 2: "Jefe" and "what do ya want for nothing?".
  hmac_sha256_hex: {
    keys: { ...noKeys, secrets: ['Jefe'] },
    prefix: 'msg_1.1.',
    body: 'what do ya want for nothing?',
    signature: '5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843',
  },
  // The example in GitHub's guide to validating deliveries.
  hmac_sha256: {
    keys: { ...noKeys, secrets: ["It's a Secret to Everybody"] },
    prefix: 'msg_1.1.',
    body: 'Hello, World!',
    signature: 'sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17',
  },
  // RFC 2202, test case 2.
  hmac_sha1: {
    keys: { ...noKeys, secrets: ['Jefe'] },
    prefix: 'msg_1.1.',
    body: 'what do ya want for nothing?',
    signature: 'sha1=effcdf6ae5eb2fa2d27416d5f184df9c259a7c79',
  },
};

describe.each(Object.entries(SIGNING_SCHEMES))('%s', (name, scheme) => {
  const sample = SAMPLES[name as SchemeName];
  const sign = scheme.prepare(sample.keys);
  const body = Buffer.from(sample.body);

  test('is registered under its own name', () => {
    expect(scheme.name).toBe(name);
  });

  test('signs as others do, and twice the same', () => {
    expect(sign(sample.prefix, body)).toBe(sample.signature);
    expect(sign(sample.prefix, body)).toBe(sample.signature);
  });

  test('signs any bytes, is fit for a header, and leaves the body alone', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        const given = Buffer.from(bytes);
        const signature = sign(sample.prefix, given);
        expect(signature).toMatch(/^[\x21-\x7e]+$/);
        expect(given.equals(bytes)).toBe(true);
        expect(sign(sample.prefix, Buffer.concat([given, Buffer.of(0)]))).not.toBe(signature);
      }),
      { numRuns: 30 },
    );
    const large = Buffer.alloc(1 << 20, 0xff);
    expect(sign(sample.prefix, large)).not.toBe(sign(sample.prefix, large.subarray(1)));
  });

  test('signs the id and the timestamp exactly when it shares the header of Standard Webhooks', () => {
    expect(sign('other.1.', body) !== sample.signature).toBe(scheme.header === 'webhook-signature');
  });

  test('signs first, or only, with the newest key', () => {
    const older = { secrets: [generateSecret()], privateKeys: [generateKeyPair().privateKey] };
    const rotated = scheme.prepare({
      secrets: [...sample.keys.secrets, ...older.secrets],
      privateKeys: [...sample.keys.privateKeys, ...older.privateKeys],
    });
    const expected =
      scheme.header === 'own' ? sample.signature : `${sample.signature} ${scheme.prepare(older)(sample.prefix, body)}`;
    expect(rotated(sample.prefix, body)).toBe(expected);
  });

  test('refuses to be prepared without a key', () => {
    expect(() => scheme.prepare(noKeys)).toThrow(/needs a (secret|private key)/);
  });
});
