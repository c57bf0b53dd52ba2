import { createHmac, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';

export interface SigningKey {
  algorithm: string;
  keyId: string;
  privateKey: KeyObject;
  publicKey: KeyObject;
}

export function makeKey(algorithm: 'RS256' | 'ES256' | 'EdDSA', keyId: string, bits = 2048): SigningKey {
  if (algorithm === 'RS256') return { algorithm, keyId, ...generateKeyPairSync('rsa', { modulusLength: bits }) };
  if (algorithm === 'ES256') return { algorithm, keyId, ...generateKeyPairSync('ec', { namedCurve: 'P-256' }) };
  return { algorithm, keyId, ...generateKeyPairSync('ed25519') };
}

/** The document at an issuer's `jwks_url`. */
export function keySet(...keys: SigningKey[]): Buffer {
  return Buffer.from(
    JSON.stringify({
      keys: keys.map(({ algorithm, keyId, publicKey }) => ({
        ...publicKey.export({ format: 'jwk' }),
        kid: keyId,
        alg: algorithm,
        use: 'sig',
      })),
    }),
  );
}

/** A JWT by hand, so that it may be as wrong as a test wants. A text as a part is its JSON. */
export function signToken(
  claims: object | string,
  key: SigningKey | string | Buffer,
  header: object | string = {},
): string {
  const own =
    typeof key === 'string' || Buffer.isBuffer(key) ? { alg: 'HS256' } : { alg: key.algorithm, kid: key.keyId };
  const parts = [typeof header === 'string' ? header : { typ: 'JWT', ...own, ...header }, claims];
  const text = parts.map((part) => encode(typeof part === 'string' ? part : JSON.stringify(part))).join('.');
  return `${text}.${signatureOf(text, key).toString('base64url')}`;
}

export function encode(text: string): string {
  return Buffer.from(text).toString('base64url');
}

function signatureOf(text: string, key: SigningKey | string | Buffer): Buffer {
  if (typeof key === 'string' || Buffer.isBuffer(key)) return createHmac('sha256', key).update(text).digest();
  const { algorithm, privateKey } = key;
  if (algorithm === 'EdDSA') return sign(null, Buffer.from(text), privateKey);
  return sign('sha256', Buffer.from(text), { key: privateKey, dsaEncoding: 'ieee-p1363' });
}
