import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openDatabase } from '../db/pool.ts';
import { createLogger } from '../kernel/logger.ts';
import { createTestDatabase, type TestDatabase } from '../testing/database.ts';
import { giveUpDeadNode } from './dead-node.ts';

let database: TestDatabase;
let pool: pg.Pool;

beforeAll(async () => {
  database = await createTestDatabase();
  ({ pool } = openDatabase({ connection: database.connection, max: 2, logger: createLogger('silent') }));
});
afterAll(async () => {
  await pool.end();
  await database.drop();
});

async function join(): Promise<number> {
  const { rows } = await pool.query<{ id: number }>(
    `INSERT INTO nodes (started_at, heartbeat_at, oldest_leased_id)
     VALUES (now(), now(), '00000000-0000-0000-0000-000000000000') RETURNING id`,
  );
  return rows[0]?.id ?? 0;
}

const silentNodes = async () =>
  (await pool.query<{ id: number }>("SELECT id FROM nodes WHERE heartbeat_at < now() - interval '1 minute'")).rows;

test('the dead node alone is given up, and none of its sessions can commit any more', async () => {
  const [dead] = [await join(), await join()];
  const session = new pg.Client({ ...database.connection, application_name: 'posthorn dead' });
  const other = new pg.Client({ ...database.connection, application_name: 'posthorn living' });
  const lost = new Promise((resolve) => session.on('error', resolve));
  await Promise.all([session.connect(), other.connect()]);
  await session.query('BEGIN');
  await session.query("INSERT INTO encryption_check (sealed) VALUES ('\\x00')");

  await giveUpDeadNode(pool, dead, 'posthorn dead');
  expect(await silentNodes()).toEqual([{ id: dead }]);
  expect((await pool.query('SELECT FROM encryption_check')).rowCount).toBe(0);
  expect((await pool.query("SELECT FROM pg_stat_activity WHERE application_name = 'posthorn dead'")).rowCount).toBe(0);
  await lost;
  await expect(session.query('COMMIT')).rejects.toThrow();
  expect((await other.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
  await other.end();
});

test('a node that signed off itself stays away', async () => {
  const node = await join();
  await pool.query('DELETE FROM nodes WHERE id = $1', [node]);
  await giveUpDeadNode(pool, node, 'posthorn gone');
  expect((await pool.query('SELECT FROM nodes WHERE id = $1', [node])).rowCount).toBe(0);
});
