import pg from 'pg';
import { afterAll, beforeAll, expect, inject, test } from 'vitest';
import { CopyRows } from './copy-rows.ts';
import { runPipeline, type Step } from './pipeline.ts';

let pool: pg.Pool;
beforeAll(async () => {
  // A temporary table is one connection's own.
  pool = new pg.Pool({ connectionString: inject('postgresUrl'), max: 1 });
  await createTable();
});
afterAll(() => pool.end());

const createTable = () =>
  pool.query(
    'CREATE TEMPORARY TABLE every_type (id uuid, n integer, s smallint, yes boolean, at timestamptz, t text, b bytea)',
  );

const COPY = { name: 'copy-every-type', text: 'COPY every_type FROM STDIN (FORMAT binary)' };
const SET_N = { name: 'set-n', text: 'UPDATE every_type SET n = $1::int WHERE t = $2::text' };
const ID = '0190a5b2-7c3d-7e4f-8a9b-0c1d2e3f4a5b';

function rows(...texts: (string | null)[]): Buffer {
  const copy = new CopyRows(7);
  for (const text of texts) {
    copy.row();
    copy.uuid(text === null ? null : ID);
    copy.int(-2);
    copy.smallint(-100);
    copy.boolean(true);
    copy.timestamp(Date.UTC(2026, 0, 31));
    copy.text(text);
    copy.bytes(text === null ? null : Buffer.from(text));
  }
  return copy.finish();
}

const stored = async () => (await pool.query('SELECT * FROM every_type ORDER BY t')).rows;
const texts = async () => (await stored()).map(({ t }) => t);
const values = (t: string, n = -2) => ({
  id: ID,
  n,
  s: -100,
  yes: true,
  at: new Date('2026-01-31T00:00:00Z'),
  t,
  b: Buffer.from(t),
});

test('rows are copied as they were written, between other statements', async () => {
  const long = 'ü'.repeat(1_500_000);
  await runPipeline(pool, 'test', [
    { ...COPY, rows: rows('a', long) },
    { ...COPY, rows: rows() },
    { ...SET_N, values: ['7', 'a'] },
  ]);
  await runPipeline(pool, 'test', [{ ...COPY, rows: rows(null) }]);
  expect(await stored()).toEqual([values('a', 7), values(long), { ...values(''), id: null, t: null, b: null }]);
});

test.for([
  ['a parameter that is none', [{ ...SET_N, values: ['seven', 'a'] }]],
  ['a text that is none', [{ name: 'nonsense', text: 'nonsense' }]],
  ['rows that are none', [{ ...COPY, rows: Buffer.concat([Buffer.from('d\0\0\0\x05x'), rows().subarray(-5)]) }]],
  [
    'rows of other columns',
    [
      { ...COPY, rows: new CopyRows(7).finish() },
      { ...COPY, rows: rowsOfOneColumn() },
    ],
  ],
] as [string, Step[]][])('%s undoes what came before it, and leaves nothing of what comes after', async ([, bad]) => {
  const failing = runPipeline(pool, 'test', [
    { ...COPY, rows: rows('before') },
    ...bad,
    { ...COPY, rows: rows('after') },
  ]);
  await expect(failing).rejects.toThrow();
  // The pool has closed that connection, and the temporary table with it.
  await createTable();
  expect(await texts()).toEqual([]);
  await runPipeline(pool, 'test', [{ ...COPY, rows: rows('next') }]);
  expect(await texts()).toEqual(['next']);
});

test('within a transaction that was begun, it is a part of that', async () => {
  await pool.query('TRUNCATE every_type');
  const client = await pool.connect();
  await client.query('BEGIN');
  await runPipeline(client, 'test', [{ ...COPY, rows: rows('a') }]);
  await client.query('ROLLBACK');
  client.release();
  expect(await texts()).toEqual([]);
});

function rowsOfOneColumn(): Buffer {
  const copy = new CopyRows(1);
  copy.row();
  copy.int(1);
  return copy.finish();
}
