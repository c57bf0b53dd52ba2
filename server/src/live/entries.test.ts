import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type DatabaseHandle, openDatabase } from '../db/pool.ts';
import { createIdSource } from '../kernel/ids.ts';
import { createLogger } from '../kernel/logger.ts';
import { createTestDatabase, type TestDatabase } from '../testing/database.ts';
import { PURGED_AT_ONCE, purgeStreamEntries, RESUMABLE_MS } from './entries.ts';

const newId = createIdSource();
let database: TestDatabase;
let client: pg.Client;
let handle: DatabaseHandle;

beforeAll(async () => {
  database = await createTestDatabase();
  client = new pg.Client(database.connection);
  await client.connect();
  handle = openDatabase({ connection: database.connection, logger: createLogger('silent') });
});

afterAll(async () => {
  await handle.close();
  await client.end();
  await database.drop();
});

/** Entries of an environment of its own, written now. */
async function addEntries(count: number): Promise<string> {
  const [tenantId, environmentId] = [newId(), newId()];
  await client.query(
    "INSERT INTO tenants (id, slug, name, created_at, updated_at) VALUES ($1, $2, 'T', now(), now())",
    [tenantId, tenantId],
  );
  await client.query(
    "INSERT INTO environments (tenant_id, id, name, created_at) VALUES ($1, $2, 'production', now())",
    [tenantId, environmentId],
  );
  await client.query(
    `INSERT INTO stream_entries SELECT $1, $2, stream_entry_id(), 'delivery.held', NULL, true, '{}'
     FROM generate_series(1, $3::int)`,
    [tenantId, environmentId, count],
  );
  return environmentId;
}

test('what no stream can be resumed from goes, of all environments, and no statement removes very many', async () => {
  await client.query(`
    CREATE FUNCTION refuse_many() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      IF (SELECT count(*) FROM gone) > ${PURGED_AT_ONCE} THEN RAISE 'too many at once'; END IF;
      RETURN NULL;
    END $$;
    CREATE TRIGGER refuse_many AFTER DELETE ON stream_entries REFERENCING OLD TABLE AS gone
      FOR EACH STATEMENT EXECUTE FUNCTION refuse_many()`);
  await addEntries(2 * PURGED_AT_ONCE + 1);
  await addEntries(1);
  // `stream_entry_id` rounds to a millisecond, up or down.
  const nextDayMs = Date.now() + RESUMABLE_MS + 5;
  await expect.poll(() => Date.now()).toBeGreaterThan(nextDayMs - RESUMABLE_MS + 1);
  const kept = await addEntries(3);
  await purgeStreamEntries(handle.db, nextDayMs);
  const left = await client.query('SELECT environment_id, count(*)::int AS n FROM stream_entries GROUP BY 1');
  expect(left.rows).toEqual([{ environment_id: kept, n: 3 }]);
});
