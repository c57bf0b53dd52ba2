import type pg from 'pg';
import { decrypt, FORMAT_1_KEY_ID } from '../kernel/secret-box.ts';
import { StartupError } from '../kernel/startup-error.ts';
import { KEY_FILE, type MasterKeySource, promoteNextKeyFile, readKeyFile, readMasterKeys } from './key-files.ts';
import { announceKeys, insertKey, inTransaction, type OpenedKeys, openKeyRows, readKeyRows } from './key-rows.ts';
import { keysOfFormat1, type MasterKey } from './master-keys.ts';

/**
 * Sees to it that the database has keys and that the configured master key opens them: makes them for a new database,
 * takes them over for one from before there were any, and ends the replacement of a key file that was cut short.
 *
 * @throws StartupError with one line when the master key is another one or a key is damaged: no delivery could be signed.
 */
export async function prepareKeys(pool: pg.Pool, source: MasterKeySource): Promise<void> {
  const masters = await readMasterKeys(source);
  await inTransaction(pool, async (client) => {
    // Of several programs that start at once, one makes the keys.
    await client.query('LOCK TABLE encryption_keys IN SHARE ROW EXCLUSIVE MODE');
    const rows = await readKeyRows(client);
    if (rows.length === 0) await makeKeys(client, masters);
    await makePortalKey(client, masters);
  });
  const { master } = mustBeOpened(openKeyRows(await readKeyRows(pool), masters));
  if (source.kind === 'given') return;
  const kept = await readKeyFile(source.path, KEY_FILE);
  if (kept?.name !== master.name) await promoteNextKeyFile(source.path);
}

/** @throws StartupError with the line that says what is wrong. */
export function mustBeOpened(opened: OpenedKeys): Extract<OpenedKeys, { kind: 'opened' }> {
  switch (opened.kind) {
    case 'opened':
      return opened;
    case 'wrong-master':
      throw new StartupError(WRONG_KEY);
    case 'damaged':
      throw new StartupError(
        `Key ${opened.id} in the table encryption_keys is damaged: what it sealed cannot be opened. Restore the table's row from a backup.`,
      );
  }
}

const WRONG_KEY =
  'The encryption key is not the one that the secrets in this database were stored with: set POSTHORN_ENCRYPTION_KEY, or put encryption.key back into the data folder.';

async function makeKeys(client: pg.PoolClient, masters: readonly MasterKey[]): Promise<void> {
  const check = await client.query<{ sealed: Buffer }>('SELECT sealed FROM encryption_check');
  const sealed = check.rows[0]?.sealed;
  if (sealed !== undefined) {
    const master = masters.find((candidate) => isMasterOfFormat1(candidate, sealed));
    if (master === undefined) throw new StartupError(WRONG_KEY);
    const before = keysOfFormat1(master);
    await insertKey(client, { id: FORMAT_1_KEY_ID, purpose: 'sealing', state: 'old' }, master, before.sealing);
    await insertKey(client, { id: 1, purpose: 'sealing', state: 'current' }, master);
    await insertKey(client, { id: 2, purpose: 'hashing', state: 'current' }, master, before.hashing);
    // It opens with the master key itself, which nothing may any more once that key was replaced.
    await client.query('DELETE FROM encryption_check');
    return;
  }
  const [master] = masters;
  if (master === undefined) throw new StartupError(WRONG_KEY);
  const used = await client.query('SELECT FROM webhook_secrets LIMIT 1');
  if (used.rowCount !== 0) {
    throw new StartupError(
      'The database holds secrets and not the keys that they are sealed with: restore the table encryption_keys from the same backup.',
    );
  }
  await insertKey(client, { id: 1, purpose: 'sealing', state: 'current' }, master);
  await insertKey(client, { id: 2, purpose: 'hashing', state: 'current' }, master);
}

/** Portal tokens are signed with it. Its row may be removed to end all of them: the next start makes another one. */
async function makePortalKey(client: pg.PoolClient, masters: readonly MasterKey[]): Promise<void> {
  const rows = await readKeyRows(client);
  if (rows.some(({ purpose }) => purpose === 'portal')) return;
  const { master } = mustBeOpened(openKeyRows(rows, masters));
  const id = Math.max(...rows.map((row) => row.id)) + 1;
  await insertKey(client, { id, purpose: 'portal', state: 'current' }, master);
  await announceKeys(client);
}

/** Before there were data keys, the first start left this text, sealed under the master key itself. */
function isMasterOfFormat1(master: MasterKey, sealed: Buffer): boolean {
  try {
    const plain = decrypt(keysOfFormat1(master).sealing, sealed.subarray(1), Buffer.from('encryption_check'));
    return sealed[0] === 1 && plain.toString() === 'posthorn';
  } catch {
    return false;
  }
}
