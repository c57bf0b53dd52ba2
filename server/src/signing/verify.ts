import { timingSafeEqual, verify } from 'node:crypto';
import type { BodyHmacMethod } from './config.ts';
import { prepareHmac } from './hmac.ts';
import { readPublicKey } from './key-pairs.ts';
import { SIGNING_SCHEMES } from './registry.ts';
import { signV1 } from './schemes/standard.ts';
import { decodeBase64, standardKeyBytes } from './secrets.ts';

/** Headers as Node gives them; names are compared without regard to case. */
export type SignedHeaders = Readonly<Record<string, string | readonly string[] | undefined>>;

export type VerificationFailure =
  | { reason: 'missing_header' | 'repeated_header'; header: string }
  | { reason: 'malformed_timestamp' | 'timestamp_too_old' | 'timestamp_too_new' | 'no_matching_signature' };

export type Verification = { valid: true } | ({ valid: false } & VerificationFailure);

/**
 * Checks a delivery by Standard Webhooks, as its receiver does. `secret` is a shared secret in any form that signs, and
 * then a `v1` signature counts, or a `whpk_` public key, and then a `v1a` signature does. Signatures of other versions
 * are passed over, and one that matches is enough. A timestamp further than `toleranceSeconds` from `nowMs`, either
 * way, is refused: that bounds how long a recorded request can be sent again.
 */
export function verifyStandard(
  headers: SignedHeaders,
  rawBody: Buffer,
  secret: string,
  nowMs: number,
  toleranceSeconds = 300,
): Verification {
  const id = headerValue(headers, 'webhook-id');
  if (typeof id !== 'string') return id;
  const timestamp = headerValue(headers, 'webhook-timestamp');
  if (typeof timestamp !== 'string') return timestamp;
  const signatures = headerValue(headers, 'webhook-signature');
  if (typeof signatures !== 'string') return signatures;

  if (!/^[0-9]{1,12}$/.test(timestamp)) return { valid: false, reason: 'malformed_timestamp' };
  const ageSeconds = Math.floor(nowMs / 1000) - Number(timestamp);
  if (ageSeconds > toleranceSeconds) return { valid: false, reason: 'timestamp_too_old' };
  if (ageSeconds < -toleranceSeconds) return { valid: false, reason: 'timestamp_too_new' };

  const matches = matcher(`${id}.${timestamp}.`, rawBody, secret);
  return signatures.split(' ').some(matches) ? { valid: true } : { valid: false, reason: 'no_matching_signature' };
}

/**
 * Checks a signature of the body alone. Such a signature has no timestamp: a recorded request can be sent again at any
 * time, and only the event's id tells that it was.
 */
export function verifyLegacy(
  headers: SignedHeaders,
  rawBody: Buffer,
  secret: string,
  expected: { method: BodyHmacMethod; header: string },
): Verification {
  const signature = headerValue(headers, expected.header);
  if (typeof signature !== 'string') return signature;
  const computed = SIGNING_SCHEMES[expected.method].prepare({ secrets: [secret], privateKeys: [] })('', rawBody);
  return isSame(signature, computed) ? { valid: true } : { valid: false, reason: 'no_matching_signature' };
}

/** Returns a test of one signature of `webhook-signature`. */
function matcher(prefix: string, rawBody: Buffer, secret: string): (signature: string) => boolean {
  const publicKey = readPublicKey(secret);
  if (publicKey === undefined) {
    const computed = signV1(prepareHmac('sha256', standardKeyBytes(secret)), prefix, rawBody);
    return (signature) => isSame(signature, computed);
  }
  const message = Buffer.concat([Buffer.from(prefix), rawBody]);
  return (signature) => {
    const bytes = signature.startsWith('v1a,') ? decodeBase64(signature.slice('v1a,'.length)) : undefined;
    return bytes !== undefined && verify(null, message, publicKey, bytes);
  };
}

function headerValue(headers: SignedHeaders, name: string): string | Exclude<Verification, { valid: true }> {
  const wanted = name.toLowerCase();
  const values = Object.entries(headers).flatMap(([each, value]) =>
    each.toLowerCase() === wanted ? (value ?? []) : [],
  );
  const [value] = values;
  if (value === undefined || value === '') return { valid: false, reason: 'missing_header', header: wanted };
  // Two values leave open which of them was signed.
  if (values.length > 1) return { valid: false, reason: 'repeated_header', header: wanted };
  return value;
}

/** The length of a signature is no secret; its content is compared in constant time. */
function isSame(given: string, computed: string): boolean {
  const a = Buffer.from(given);
  const b = Buffer.from(computed);
  return a.length === b.length && timingSafeEqual(a, b);
}
