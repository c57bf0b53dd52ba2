import type { Config } from '../config.ts';
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

/** `openStorage` opens the folder for the keys that are not given. */
const UNUSED_KEYS = { operatorKey: '', encryptionKey: Buffer.alloc(0) };
