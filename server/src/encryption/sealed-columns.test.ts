import pg from 'pg';
import { expect, test } from 'vitest';
import { createTestDatabase } from '../testing/database.ts';
import { SEALED_COLUMNS, sealedPlace } from './sealed-columns.ts';

test('every sealed column of the schema is listed with its primary key, and guarded by the trigger', async () => {
  const database = await createTestDatabase();
  const client = new pg.Client(database.connection);
  await client.connect();
  try {
    const columns = await client.query(`
      SELECT c.table_name AS "table", c.column_name AS column,
        (SELECT array_agg(ARRAY[a.attname::text, format_type(a.atttypid, NULL)] ORDER BY k.position)
         FROM pg_index i, unnest(i.indkey) WITH ORDINALITY AS k (number, position), pg_attribute a
         WHERE i.indrelid = c.table_name::regclass AND i.indisprimary
           AND a.attrelid = i.indrelid AND a.attnum = k.number) AS key,
        EXISTS (SELECT FROM pg_trigger WHERE tgrelid = c.table_name::regclass AND tgname = 'hold_sealing_key') AS guarded
      FROM information_schema.columns c
      WHERE c.table_schema = 'public' AND c.column_name LIKE '%\\_box'`);
    const listed = Object.values(SEALED_COLUMNS).map(({ table, column, key }) => ({
      table,
      column,
      key: key.map(({ name, type }) => [name, type]),
      guarded: true,
    }));
    expect(columns.rows.toSorted((a, b) => (a.table < b.table ? -1 : 1))).toEqual(
      listed.toSorted((a, b) => (a.table < b.table ? -1 : 1)),
    );
  } finally {
    await client.end();
    await database.drop();
  }
});

test('places of different columns, tables and rows have different names', () => {
  const { webhookHeaders, webhookSecret, idempotentResponse, erasedValue } = SEALED_COLUMNS;
  const names = [
    sealedPlace(webhookHeaders, 't', 'a'),
    sealedPlace(webhookHeaders, 't', 'b'),
    sealedPlace(webhookHeaders, 'u', 'a'),
    sealedPlace({ ...webhookHeaders, label: 'secret' }, 't', 'a'),
    sealedPlace(webhookSecret, 't', 'a', 'b'),
    sealedPlace(idempotentResponse, 't', 'a', 'b'),
    sealedPlace(idempotentResponse, 't', 'a', 'b/response'),
    sealedPlace(idempotentResponse, 't', 'a', ''),
    sealedPlace(erasedValue, 't', 'a', 'b'),
  ];
  expect(new Set(names).size).toBe(names.length);
});
