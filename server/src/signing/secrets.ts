import { randomBytes } from 'node:crypto';

/** Gives that many random bytes. Injected, so that a test can know what was made. */
export type RandomSource = (byteCount: number) => Buffer;

/** A new secret in the form of Standard Webhooks: `whsec_` and the base64 of 32 random bytes. */
export function generateSecret(random: RandomSource = randomBytes): string {
  return SECRET_PREFIX + random(32).toString('base64');
}

/**
 * What is wrong with a secret that a user wants to use, as the rest of a sentence about it; undefined when nothing is.
 *
 * Accepted are `whsec_` with the base64 of 24 to 64 bytes (the Standard Webhooks specification's bounds), and any
 * other text of 8 to 256 characters without control characters. Text that starts with `whsec_`, `whsk_` or `whpk_` and
 * is something else is refused: receivers' libraries go by these prefixes and would use another key than we do.
 * The text never holds the secret.
 */
export function secretProblem(secret: string): string | undefined {
  if (secret.startsWith('whsk_') || secret.startsWith('whpk_')) {
    return 'starts like an ed25519 key; a shared secret must not start with "whsk_" or "whpk_"';
  }
  if (secret.startsWith(SECRET_PREFIX)) {
    const key = decodeBase64(secret.slice(SECRET_PREFIX.length));
    if (key !== undefined && key.length >= 24 && key.length <= 64) return undefined;
    return 'starts with "whsec_" and must then be the base64, with its padding, of 24 to 64 bytes';
  }
  if (!secret.isWellFormed() || /\p{Cc}/u.test(secret)) return 'must not contain control characters';
  // Code points, so that the bound is the same for every alphabet; no need to count them in a huge text.
  const length = secret.length > 512 ? secret.length : [...secret].length;
  if (length < 8 || length > 256) return 'must have 8 to 256 characters';
  return undefined;
}

/**
 * The HMAC key that a secret stands for in the `standard` scheme: the bytes behind `whsec_`, as every Standard Webhooks
 * library takes them, or the UTF-8 of the whole text when it is not of that form. The bounds of `secretProblem` are
 * not asked for here, so that a shorter secret brought along from another system still signs as it did there.
 */
export function standardKeyBytes(secret: string): Buffer {
  if (!secret.startsWith(SECRET_PREFIX)) return Buffer.from(secret);
  const key = decodeBase64(secret.slice(SECRET_PREFIX.length));
  return key === undefined || key.length === 0 ? Buffer.from(secret) : key;
}

/**
 * The bytes of a base64 text (RFC 4648, section 4), or undefined. Padding is required and the spare bits must be 0, as
 * the strictest of the receivers' libraries want it.
 */
export function decodeBase64(text: string): Buffer | undefined {
  const bytes = Buffer.from(text, 'base64');
  return bytes.toString('base64') === text ? bytes : undefined;
}

const SECRET_PREFIX = 'whsec_';
