import { Command } from 'commander';
import pg from 'pg';
import { readConfig } from '../config.ts';
import { type MigrationResult, migrate } from '../db/migrate.ts';
import { createLogger } from '../kernel/logger.ts';
import { openDatabaseOnly } from './database-only.ts';
import type { Terminal } from './terminal.ts';

/** `posthorn migrate`: the schema step of an upgrade, apart from the start. */
export function migrateCommand(terminal: Terminal): Command {
  return new Command('migrate')
    .description('bring the database to the schema of this version, and end')
    .addHelpText(
      'after',
      `
"dev" and "serve" do this by themselves when they start. With DATABASE_URL it works on that database, else on the
embedded one, which no running Posthorn may be using.

Example:
  $ DATABASE_URL=postgresql://posthorn@db/posthorn npx posthorn migrate`,
    )
    .action(async () => {
      const config = readConfig('dev', terminal.env);
      const storage = await openDatabaseOnly(config, createLogger(config.logLevel));
      try {
        terminal.print(describeResult(await migrateAt(storage.connection), storage.description));
      } finally {
        await storage.close();
      }
    });
}

/** No statement timeout here: a migration of a large table takes as long as it takes. */
async function migrateAt(connection: pg.PoolConfig): Promise<MigrationResult> {
  const pool = new pg.Pool({ ...connection, max: 1, application_name: 'posthorn-migrate' });
  pool.on('error', () => {
    // The query under way fails with the same reason.
  });
  try {
    return await migrate(pool);
  } finally {
    await pool.end();
  }
}

function describeResult(result: MigrationResult, database: string): string {
  const { applied, version } = result;
  return applied.length === 0
    ? `The schema is up to date (version ${version}; ${database}).`
    : `Applied ${applied.length === 1 ? 'version' : 'versions'} ${applied.join(', ')}; the schema is version ${version} (${database}).`;
}
