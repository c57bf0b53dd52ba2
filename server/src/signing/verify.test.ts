import { Webhook } from 'standardwebhooks';
import { describe, expect, test } from 'vitest';
import { BODY_HMAC_METHODS, DEFAULT_SIGNATURE, type SignatureConfig } from './config.ts';
import { generateKeyPair } from './key-pairs.ts';
import { generateSecret } from './secrets.ts';
import { prepareSigner } from './signer.ts';
import { type SignedHeaders, verifyLegacy, verifyStandard } from './verify.ts';

const SECONDS = 1731705121;
const NOW_MS = SECONDS * 1000 + 500;
const BODY = Buffer.from('{"event_type":"ping","data":{"success":true}}');
const VECTOR = {
  'webhook-id': 'msg_loFOjxBNrRLzqYUf',
  'webhook-timestamp': '1731705121',
  'webhook-signature': 'v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=',
};
const VECTOR_SECRET = 'whsec_plJ3nmyCDGBKInavdOK15jsl';

function signed(
  config: Partial<SignatureConfig>,
  secrets: string[],
  privateKeys: string[] = [],
): Record<string, string> {
  const flat = prepareSigner({ ...DEFAULT_SIGNATURE, ...config }, { secrets, privateKeys }).sign(
    'evt_1',
    SECONDS,
    BODY,
  );
  return Object.fromEntries(Array.from({ length: flat.length / 2 }, (_, at) => [flat[at * 2], flat[at * 2 + 1]]));
}

describe('verifyStandard', () => {
  const check = (headers: SignedHeaders, nowMs = NOW_MS, body = BODY, secret = VECTOR_SECRET) =>
    verifyStandard(headers, body, secret, nowMs);
  const mismatch = { valid: false, reason: 'no_matching_signature' };

  test('accepts published signatures', () => {
    expect(check(VECTOR)).toEqual({ valid: true });
    // From the tests of the libraries in the Standard Webhooks repository.
    const headers = {
      'webhook-id': 'msg_p5jXN8AQM9LWM0D4loKWxJek',
      'webhook-timestamp': '1614265330',
      'webhook-signature': 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=',
    };
    const body = Buffer.from('{"test": 2432232314}');
    expect(check(headers, 1614265330_000, body, 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw')).toEqual({ valid: true });
  });

  test("accepts what the standard's public library signs", () => {
    const secret = generateSecret();
    const signature = new Webhook(secret).sign('evt_1', new Date(NOW_MS), BODY);
    const headers = { ...VECTOR, 'webhook-id': 'evt_1', 'webhook-signature': signature };
    expect(check(headers, NOW_MS, BODY, secret)).toEqual({ valid: true });
  });

  test('accepts what we sign, with every secret of a rotation and with the public key', () => {
    const pair = generateKeyPair();
    const secrets = [generateSecret(), 'an older secret'];
    const headers = signed({ asymmetric: true }, secrets, [pair.privateKey]);
    for (const key of [...secrets, pair.publicKey]) expect(check(headers, NOW_MS, BODY, key)).toEqual({ valid: true });
    for (const key of [generateSecret(), generateKeyPair().publicKey, pair.privateKey, 'whpk_AAAA', '']) {
      expect(check(headers, NOW_MS, BODY, key)).toEqual(mismatch);
    }
  });

  test('refuses a changed id, timestamp, body or signature', () => {
    expect(check(VECTOR, NOW_MS, Buffer.concat([BODY, Buffer.from(' ')]))).toEqual(mismatch);
    expect(check({ ...VECTOR, 'webhook-id': 'msg_other' })).toEqual(mismatch);
    expect(check({ ...VECTOR, 'webhook-timestamp': '1731705122' })).toEqual(mismatch);
    const signature = VECTOR['webhook-signature'];
    for (const other of [
      'v1,',
      'v1',
      signature.slice(3),
      signature.replace('v1', 'v2'),
      signature.replace('v1', 'v1a'),
      signature.replace('=', ''),
      signature.toLowerCase(),
      `v1,${'é'.repeat(43)}=`,
    ]) {
      expect(check({ ...VECTOR, 'webhook-signature': other })).toEqual(mismatch);
    }
  });

  test('a public key does not accept a v1 signature that was made with it as the secret', () => {
    const { publicKey } = generateKeyPair();
    expect(check(signed({}, [publicKey]), NOW_MS, BODY, publicKey)).toEqual(mismatch);
  });

  test('passes over signatures of other versions', () => {
    const signature = `v9,AAAA  v1a,!!!! v1,AAAA ${VECTOR['webhook-signature']} x`;
    expect(check({ ...VECTOR, 'webhook-signature': signature })).toEqual({ valid: true });
  });

  test('the tolerance is 300 seconds either way, unless another is given', () => {
    const at = (seconds: number, tolerance?: number) =>
      verifyStandard(VECTOR, BODY, VECTOR_SECRET, (SECONDS + seconds) * 1000, tolerance);
    expect(at(300)).toEqual({ valid: true });
    expect(at(301)).toEqual({ valid: false, reason: 'timestamp_too_old' });
    expect(at(-300)).toEqual({ valid: true });
    expect(at(-301)).toEqual({ valid: false, reason: 'timestamp_too_new' });
    expect(at(11, 10)).toEqual({ valid: false, reason: 'timestamp_too_old' });
  });

  test('a timestamp that is no count of seconds is refused', () => {
    for (const timestamp of [
      '1731705121.5',
      ' 1731705121',
      '-1',
      '1e9',
      '0x67',
      '2024-11-15T21:12:01Z',
      '9'.repeat(400),
    ]) {
      expect(check({ ...VECTOR, 'webhook-timestamp': timestamp })).toEqual({
        valid: false,
        reason: 'malformed_timestamp',
      });
    }
  });

  test('header names are read without regard to case; a missing or repeated one is named', () => {
    const upper = Object.fromEntries(Object.entries(VECTOR).map(([name, value]) => [name.toUpperCase(), [value]]));
    expect(check(upper)).toEqual({ valid: true });
    for (const header of Object.keys(VECTOR)) {
      expect(check({ ...VECTOR, [header]: undefined })).toEqual({ valid: false, reason: 'missing_header', header });
      expect(check({ ...VECTOR, [header]: '' })).toEqual({ valid: false, reason: 'missing_header', header });
      expect(check({ ...VECTOR, [header]: ['a', 'b'] })).toEqual({ valid: false, reason: 'repeated_header', header });
      expect(check({ ...VECTOR, [header.toUpperCase()]: 'b' })).toEqual({
        valid: false,
        reason: 'repeated_header',
        header,
      });
    }
  });
});

describe.each(BODY_HMAC_METHODS)('verifyLegacy with %s', (method) => {
  const expected = { method, header: 'X-My-Signature' };
  const headers = signed({ standard: false, ...expected }, ['whsec_plJ3nmyCDGBKInavdOK15jsl']);
  const mismatch = { valid: false, reason: 'no_matching_signature' };

  test('accepts what we sign, under whichever case the header comes', () => {
    expect(verifyLegacy(headers, BODY, VECTOR_SECRET, expected)).toEqual({ valid: true });
    const lower = { 'x-my-signature': headers['X-My-Signature'] };
    expect(verifyLegacy(lower, BODY, VECTOR_SECRET, expected)).toEqual({ valid: true });
  });

  test('refuses another body, secret, method or a cut signature', () => {
    const signature = headers['X-My-Signature'] as string;
    expect(verifyLegacy(headers, Buffer.alloc(0), VECTOR_SECRET, expected)).toEqual(mismatch);
    expect(verifyLegacy(headers, BODY, 'another secret', expected)).toEqual(mismatch);
    expect(verifyLegacy({ 'x-my-signature': signature.slice(0, -1) }, BODY, VECTOR_SECRET, expected)).toEqual(mismatch);
    for (const other of BODY_HMAC_METHODS.filter((each) => each !== method)) {
      expect(verifyLegacy(headers, BODY, VECTOR_SECRET, { ...expected, method: other })).toEqual(mismatch);
    }
  });

  test('names the header that is missing', () => {
    const missing = { valid: false, reason: 'missing_header', header: 'x-my-signature' };
    expect(verifyLegacy({}, BODY, VECTOR_SECRET, expected)).toEqual(missing);
  });
});
