import { afterAll, beforeAll, expect, test } from 'vitest';
import { type DatabaseHandle, openDatabase } from '../db/pool.ts';
import { createLogger } from '../kernel/logger.ts';
import { createTestDatabase, type TestDatabase } from '../testing/database.ts';
import { purgeEventKeys } from './queries.ts';

let database: TestDatabase;
let handle: DatabaseHandle;
beforeAll(async () => {
  database = await createTestDatabase();
  handle = openDatabase({ connection: database.connection, logger: createLogger('silent') });
});
afterAll(async () => {
  await handle.close();
  await database.drop();
});

const NOW = Date.parse('2026-03-31T12:00:00Z');

test('keys whose time is over are forgotten, those of a busy hour some thousand a statement', async () => {
  const { pool, db } = handle;
  const insert = (kind: string, count: number, age: string) =>
    pool.query(
      `INSERT INTO event_keys (tenant_id, environment_id, kind, key, event_id, body_hash, created_at)
       SELECT gen_random_uuid(), gen_random_uuid(), $1, $3 || n, gen_random_uuid(), '', $4::timestamptz - $3::interval
       FROM generate_series(1, $2) n`,
      [kind, count, age, new Date(NOW)],
    );
  await insert('idempotency_key', 12_000, '25 hours');
  await insert('idempotency_key', 3, '23 hours');
  await insert('event_id', 10_000, '31 days');
  await insert('event_id', 4, '29 days');
  await pool.query(`
    CREATE FUNCTION refuse_many() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      IF (SELECT count(*) FROM removed) > 5000 THEN RAISE 'too many at once'; END IF;
      RETURN NULL;
    END $$;
    CREATE TRIGGER refuse_many AFTER DELETE ON event_keys REFERENCING OLD TABLE AS removed
      FOR EACH STATEMENT EXECUTE FUNCTION refuse_many()`);
  expect(await purgeEventKeys(db, NOW)).toBe(22_000);
  const left = await pool.query('SELECT kind, count(*) AS keys FROM event_keys GROUP BY kind ORDER BY kind');
  expect(left.rows).toEqual([
    { kind: 'event_id', keys: 4 },
    { kind: 'idempotency_key', keys: 3 },
  ]);
  expect(await purgeEventKeys(db, NOW)).toBe(0);
});
