import { randomBytes } from 'node:crypto';
import type pg from 'pg';
import {
  KEY_FILE,
  type MasterKeySource,
  NEXT_KEY_FILE,
  promoteNextKeyFile,
  readKeyFile,
  readMasterKeys,
  writeNextKeyFile,
} from './key-files.ts';
import { announceKeys, inTransaction, openKeyRows, readKeyRows, rewrapKey } from './key-rows.ts';
import { type MasterKey, masterKey } from './master-keys.ts';
import { mustBeOpened } from './prepare-keys.ts';
import { alone, everyHolder, RotationError, type RotationOptions } from './rotation.ts';

export interface MasterKeyRotationOptions extends RotationOptions {
  source: MasterKeySource;
}

/** `already`: everything was wrapped by the new key before. */
export type RotatedMasterKey = { kind: 'rotated' | 'already'; rewrapped: number };

/**
 * Wraps all keys by another master key, in one transaction; nothing is sealed anew. From settings, the new master key is
 * the configured one, and the one before is configured beside it. In a data folder a new one is made.
 *
 * It waits until every running process has the new master key, as one without it could not start again. When it is
 * killed, the keys are wrapped by the one or by the other, and the program starts with either: it tries both.
 *
 * @throws RotationError when another rotation is under way or a process lacks the new key.
 */
export async function rotateMasterKey(options: MasterKeyRotationOptions): Promise<RotatedMasterKey> {
  const { pool, source } = options;
  return alone(pool, () => (source.kind === 'given' ? rotateGiven(options) : rotateInFolder(options, source.path)));
}

async function rotateGiven(options: MasterKeyRotationOptions): Promise<RotatedMasterKey> {
  const masters = await readMasterKeys(options.source);
  const [next] = masters;
  const { master, keys } = mustBeOpened(openKeyRows(await readKeyRows(options.pool), masters));
  if (next === undefined || master.name === next.name) return { kind: 'already', rewrapped: keys.length };
  return rewrap(options, master, next);
}

/**
 * The new key's file is on disk before the keys are wrapped by it, and takes the old one's place after. A file that a
 * killed rotation left is used: other processes may know it already.
 */
async function rotateInFolder(options: MasterKeyRotationOptions, folder: string): Promise<RotatedMasterKey> {
  const { pool, onStep } = options;
  const kept = await readKeyFile(folder, KEY_FILE);
  const left = await readKeyFile(folder, NEXT_KEY_FILE);
  const masters = [kept, left].filter((key) => key !== undefined);
  const { master, keys } = mustBeOpened(openKeyRows(await readKeyRows(pool), masters));
  if (master.name === left?.name) {
    await onStep(`Taking up the rotation that was interrupted: ${NEXT_KEY_FILE} becomes ${KEY_FILE}.`);
    await promoteNextKeyFile(folder);
    return { kind: 'rotated', rewrapped: keys.length };
  }
  const next = left ?? masterKey(randomBytes(32));
  if (left === undefined) {
    await onStep(`Writing the new master key to ${NEXT_KEY_FILE}.`);
    await writeNextKeyFile(folder, next);
  }
  await announceKeys(pool);
  const rotated = await rewrap(options, master, next);
  await onStep(`Putting it into the place of ${KEY_FILE}.`);
  await promoteNextKeyFile(folder);
  await announceKeys(pool);
  return rotated;
}

async function rewrap(
  options: MasterKeyRotationOptions,
  master: MasterKey,
  next: MasterKey,
): Promise<RotatedMasterKey> {
  const { pool, onStep } = options;
  await onStep('Waiting until every running process has the new master key.');
  await everyHolder(options, '$1 = ANY (master_keys)', next.name, 'The new master key is not known everywhere');
  await onStep('Wrapping the keys by it.');
  const rewrapped = await rewrapAll(pool, master, next);
  return { kind: 'rotated', rewrapped };
}

/** Checked before it is committed: what does not open by the new master key leaves everything as it was. */
function rewrapAll(pool: pg.Pool, master: MasterKey, next: MasterKey): Promise<number> {
  return inTransaction(pool, async (client) => {
    // No key may come or go meanwhile; those who only use one go on.
    await client.query('LOCK TABLE encryption_keys IN SHARE ROW EXCLUSIVE MODE');
    const { keys } = mustBeOpened(openKeyRows(await readKeyRows(client), [master]));
    for (const key of keys) await rewrapKey(client, key, next);
    const after = openKeyRows(await readKeyRows(client), [next]);
    const same = after.kind === 'opened' && after.keys.every(({ key }, at) => keys[at]?.key.equals(key));
    if (!same) throw new RotationError('The keys did not open by the new master key; nothing was changed.');
    await announceKeys(client);
    return keys.length;
  });
}
