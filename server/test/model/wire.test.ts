import pg from 'pg';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { openDatabase } from '../../src/db/pool.ts';
import { systemClock } from '../../src/kernel/clock.ts';
import { createLogger } from '../../src/kernel/logger.ts';
import { createTestDatabase, type TestDatabase } from '../../src/testing/database.ts';
import { Activity, ANY, Wire } from './wire.ts';

let database: TestDatabase;
let real: pg.Pool;
let wire: Wire;
beforeAll(async () => {
  database = await createTestDatabase();
  ({ pool: real } = openDatabase({ connection: database.connection, logger: createLogger('silent') }));
});
beforeEach(async () => {
  await real.query('DROP TABLE IF EXISTS done; CREATE TABLE done ()');
  wire = new Wire({ real, activity: new Activity(), clock: systemClock, onNotice: () => {} });
});
afterAll(async () => {
  await real.end();
  await database.drop();
});

const STATEMENT = { name: 'insert-done', text: 'INSERT INTO done DEFAULT VALUES' };
const timesDone = async () => (await real.query('SELECT FROM done')).rowCount;

/** The same to `pg` as what it makes of a statement by itself. */
const submittable = () => new pg.Query(STATEMENT as pg.QueryConfig);

const WAYS: [string, () => Promise<unknown>][] = [
  ['a statement', () => wire.pool.query(STATEMENT)],
  ['one that submits itself', () => wire.pool.query(submittable() as unknown as pg.QueryConfig)],
  [
    'one that submits itself, on a connection of its own',
    async () => {
      const client = await wire.pool.connect();
      try {
        await client.query(submittable() as unknown as pg.QueryConfig);
      } finally {
        client.release();
      }
    },
  ],
  [
    'one that submits itself and calls back',
    async () => {
      const client = await wire.pool.connect();
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      const query = submittable() as pg.Query & { callback: (error?: Error) => void };
      query.callback = (error) => (error ? reject(error) : resolve());
      // The wire's own promise fails as well.
      Promise.resolve(client.query(query)).catch(() => {});
      await promise.finally(() => client.release());
    },
  ],
];

test.each(WAYS)('%s passes, and fails once, before or after it was executed', async (_name, execute) => {
  await execute();
  expect(await timesDone()).toBe(1);
  wire.fail('insert-done', 'before');
  await expect(execute()).rejects.toMatchObject({ code: 'ECONNREFUSED' });
  expect(await timesDone()).toBe(1);
  wire.fail(ANY, 'after');
  await expect(execute()).rejects.toMatchObject({ code: 'ECONNRESET' });
  expect(await timesDone()).toBe(2);
  wire.fail('another', 'before');
  await execute();
  expect(await timesDone()).toBe(3);
});
