import { readFile, rename } from 'node:fs/promises';
import path from 'node:path';
import { syncDirectory, writeSecretFile } from '../db/data-directory.ts';
import { parseEncryptionKey } from '../kernel/secret-box.ts';
import { StartupError } from '../kernel/startup-error.ts';
import { type MasterKey, masterKey } from './master-keys.ts';

/**
 * Where a process has its master keys from: the settings, of which the first is the one in use, or the data folder. Plain
 * data, so that it can be sent to another process.
 */
export type MasterKeySource = { kind: 'given'; keys: Uint8Array[] } | { kind: 'folder'; path: string };

/** The file of the data folder that keeps the master key. */
export const KEY_FILE = 'encryption.key';

/**
 * The key that is about to take its place. From before the data keys are wrapped anew until the file has its final name,
 * both files are there: whenever the program is killed meanwhile, one of them opens the data keys.
 */
export const NEXT_KEY_FILE = 'encryption.key.next';

/** The one in use first. @throws StartupError when a file is there and holds no key. */
export async function readMasterKeys(source: MasterKeySource): Promise<MasterKey[]> {
  if (source.kind === 'given') return source.keys.map(masterKey);
  // In this order: one that gets its final name in between is read twice, and not missed.
  const next = await readKeyFile(source.path, NEXT_KEY_FILE);
  const kept = await readKeyFile(source.path, KEY_FILE);
  return [kept, next].filter((key) => key !== undefined);
}

/** undefined when there is no such file. @throws StartupError when it holds no key or cannot be read. */
export async function readKeyFile(folder: string, name: string): Promise<MasterKey | undefined> {
  let text: string;
  try {
    text = (await readFile(path.join(folder, name), 'utf8')).trim();
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT') return undefined;
    throw new StartupError(`${name} in the data folder cannot be read (${code}).`, { cause });
  }
  const key = parseEncryptionKey(text);
  if (key === undefined) {
    throw new StartupError(`${name} in the data folder does not hold a key: 64 hex digits are needed.`);
  }
  return masterKey(key);
}

/** On disk when it resolves; readable by its owner alone. */
export async function writeNextKeyFile(folder: string, key: MasterKey): Promise<void> {
  await writeSecretFile(path.join(folder, NEXT_KEY_FILE), key.key.toString('hex'));
}

/** Gives the next key's file its final name. Does nothing when another process has just done so. */
export async function promoteNextKeyFile(folder: string): Promise<void> {
  try {
    await rename(path.join(folder, NEXT_KEY_FILE), path.join(folder, KEY_FILE));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  await syncDirectory(folder);
}
