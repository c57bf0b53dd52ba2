import fc from 'fast-check';
import pg from 'pg';
import { afterAll, beforeAll, expect, inject, test } from 'vitest';
import { RowArray } from './row-array.ts';

let client: pg.Client;
const array = new RowArray(7);
beforeAll(async () => {
  client = new pg.Client({ connectionString: inject('postgresUrl') });
  await client.connect();
  await client.query(
    'CREATE TYPE pg_temp.every_type AS (id uuid, n integer, yes boolean, at timestamptz, t text, b bytea, last integer)',
  );
});
afterAll(() => client.end());

interface Row {
  id: string | null;
  n: number | null;
  yes: boolean;
  at: Date | null;
  t: string | null;
  b: Buffer | null;
  last: number;
}

function encoded(rows: Row[]): Buffer {
  for (const row of rows) {
    array.row();
    array.uuid(row.id);
    array.int(row.n);
    array.boolean(row.yes);
    array.timestamp(row.at?.getTime() ?? null);
    array.text(row.t);
    array.bytes(row.b);
    array.int(row.last);
  }
  return array.finish();
}

/** What PostgreSQL reads out of an encoded array. */
async function read(rows: Row[]): Promise<Row[]> {
  const result = await client.query(
    'SELECT u.* FROM unnest($1::pg_temp.every_type[]) WITH ORDINALITY AS u (id, n, yes, at, t, b, last, position) ORDER BY position',
    [encoded(rows)],
  );
  return result.rows.map(({ position: _, ...row }) => row);
}

const text = fc
  .string({ unit: 'binary', maxLength: 60 })
  .filter((value) => value.isWellFormed() && !value.includes('\0'));
const maybe = <T>(values: fc.Arbitrary<T>) => fc.option(values, { nil: null });
const row = fc.record<Row>({
  id: maybe(fc.uuid()),
  n: maybe(fc.integer()),
  yes: fc.boolean(),
  at: maybe(fc.date({ min: new Date('0100-01-01'), max: new Date('9999-12-31'), noInvalidDate: true })),
  t: maybe(text),
  b: maybe(fc.uint8Array({ maxLength: 100 }).map((bytes) => Buffer.from(bytes))),
  last: fc.integer(),
});

test('rows of any values arrive as they were sent, none at all included', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(row, { maxLength: 20 }), async (rows) => {
      expect(await read(rows)).toEqual(rows);
    }),
    { numRuns: 200 },
  );
});

const EMPTY: Row = { id: null, n: null, yes: false, at: null, t: null, b: null, last: 1 };

test('what is larger than the room set aside arrives whole, and so does what comes after it', async () => {
  const long = [{ ...EMPTY, t: 'ü'.repeat(800_000) }, EMPTY, { ...EMPTY, b: Buffer.alloc(3_000_000, 7), last: 3 }];
  expect(await read(long)).toEqual(long);
  const many = Array.from({ length: 5_000 }, (_, last) => ({
    ...EMPTY,
    t: 'a text of some length, not by hand',
    last,
  }));
  expect(await read(many)).toEqual(many);
  expect(await read([])).toEqual([]);
});

test('an endless time is infinity', async () => {
  array.row();
  array.uuid(null);
  array.int(null);
  array.boolean(true);
  array.timestamp(Number.POSITIVE_INFINITY);
  array.text(null);
  array.bytes(null);
  array.int(0);
  const result = await client.query('SELECT at::text FROM unnest($1::pg_temp.every_type[])', [array.finish()]);
  expect(result.rows).toEqual([{ at: 'infinity' }]);
});
