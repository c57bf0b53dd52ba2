import type pg from 'pg';

/**
 * Vacuums tables from which something was erased, so that their old rows are gone for PostgreSQL. Statistics hold values of
 * rows that were there: where a table has some, they are made anew, also those of a whole partitioned table. A table that
 * is not there any more is left out. Empty ends are not cut off, which would need the table's lock.
 *
 * `client` is in no transaction.
 */
export async function vacuumErased(
  client: pg.ClientBase,
  tables: readonly string[],
  skipLocked = false,
): Promise<void> {
  const skip = skipLocked ? ', SKIP_LOCKED' : '';
  const found = await client.query<{ name: string; parent: string | null }>(
    `SELECT c.oid::regclass::text AS name, i.inhparent::regclass::text AS parent
     FROM pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
     WHERE c.oid = ANY (SELECT to_regclass(name) FROM unnest($1::text[]) AS name)`,
    [tables],
  );
  for (const { name } of found.rows) {
    const analyze = (await hasStatistics(client, name)) ? 'ANALYZE, ' : '';
    await client.query(`VACUUM (${analyze}TRUNCATE false${skip}) ${name}`);
    if (analyze !== '') await clearOfEmpty(client, name);
  }
  const parents = new Set(found.rows.flatMap(({ parent }) => (parent === null ? [] : [parent])));
  for (const parent of parents) {
    // Nobody but people gathers these.
    if (await hasStatistics(client, parent)) await client.query(`ANALYZE ${parent}`);
  }
}

const OF_TABLE = `FROM pg_stats s JOIN pg_class c
  ON c.relname = s.tablename AND c.relnamespace::regnamespace::text = quote_ident(s.schemaname)
  WHERE c.oid = $1::regclass`;

async function hasStatistics(client: pg.ClientBase, table: string): Promise<boolean> {
  return (await client.query(`SELECT ${OF_TABLE} LIMIT 1`, [table])).rowCount === 1;
}

/** PostgreSQL makes no statistics of an empty table, and keeps the old ones. Before version 18 nothing clears them. */
async function clearOfEmpty(client: pg.ClientBase, table: string): Promise<void> {
  if ((await client.query(`SELECT FROM ${table} LIMIT 1`)).rowCount !== 0) return;
  const known = await client.query(`SELECT FROM pg_proc WHERE proname = 'pg_clear_attribute_stats'`);
  if (known.rowCount === 0) return;
  await client.query(
    `SELECT pg_clear_attribute_stats(s.schemaname::text, s.tablename::text, s.attname::text, s.inherited) ${OF_TABLE}`,
    [table],
  );
}
