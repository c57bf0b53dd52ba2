import type pg from 'pg';

/**
 * The database's `now()` as something that a test sets. Heartbeats, paces and circuits go by the database's clock, so a
 * test that moves the nodes' clock has to move this one with it.
 *
 * A function of the same name stands before PostgreSQL's own in the search path of this one database. It reads a
 * sequence, which is seen at once by every session.
 */
export async function installDatabaseTime(client: pg.ClientBase): Promise<void> {
  await client.query(`
    CREATE SCHEMA model;
    CREATE SEQUENCE model.milliseconds AS bigint;
    CREATE FUNCTION model.now() RETURNS timestamptz LANGUAGE sql STABLE
      AS 'SELECT to_timestamp(last_value / 1000.0) FROM model.milliseconds';
    DO $$ BEGIN
      EXECUTE format('ALTER DATABASE %I SET search_path = model, public, pg_catalog', current_database());
    END $$;`);
}

/** Sets what `now()` says in every session opened after `installDatabaseTime`. */
export async function setDatabaseTime(pool: pg.Pool, nowMs: number): Promise<void> {
  await pool.query({ name: 'set-time', text: `SELECT setval('model.milliseconds', $1)`, values: [nowMs] });
}
