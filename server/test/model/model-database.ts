import { Kysely, PostgresDialect } from 'kysely';
import pg from 'pg';
import type { Change } from '../../src/db/notify.ts';
import { ensurePartitions } from '../../src/db/partitions.ts';
import { type Database, getTypeParser, openEnginePool } from '../../src/db/pool.ts';
import type { Tables } from '../../src/db/tables.ts';
import type { Clock } from '../../src/kernel/clock.ts';
import { createLogger } from '../../src/kernel/logger.ts';
import { createTestDatabase } from '../../src/testing/database.ts';
import { installDatabaseTime } from './database-time.ts';
import { Activity, Wire } from './wire.ts';

/** One database for all runs of a file. Each run has a tenant of its own on it. */
export interface ModelDatabase {
  /** For the model's own looks at the rows. */
  pool: pg.Pool;
  enginePool: pg.Pool;
  activity: Activity;
  /** What nodes tell each other; set by the run. */
  onChange: (change: Change) => void;
  dbFor(options: { clock: Clock; onNotice: () => void }): Database;
  /** Passes on every notice that was committed until now. */
  deliverNotices(): Promise<void>;
  nextTenantId(): string;
  /** Removes every row of earlier runs. */
  clear(): Promise<void>;
  close(): Promise<void>;
}

const START_OF_DAY_MS = Date.parse('2026-01-15T00:00:00.000Z');

export async function openModelDatabase(): Promise<ModelDatabase> {
  const database = await createTestDatabase();
  const { connection } = database;
  const administrator = new pg.Client(connection);
  await administrator.connect();
  await installDatabaseTime(administrator);
  await administrator.end();

  const logger = createLogger('silent');
  // To plan the looks at the rows anew each time would take longer than the looks.
  const options = '-c plan_cache_mode=force_generic_plan';
  const pool = new pg.Pool({ ...connection, max: 3, types: { getTypeParser }, options });
  const apiPool = new pg.Pool({ ...connection, max: 4, types: { getTypeParser } });
  const enginePool = openEnginePool({ connection, logger, max: 6 });
  await ensurePartitions(pool, START_OF_DAY_MS);
  const listener = new pg.Client(connection);
  await listener.connect();
  await listener.query('LISTEN posthorn_changes');
  // Sessions that end with the database are no news.
  for (const each of [pool, apiPool]) each.on('error', () => {});
  listener.on('error', () => {});
  const activity = new Activity();
  let tenants = 0;

  const opened: ModelDatabase = {
    pool,
    enginePool,
    activity,
    onChange: () => {},
    dbFor({ clock, onNotice }) {
      const { pool: watched } = new Wire({ real: apiPool, activity, clock, onNotice });
      return new Kysely<Tables>({ dialect: new PostgresDialect({ pool: watched }) });
    },
    async deliverNotices() {
      // A session reads the notices of others before it answers to one of its own.
      await listener.query(`SELECT pg_notify('posthorn_changes', '')`);
    },
    nextTenantId() {
      tenants += 1;
      return `00000000-0000-7000-8000-${tenants.toString(16).padStart(12, '0')}`;
    },
    async clear() {
      // With what people configured for a tenant, whatever tables that is in.
      await pool.query(`TRUNCATE tenants, webhook_totals, webhook_tallies, events, event_keys, deliveries, attempts,
        dead_letters, nodes, removals CASCADE`);
    },
    async close() {
      await Promise.all([pool.end(), apiPool.end(), enginePool.end(), listener.end()]);
      await database.drop();
    },
  };
  listener.on('notification', ({ payload }) => {
    if (payload) opened.onChange(JSON.parse(payload) as Change);
  });
  return opened;
}
