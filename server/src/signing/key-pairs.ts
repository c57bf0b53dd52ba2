import { createPrivateKey, createPublicKey, type KeyObject, randomBytes } from 'node:crypto';
import { decodeBase64, type RandomSource } from './secrets.ts';

/** An ed25519 key pair in the form of Standard Webhooks. */
export interface SigningKeyPair {
  /**
   * `whsk_` and the base64 of the 32-byte seed (the private key of RFC 8032, section 5.1.5). The specification names
   * only the prefix; its Go library reads a seed. Never leaves the server.
   */
  privateKey: string;
  /** `whpk_` and the base64 of the 32-byte public key; for the receiver. */
  publicKey: string;
}

export function generateKeyPair(random: RandomSource = randomBytes): SigningKeyPair {
  const privateKey = PRIVATE_PREFIX + random(SEED_BYTES).toString('base64');
  return { privateKey, publicKey: publicKeyOf(privateKey) };
}

/**
 * The `whpk_` key that belongs to a `whsk_` key.
 * @throws Error when `privateKey` is not one.
 */
export function publicKeyOf(privateKey: string): string {
  return PUBLIC_PREFIX + rawPublicKey(readPrivateKey(privateKey)).toString('base64');
}

/**
 * The key object of a `whsk_` key. Other systems write 64 bytes, the seed and then the public key; that form is read
 * too, when its halves belong together.
 * @throws Error, without the key in its text, for anything else.
 */
export function readPrivateKey(text: string): KeyObject {
  const bytes = text.startsWith(PRIVATE_PREFIX) ? decodeBase64(text.slice(PRIVATE_PREFIX.length)) : undefined;
  if (bytes === undefined || (bytes.length !== SEED_BYTES && bytes.length !== SEED_BYTES + PUBLIC_BYTES)) {
    throw new Error('An ed25519 private key must be "whsk_" and the base64 of 32 or 64 bytes.');
  }
  const der = Buffer.concat([PKCS8_HEADER, bytes.subarray(0, SEED_BYTES)]);
  const key = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
  if (bytes.length > SEED_BYTES && !rawPublicKey(key).equals(bytes.subarray(SEED_BYTES))) {
    throw new Error('The two halves of an ed25519 private key do not belong together.');
  }
  return key;
}

/** The key object of a `whpk_` key, or undefined when the text is not one. */
export function readPublicKey(text: string): KeyObject | undefined {
  const bytes = text.startsWith(PUBLIC_PREFIX) ? decodeBase64(text.slice(PUBLIC_PREFIX.length)) : undefined;
  if (bytes?.length !== PUBLIC_BYTES) return undefined;
  return createPublicKey({ key: Buffer.concat([SPKI_HEADER, bytes]), format: 'der', type: 'spki' });
}

const PRIVATE_PREFIX = 'whsk_';
const PUBLIC_PREFIX = 'whpk_';
const SEED_BYTES = 32;
const PUBLIC_BYTES = 32;

/** What stands before the seed, and before the public key, in the DER forms of RFC 8410. */
const PKCS8_HEADER = Buffer.from('302e020100300506032b657004220420', 'hex');
const SPKI_HEADER = Buffer.from('302a300506032b6570032100', 'hex');

function rawPublicKey(privateKey: KeyObject): Buffer {
  return createPublicKey(privateKey).export({ format: 'der', type: 'spki' }).subarray(SPKI_HEADER.length);
}
