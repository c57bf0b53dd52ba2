import type { Config } from '../config.ts';
import { DataDirectoryInUse } from '../db/data-directory.ts';
import { embeddedConnection } from '../db/embedded.ts';
import type { Logger } from '../kernel/logger.ts';
import { openStorage, type Storage } from '../storage.ts';

/**
 * Opens the database for a command that needs no keys. With `DATABASE_URL` the data folder is left alone, so that the
 * command works beside a running Posthorn; the embedded database is in that folder, and only one process can have it.
 *
 * @throws StartupError with one line when the database cannot be used.
 */
export function openDatabaseOnly(config: Config, logger: Logger): Promise<Storage> {
  return openStorage(config.databaseUrl === undefined ? config : { ...config, ...UNUSED_KEYS }, { logger });
}

/** The same beside a running Posthorn too: its embedded PostgreSQL takes one more connection. */
export async function openBesideOthers(config: Config, logger: Logger): Promise<Pick<Storage, 'connection' | 'close'>> {
  try {
    return await openDatabaseOnly(config, logger);
  } catch (error) {
    if (!(error instanceof DataDirectoryInUse)) throw error;
    return { connection: await embeddedConnection(config.dataDir), close: async () => {} };
  }
}

/** `openStorage` opens the folder for the keys that are not given. */
const UNUSED_KEYS = { operatorKey: '', encryptionKey: Buffer.alloc(0) };
