import { Kysely, PostgresDialect } from 'kysely';
import pg from 'pg';
import type { Logger } from '../kernel/logger.ts';
import type { Tables } from './tables.ts';

export type Database = Kysely<Tables>;

/** Connections for the API's ordinary queries, and the same as a typed query builder. */
export interface DatabaseHandle {
  db: Database;
  pool: pg.Pool;
  close(): Promise<void>;
}

export interface PoolOptions {
  connection: pg.PoolConfig;
  /** Connections at most (10). */
  max?: number;
  logger: Logger;
}

/** Opens nothing yet: connections are made on first use. */
export function openDatabase(options: PoolOptions): DatabaseHandle {
  const pool = new pg.Pool({
    application_name: 'posthorn',
    ...options.connection,
    max: options.max ?? 10,
    types: { getTypeParser },
    connectionTimeoutMillis: 5_000,
    idleTimeoutMillis: 60_000,
    // An API query that scans too much is refused rather than left to hold a connection.
    statement_timeout: 15_000,
  });
  reportLost(pool, options.logger);
  const db = new Kysely<Tables>({ dialect: new PostgresDialect({ pool }) });
  // Not `db.destroy()`, which leaves the pool open when Kysely has run no query yet, as after a start that was refused.
  return { db, pool, close: () => pool.end() };
}

/** An idle connection that the server closes is replaced on next use; without a listener it would end the process. */
function reportLost(pool: pg.Pool, logger: Logger): void {
  pool.on('error', (error) => {
    if (!pool.ending) logger.warn({ code: errorCode(error) }, 'an idle database connection was lost');
  });
  // Nor may one that is lent out and just between two queries end it: the next of them fails with the reason.
  pool.on('connect', (client) => client.on('error', () => {}));
}

/** bigint as a number: counters here stay far under 2^53. */
export const getTypeParser: pg.CustomTypesConfig['getTypeParser'] = (oid, format) =>
  oid === pg.types.builtins.INT8 ? Number : pg.types.getTypeParser(oid, format as 'text');

/** A driver's or server's error code (`ECONNREFUSED`, `57P01`…), fit for a log: error texts may quote values. */
export function errorCode(error: unknown): string {
  if (error instanceof Error && 'code' in error && typeof error.code === 'string') return error.code;
  return error instanceof Error ? error.name : 'unknown';
}

/** Of each process: two for commits of events, two for attempts, and the rest for claims, leases and circuits. */
export const ENGINE_CONNECTIONS = 8;

/**
 * Connections for the batch statements of publishing and delivery.
 *
 * With fresh statistics the planner turns `UPDATE … FROM unnest($1)` into a hash join over a sequential scan, whose cost
 * grows with the table. These connections keep to index lookups, and to one generic plan a statement.
 */
export function openEnginePool(options: PoolOptions): pg.Pool {
  const pool = new pg.Pool({
    application_name: 'posthorn-engine',
    ...options.connection,
    max: options.max ?? ENGINE_CONNECTIONS,
    types: { getTypeParser },
    connectionTimeoutMillis: 5_000,
    idleTimeoutMillis: 0,
    statement_timeout: 15_000,
    // A connection whose server is gone without a word must not hold a batch for ever.
    query_timeout: 20_000,
    options:
      '-c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off -c plan_cache_mode=force_generic_plan',
  });
  reportLost(pool, options.logger);
  return pool;
}

/**
 * PostgreSQL's class 08 and 57P0x, a full disk (53100), a database that takes no connections (55000), and the socket
 * errors of a server that is gone or not yet there.
 */
export function isDatabaseGone(thrown: unknown): boolean {
  const code = errorCode(thrown);
  if (/^(08\w{3}|57P0\w|53\w{3}|55000|ECONNREFUSED|ECONNRESET|ENOENT|EPIPE|ETIMEDOUT)$/.test(code)) return true;
  return (
    thrown instanceof Error &&
    /Connection terminated|Query read timeout|timeout exceeded when trying to connect|Client has encountered a connection error/.test(
      thrown.message,
    )
  );
}
