import type pg from 'pg';
import { firstIdAt, timeOfId } from '../kernel/ids.ts';

export const DAY_MS = 86_400_000;

/** Days ahead for which partitions stand ready: the program may be unable to make new ones for so long. */
const DAYS_AHEAD = 3;

/**
 * Tables partitioned by day on their id.
 *
 * Updates of deliveries want free room on the page to stay heap-only, and each delivery leaves one dead row version
 * behind, for which there is room; only what leaves many more is worth a vacuum. Rows of events and attempts are never changed
 * and go with their day. A day's statistics stay near enough until it has a few times as many rows: what is asked of it
 * differs by tenant and webhook, not by hour. At the usual settings all this took a tenth of PostgreSQL's time (measured).
 */
const PARTITIONED_TABLES = [
  { table: 'events', settings: { autovacuum_vacuum_insert_threshold: -1, autovacuum_analyze_scale_factor: 3 } },
  {
    table: 'deliveries',
    settings: {
      fillfactor: 45,
      autovacuum_vacuum_threshold: 1_000_000,
      autovacuum_vacuum_scale_factor: 1.5,
      autovacuum_vacuum_insert_threshold: -1,
      autovacuum_analyze_scale_factor: 3,
    },
  },
  { table: 'attempts', settings: { autovacuum_vacuum_insert_threshold: -1, autovacuum_analyze_scale_factor: 3 } },
] as const;

/**
 * Makes the daily partitions from yesterday (ids of a clock that is a little behind) to three days ahead, where they do
 * not stand yet. Safe to run on several nodes at once.
 */
export async function ensurePartitions(pool: pg.Pool, nowMs: number): Promise<void> {
  const today = startOfDay(nowMs);
  const client = await pool.connect();
  try {
    await client.query('SELECT pg_advisory_lock($1)', [PARTITION_LOCK]);
    try {
      for (let day = -1; day <= DAYS_AHEAD; day++) {
        for (const { table, settings } of PARTITIONED_TABLES) {
          await client.query(createPartition(table, settings, today + day * DAY_MS));
        }
      }
    } finally {
      await client.query('SELECT pg_advisory_unlock($1)', [PARTITION_LOCK]);
    }
  } finally {
    client.release();
  }
}

const PARTITION_LOCK = 7_678_002;

/** A table partitioned by day. */
export type PartitionedTable = (typeof PARTITIONED_TABLES)[number]['table'];

/**
 * The partition that has the rows with these ids, when all of them are of one day; else the table itself. A statement
 * that names the partition opens no other one, and its plan cannot be one for several.
 */
export function partitionOf(table: PartitionedTable, ids: readonly string[]): string {
  const [first] = ids;
  if (first === undefined) return table;
  const dayMs = startOfDay(timeOfId(first));
  const from = firstIdAt(dayMs);
  const to = firstIdAt(dayMs + DAY_MS);
  // UUIDs in lower case sort as texts like their values.
  return ids.every((id) => id >= from && id < to) ? partitionName(table, dayMs) : table;
}

/** One day of a table. */
export interface DayPartition {
  table: PartitionedTable;
  /** Of the table that has the day's rows. */
  name: string;
  /** When the day began (UTC). */
  dayMs: number;
  /** `leaving`: a drop that was cut short took it out of its table half way; `left`: all the way. */
  state: 'attached' | 'leaving' | 'left';
}

/** All days of all tables, the oldest first. */
export async function listPartitions(client: pg.ClientBase): Promise<DayPartition[]> {
  const found = await client.query<{ name: string; leaving: boolean | null }>(
    `SELECT c.relname AS name, i.inhdetachpending AS leaving
     FROM pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
     WHERE c.relkind = 'r' AND c.relname ~ '^(events|deliveries|attempts)_[0-9]{8}$'
       AND c.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'events'::regclass)
     ORDER BY right(c.relname, 8), c.relname`,
  );
  return found.rows.map(({ name, leaving }) => {
    const at = name.lastIndexOf('_');
    const day = name.slice(at + 1);
    return {
      table: name.slice(0, at) as PartitionedTable,
      name,
      dayMs: Date.parse(`${day.slice(0, 4)}-${day.slice(4, 6)}-${day.slice(6)}T00:00:00Z`),
      state: leaving === null ? 'left' : leaving ? 'leaving' : 'attached',
    };
  });
}

/**
 * Drops a day with all of its rows. No statement waits for it: the partition is taken out of its table concurrently,
 * which waits for the transactions that may still see it and holds up none, and dropped when nobody can name it any more.
 * (A plain DROP takes the whole table's lock: while it waits for one long query, all deliveries wait behind it.)
 *
 * Cut short at any point it can be done again: `listPartitions` tells what is half done. `client` is in no transaction.
 */
export async function dropPartition(client: pg.ClientBase, { table, name, state }: DayPartition): Promise<void> {
  if (state === 'attached') await client.query(`ALTER TABLE ${table} DETACH PARTITION ${name} CONCURRENTLY`);
  if (state === 'leaving') await client.query(`ALTER TABLE ${table} DETACH PARTITION ${name} FINALIZE`);
  await client.query(`DROP TABLE ${name}`);
}

function createPartition(table: string, settings: object, dayMs: number): string {
  const parameters = Object.entries(settings).map(([name, value]) => `${name} = ${value}`);
  return `CREATE TABLE IF NOT EXISTS ${partitionName(table, dayMs)} PARTITION OF ${table}
    FOR VALUES FROM ('${firstIdAt(dayMs)}') TO ('${firstIdAt(dayMs + DAY_MS)}') WITH (${parameters.join(', ')})`;
}

function partitionName(table: string, dayMs: number): string {
  return `${table}_${new Date(dayMs).toISOString().slice(0, 10).replaceAll('-', '')}`;
}

function startOfDay(timeMs: number): number {
  return Math.floor(timeMs / DAY_MS) * DAY_MS;
}
