import type pg from 'pg';
import type { Mode } from './config.ts';
import { migrate } from './db/migrate.ts';
import { ensurePartitions } from './db/partitions.ts';
import { openDatabase } from './db/pool.ts';
import type { MasterKeySource } from './encryption/key-files.ts';
import { prepareKeys } from './encryption/prepare-keys.ts';
import type { Clock } from './kernel/clock.ts';
import { createIdSource } from './kernel/ids.ts';
import type { Logger } from './kernel/logger.ts';
import { ensureDefaultTenant } from './tenants/default-tenant.ts';
import { DEFAULT_SETTINGS } from './tenants/types.ts';

/**
 * Brings the database to what this program needs before a node starts: schema, keys, partitions, the default tenant. Done
 * again it changes nothing.
 *
 * @throws StartupError when the database belongs to a newer program or to another encryption key.
 */
export async function prepareDatabase(options: {
  connection: pg.ClientConfig;
  mode: Mode;
  masterKeys: MasterKeySource;
  clock: Clock;
  logger: Logger;
}): Promise<void> {
  const { connection, masterKeys, clock, logger } = options;
  const { db, pool, close } = openDatabase({ connection, max: 1, logger });
  try {
    await migrate(pool);
    await prepareKeys(pool, masterKeys);
    await ensurePartitions(pool, clock.now());
    const settings = { ...DEFAULT_SETTINGS, allow_unknown_event_types: options.mode === 'dev' };
    await ensureDefaultTenant({ db, clock, newId: createIdSource(clock), settings });
  } finally {
    await close();
  }
}
