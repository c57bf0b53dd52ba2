import { hkdfSync } from 'node:crypto';
import { decrypt, encrypt } from '../kernel/secret-box.ts';

/** The encryption key as it is configured: it wraps the keys in the table `encryption_keys`, and nothing else. */
export interface MasterKey {
  /** 32 bytes. */
  key: Buffer;
  /** 16 hex digits by which it is recognised. They tell nothing of the key. */
  name: string;
}

export function masterKey(key: Uint8Array): MasterKey {
  if (key.length !== 32) throw new Error('The encryption key must be 32 bytes.');
  const bytes = Buffer.from(key);
  return { key: bytes, name: derive(bytes, 'posthorn/master-key-name').toString('hex').slice(0, 16) };
}

const WRAPPING_VERSION = 1;

/** `place`: purpose and id of the key, so that two rows cannot be exchanged. */
export function wrapKey(master: MasterKey, key: Buffer, place: string): Buffer {
  return Buffer.concat([Buffer.from([WRAPPING_VERSION]), encrypt(wrappingKey(master), key, Buffer.from(place))]);
}

/** undefined when it was wrapped by another master key or for another place, or is damaged. */
export function unwrapKey(master: MasterKey, wrapped: Buffer, place: string): Buffer | undefined {
  if (wrapped[0] !== WRAPPING_VERSION) return undefined;
  try {
    return decrypt(wrappingKey(master), wrapped.subarray(1), Buffer.from(place));
  } catch {
    return undefined;
  }
}

/** What values were sealed with, and API keys hashed, before there were data keys. */
export function keysOfFormat1(master: MasterKey): { sealing: Buffer; hashing: Buffer } {
  return { sealing: derive(master.key, 'posthorn/seal'), hashing: derive(master.key, 'posthorn/api-key-hash') };
}

function wrappingKey(master: MasterKey): Buffer {
  return derive(master.key, 'posthorn/wrap');
}

function derive(key: Buffer, purpose: string): Buffer {
  return Buffer.from(hkdfSync('sha256', key, Buffer.alloc(0), purpose, 32));
}
