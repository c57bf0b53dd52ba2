import { randomBytes } from 'node:crypto';
import type { Config } from './config.ts';
import { parseEncryptionKey } from './kernel/secret-box.ts';
import { StartupError } from './kernel/startup-error.ts';
import type { Storage } from './storage.ts';

/** The two keys of an installation: from the environment, else from the data folder, else made now. */
export interface Keys {
  operatorKey: string;
  /** It was made by this start. */
  operatorKeyIsNew: boolean;
  /** 32 bytes. */
  encryptionKey: Buffer;
}

/** @throws StartupError when a kept key cannot be read or is none. */
export async function readKeys(config: Config, { directory }: Pick<Storage, 'directory'>): Promise<Keys> {
  let operatorKeyIsNew = false;
  const operatorKey =
    config.operatorKey ??
    (await directory?.readOrCreateSecret('operator.key', () => {
      operatorKeyIsNew = true;
      return `pho_${randomBytes(32).toString('base64url')}`;
    }));
  const encryptionKey = config.encryptionKey ?? (await readEncryptionKey(directory));
  if (operatorKey === undefined || encryptionKey === undefined) {
    throw new StartupError('encryption.key in the data folder does not hold a key: 64 hex digits are needed.');
  }
  return { operatorKey, operatorKeyIsNew, encryptionKey };
}

async function readEncryptionKey(directory: Storage['directory']): Promise<Buffer | undefined> {
  const text = await directory?.readOrCreateSecret('encryption.key', () => randomBytes(32).toString('hex'));
  return parseEncryptionKey(text ?? '');
}
