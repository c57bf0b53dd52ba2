import type pg from 'pg';
import type { SecretBox } from '../kernel/secret-box.ts';
import { StartupError } from '../kernel/startup-error.ts';

const TEXT = 'posthorn';
const ROW = 'encryption_check';

/**
 * Refuses an encryption key that is not the one this database's secrets were sealed with: with it no delivery could be
 * signed. The first start leaves a sealed text for those that follow.
 *
 * @throws StartupError
 */
export async function checkEncryptionKey(pool: pg.Pool, box: SecretBox): Promise<void> {
  await pool.query('INSERT INTO encryption_check (sealed) VALUES ($1) ON CONFLICT DO NOTHING', [box.seal(TEXT, ROW)]);
  const result = await pool.query<{ sealed: Buffer }>('SELECT sealed FROM encryption_check');
  const sealed = result.rows[0]?.sealed;
  try {
    if (sealed !== undefined && box.open(sealed, ROW) === TEXT) return;
  } catch (cause) {
    throw new StartupError(WRONG_KEY, { cause });
  }
  throw new StartupError(WRONG_KEY);
}

const WRONG_KEY =
  'The encryption key is not the one that the secrets in this database were stored with: set POSTHORN_ENCRYPTION_KEY, or put encryption.key back into the data folder.';
