import { afterAll, beforeAll, expect, test } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../testing/database.ts';
import { runCli } from './program.ts';
import { scriptedTerminal } from './scripted-terminal.ts';

let database: TestDatabase;
beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(() => database.drop());

test('posthorn migrate makes the tables of an empty database, and says what it did, the second time nothing', async () => {
  const pool = database.openPool();
  await pool.query('DROP SCHEMA public CASCADE; CREATE SCHEMA public');
  const env = { DATABASE_URL: database.connectionString };
  const first = scriptedTerminal({ env });
  expect(await runCli(['migrate'], first)).toBe(0);
  expect(first.output()).toMatch(/^Applied versions 1, 2, .+; the schema is version \d+ \(.+\)\.\n$/);
  const { rows } = await pool.query("SELECT to_regclass('webhooks') AS webhooks, to_regclass('attempts') AS attempts");
  expect(rows).toEqual([{ webhooks: 'webhooks', attempts: 'attempts' }]);
  const second = scriptedTerminal({ env });
  expect(await runCli(['migrate'], second)).toBe(0);
  expect(second.output()).toMatch(/^The schema is up to date \(version \d+; .+\)\.\n$/);
  await pool.end();
});
