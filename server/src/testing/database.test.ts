import pg from 'pg';
import { afterAll, beforeAll, expect, inject, test } from 'vitest';
import { createTestDatabase, type TestDatabase } from './database.ts';

let first: TestDatabase;
let second: TestDatabase;

beforeAll(async () => {
  [first, second] = await Promise.all([createTestDatabase(), createTestDatabase()]);
});

afterAll(async () => {
  await first.drop();
  await second.drop();
});

async function query(connectionString: string, sql: string): Promise<Record<string, unknown>[]> {
  const client = new pg.Client({ connectionString });
  await client.connect();
  try {
    return (await client.query(sql)).rows;
  } finally {
    await client.end();
  }
}

test('a test database has the schema of the newest migration', async () => {
  const rows = await query(first.connectionString, 'SELECT max(version) AS version FROM schema_migrations');
  expect(rows[0]?.version).toBeGreaterThan(0);
});

test('what one test file writes is not in the database of another', async () => {
  await query(first.connectionString, 'CREATE TABLE mine (id integer)');
  const rows = await query(second.connectionString, "SELECT to_regclass('mine') AS found");
  expect(rows[0]?.found).toBeNull();
});

test('drop removes the database while a session is still open in it', async () => {
  const third = await createTestDatabase();
  const client = new pg.Client(third.connection);
  const ended = new Promise((resolve) => client.on('error', resolve));
  await client.connect();
  const { rows } = await client.query<{ name: string }>('SELECT current_database() AS name');
  await third.drop();
  await ended;
  const left = await query(inject('postgresUrl'), `SELECT FROM pg_database WHERE datname = '${rows[0]?.name}'`);
  expect(left).toEqual([]);
});
