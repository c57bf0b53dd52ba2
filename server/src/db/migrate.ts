import { readdirSync, readFileSync } from 'node:fs';
import type pg from 'pg';
import { StartupError } from '../kernel/startup-error.ts';

export interface Migration {
  version: number;
  name: string;
  sql: string;
}

export interface MigrationResult {
  /** Versions applied by this call, in order. */
  applied: number[];
  /** The schema's version after it. */
  version: number;
}

/**
 * Brings the schema forward to this program's version, one transaction a migration, under a lock that lets only one
 * process migrate at a time. There is no way back: a newer program's schema stays.
 *
 * @throws StartupError when the schema is newer than the program, or the database is too old (PostgreSQL 15 is needed).
 */
export async function migrate(pool: pg.Pool, migrations: Migration[] = loadMigrations()): Promise<MigrationResult> {
  const client = await pool.connect();
  try {
    await refuseOldServer(client);
    await client.query('SELECT pg_advisory_lock($1)', [MIGRATION_LOCK]);
    try {
      return await applyPending(client, migrations);
    } finally {
      await client.query('SELECT pg_advisory_unlock($1)', [MIGRATION_LOCK]);
    }
  } finally {
    client.release();
  }
}

/** Reads `db/migrations/NNNN-name.sql`, in order. */
export function loadMigrations(): Migration[] {
  const folder = new URL('./migrations/', import.meta.url);
  return readdirSync(folder)
    .filter((file) => file.endsWith('.sql'))
    .sort()
    .map((file) => ({
      version: Number.parseInt(file, 10),
      name: file.slice(0, -'.sql'.length),
      sql: readFileSync(new URL(file, folder), 'utf8'),
    }));
}

/** Any number that no other program on the same database is likely to lock. */
const MIGRATION_LOCK = 7_678_001;

const OLDEST_SERVER = 150_000;

async function refuseOldServer(client: pg.PoolClient): Promise<void> {
  const result = await client.query<{ server_version_num: string; server_version: string }>(
    "SELECT current_setting('server_version_num') AS server_version_num, current_setting('server_version') AS server_version",
  );
  const row = result.rows[0];
  if (row !== undefined && Number(row.server_version_num) < OLDEST_SERVER) {
    throw new StartupError(`PostgreSQL 15 or later is needed; the database runs ${row.server_version}.`);
  }
}

async function applyPending(client: pg.PoolClient, migrations: Migration[]): Promise<MigrationResult> {
  await client.query(`CREATE TABLE IF NOT EXISTS schema_migrations (
    version integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())`);
  const done = await client.query<{ version: number }>('SELECT version FROM schema_migrations ORDER BY version');
  const current = done.rows.at(-1)?.version ?? 0;
  const newest = migrations.at(-1)?.version ?? 0;
  if (current > newest) {
    throw new StartupError(
      `The database's schema is version ${current}, newer than this program's ${newest}: start the newer Posthorn, or restore the backup made before the upgrade.`,
    );
  }
  const applied: number[] = [];
  for (const migration of migrations) {
    if (migration.version <= current) continue;
    await applyOne(client, migration);
    applied.push(migration.version);
  }
  return { applied, version: newest };
}

async function applyOne(client: pg.PoolClient, migration: Migration): Promise<void> {
  await client.query('BEGIN');
  try {
    await client.query(migration.sql);
    await client.query('INSERT INTO schema_migrations (version, name) VALUES ($1, $2)', [
      migration.version,
      migration.name,
    ]);
    await client.query('COMMIT');
  } catch (cause) {
    await client.query('ROLLBACK');
    throw new StartupError(`Migration ${migration.name} failed; nothing of it was kept.`, { cause });
  }
}
