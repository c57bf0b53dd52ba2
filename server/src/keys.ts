import { randomBytes } from 'node:crypto';
import type { Config } from './config.ts';
import { KEY_FILE, type MasterKeySource } from './encryption/key-files.ts';
import type { Storage } from './storage.ts';

/** The two keys of an installation: from the environment, else from the data folder, else made now. */
export interface Keys {
  operatorKey: string;
  /** It was made by this start. */
  operatorKeyIsNew: boolean;
  /** Where the encryption key is. */
  masterKeys: MasterKeySource;
}

/** @throws StartupError when a kept key cannot be read. */
export async function readKeys(config: Config, { directory }: Pick<Storage, 'directory'>): Promise<Keys> {
  let operatorKeyIsNew = false;
  const operatorKey =
    config.operatorKey ??
    (await directory?.readOrCreateSecret('operator.key', () => {
      operatorKeyIsNew = true;
      return `pho_${randomBytes(32).toString('base64url')}`;
    }));
  const masterKeys = givenMasterKeys(config) ?? (await keptMasterKeys(directory));
  if (operatorKey === undefined || masterKeys === undefined) {
    throw new Error('The data folder that keeps the keys was not opened.');
  }
  return { operatorKey, operatorKeyIsNew, masterKeys };
}

async function keptMasterKeys(directory: Storage['directory']): Promise<MasterKeySource | undefined> {
  if (directory === undefined) return undefined;
  await directory.readOrCreateSecret(KEY_FILE, () => randomBytes(32).toString('hex'));
  return { kind: 'folder', path: directory.path };
}

/** undefined: the settings have none, and the data folder keeps it. */
export function givenMasterKeys({ encryptionKey, previousEncryptionKey }: Config): MasterKeySource | undefined {
  if (encryptionKey === undefined) return undefined;
  return {
    kind: 'given',
    keys: previousEncryptionKey === undefined ? [encryptionKey] : [encryptionKey, previousEncryptionKey],
  };
}
