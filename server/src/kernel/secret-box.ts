import { createCipheriv, createDecipheriv, createHmac, hkdfSync, randomBytes, timingSafeEqual } from 'node:crypto';

/**
 * Seals secrets for the database, hashes keys and signs portal tokens, all under one encryption key.
 *
 * A sealed value opens only for the row it was made for: `row` (for instance `webhooks/<tenant>/<id>/headers`) is
 * authenticated with it, so a ciphertext copied to another tenant's row is of no use.
 */
export interface SecretBox {
  seal(plain: string, row: string): Buffer;
  /** @throws Error when the key is not the one it was sealed with, or the row is not the one it was sealed for. */
  open(box: Buffer, row: string): string;
  /** A fast keyed hash for API keys. They are 256 random bits, so a slow password hash would add cost and no safety. */
  hashKey(key: string): Buffer;
  /** A signature (HMAC-SHA256) under a key of its own, which only this installation can make. For portal tokens. */
  sign(text: string): Buffer;
  /** Whether `sign` made this signature of the text; compared in constant time. */
  isSigned(text: string, signature: Buffer): boolean;
}

const FORMAT_VERSION = 1;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;

/** `encryptionKey`: 32 bytes. AES-256-GCM with a fresh random nonce a value (NIST SP 800-38D). */
export function createSecretBox(encryptionKey: Buffer): SecretBox {
  if (encryptionKey.length !== 32) throw new Error('The encryption key must be 32 bytes.');
  const sealingKey = derive(encryptionKey, 'posthorn/seal');
  const hashingKey = derive(encryptionKey, 'posthorn/api-key-hash');
  const portalKey = derive(encryptionKey, 'posthorn/portal-token');
  const sign = (text: string) => createHmac('sha256', portalKey).update(text).digest();
  return {
    seal(plain, row) {
      const nonce = randomBytes(NONCE_BYTES);
      const cipher = createCipheriv('aes-256-gcm', sealingKey, nonce);
      cipher.setAAD(Buffer.from(row));
      const body = Buffer.concat([cipher.update(plain, 'utf8'), cipher.final()]);
      return Buffer.concat([Buffer.from([FORMAT_VERSION]), nonce, cipher.getAuthTag(), body]);
    },
    open(box, row) {
      if (box[0] !== FORMAT_VERSION) throw new Error('A sealed value has an unknown format.');
      const tagStart = 1 + NONCE_BYTES;
      const bodyStart = tagStart + TAG_BYTES;
      const decipher = createDecipheriv('aes-256-gcm', sealingKey, box.subarray(1, tagStart));
      decipher.setAAD(Buffer.from(row));
      decipher.setAuthTag(box.subarray(tagStart, bodyStart));
      return Buffer.concat([decipher.update(box.subarray(bodyStart)), decipher.final()]).toString('utf8');
    },
    hashKey: (key) => createHmac('sha256', hashingKey).update(key).digest(),
    sign,
    isSigned(text, signature) {
      const own = sign(text);
      return own.length === signature.length && timingSafeEqual(own, signature);
    },
  };
}

/** Reads a key given as 64 hex digits or as base64 of 32 bytes; undefined for anything else. */
export function parseEncryptionKey(text: string): Buffer | undefined {
  if (/^[0-9a-f]{64}$/i.test(text)) return Buffer.from(text, 'hex');
  if (!/^[A-Za-z0-9+/_-]{43}=?$/.test(text)) return undefined;
  const bytes = Buffer.from(text, 'base64');
  return bytes.length === 32 ? bytes : undefined;
}

function derive(key: Buffer, purpose: string): Buffer {
  return Buffer.from(hkdfSync('sha256', key, Buffer.alloc(0), purpose, 32));
}
