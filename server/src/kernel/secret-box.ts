import { createCipheriv, createDecipheriv, createHmac, randomBytes, timingSafeEqual } from 'node:crypto';

/**
 * Seals secrets for the database, hashes keys and signs portal tokens.
 *
 * A sealed value opens only in the place it was made for: `place` names table, tenant, row and column (`sealedPlace` in
 * encryption/sealed-columns.ts) and is authenticated with it, so a ciphertext copied into another tenant's row, another
 * row or another column is of no use.
 */
export interface SecretBox {
  /** Seals with the newest data key in use. */
  seal(plain: string, place: string): Buffer;
  /** @throws Error when its data key is not known, or the place is not the one it was sealed for. */
  open(box: Buffer, place: string): string;
  /**
   * To be awaited before `open` where that can be done: reads the data keys anew when one of the boxes names a key that
   * is not known here. undefined, without a promise, when all are known.
   */
  learn(boxes: readonly (Buffer | null)[]): Promise<void> | undefined;
  /** A fast keyed hash for API keys. They are 256 random bits, so a slow password hash would add cost and no safety. */
  hashKey(key: string): Buffer;
  /** A signature (HMAC-SHA256) under a key of its own, which only this installation can make. For portal tokens. */
  sign(text: string): Buffer;
  /** Whether `sign` made this signature of the text; compared in constant time. */
  isSigned(text: string, signature: Buffer): boolean;
}

/** The keys that a box works with. They may change between two calls. */
export interface DataKeys {
  /** With which values are sealed now. */
  readonly current: DataKey;
  /** 32 bytes, for `hashKey`. */
  readonly hashing: Buffer;
  /** 32 bytes, for `sign`. */
  readonly portal: Buffer;
  /** The 32 bytes of a data key; undefined when it is not known here. */
  find(id: number): Buffer | undefined;
  /** Reads them anew. Never fails: what cannot be read stays as it is. */
  refresh(): Promise<void>;
}

export interface DataKey {
  id: number;
  /** 32 bytes. */
  key: Buffer;
}

/**
 * The data key of values of format 1, from before there were data keys. They name none: version, nonce, tag, ciphertext.
 */
export const FORMAT_1_KEY_ID = 0;

/** Version, key id (4 bytes, big-endian), nonce, tag, ciphertext. Version and key id are authenticated too. */
const FORMAT_VERSION = 2;
const HEADER_BYTES = 5;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;

/** AES-256-GCM with a fresh random nonce a value (NIST SP 800-38D): good for 2^32 values a data key. */
export function createSecretBox(keys: DataKeys): SecretBox {
  const sign = (text: string) => createHmac('sha256', keys.portal).update(text).digest();
  return {
    seal(plain, place) {
      const { id, key } = keys.current;
      const header = Buffer.alloc(HEADER_BYTES);
      header[0] = FORMAT_VERSION;
      header.writeUInt32BE(id, 1);
      return Buffer.concat([header, encrypt(key, Buffer.from(plain), Buffer.concat([header, Buffer.from(place)]))]);
    },
    open(box, place) {
      const id = keyIdOf(box);
      const key = keys.find(id);
      if (key === undefined) throw new Error(`A sealed value names data key ${id}, which is not known here.`);
      if (box[0] === 1) return decrypt(key, box.subarray(1), Buffer.from(placeInFormat1(place))).toString();
      const header = box.subarray(0, HEADER_BYTES);
      return decrypt(key, box.subarray(HEADER_BYTES), Buffer.concat([header, Buffer.from(place)])).toString();
    },
    learn(boxes) {
      for (const box of boxes) {
        if (box !== null && isReadable(box) && keys.find(keyIdOf(box)) === undefined) return keys.refresh();
      }
      return undefined;
    },
    hashKey: (key) => createHmac('sha256', keys.hashing).update(key).digest(),
    sign,
    isSigned(text, signature) {
      const own = sign(text);
      return own.length === signature.length && timingSafeEqual(own, signature);
    },
  };
}

/** The data key that a value was sealed with. @throws Error for a value of an unknown format. */
export function keyIdOf(box: Buffer): number {
  if (!isReadable(box)) throw new Error('A sealed value has an unknown format.');
  return box[0] === 1 ? FORMAT_1_KEY_ID : box.readUInt32BE(1);
}

function isReadable(box: Buffer): boolean {
  return box[0] === 1 || (box[0] === FORMAT_VERSION && box.length >= HEADER_BYTES);
}

/** Nonce, tag, ciphertext. */
export function encrypt(key: Buffer, plain: Buffer, authenticated: Buffer): Buffer {
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG_BYTES });
  cipher.setAAD(authenticated);
  const body = Buffer.concat([cipher.update(plain), cipher.final()]);
  return Buffer.concat([nonce, cipher.getAuthTag(), body]);
}

/** @throws Error unless key, bytes and `authenticated` are those of `encrypt`. */
export function decrypt(key: Buffer, bytes: Buffer, authenticated: Buffer): Buffer {
  const bodyStart = NONCE_BYTES + TAG_BYTES;
  const decipher = createDecipheriv('aes-256-gcm', key, bytes.subarray(0, NONCE_BYTES), { authTagLength: TAG_BYTES });
  decipher.setAAD(authenticated);
  decipher.setAuthTag(bytes.subarray(NONCE_BYTES, bodyStart));
  return Buffer.concat([decipher.update(bytes.subarray(bodyStart)), decipher.final()]);
}

/** Format 1 named the column only where it knew of more than one. */
function placeInFormat1(place: string): string {
  return place.replace(/^(webhook_secrets\/.*)\/secret$|^(idempotent_requests\/.*)\/response$/s, '$1$2');
}

/** Reads a key given as 64 hex digits or as base64 of 32 bytes; undefined for anything else. */
export function parseEncryptionKey(text: string): Buffer | undefined {
  if (/^[0-9a-f]{64}$/i.test(text)) return Buffer.from(text, 'hex');
  if (!/^[A-Za-z0-9+/_-]{43}=?$/.test(text)) return undefined;
  const bytes = Buffer.from(text, 'base64');
  return bytes.length === 32 ? bytes : undefined;
}
