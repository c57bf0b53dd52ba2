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
        EXISTS (SELECT FROM pg_trigger
          WHERE tgrelid = c.table_name::regclass AND tgfoid = 'hold_sealing_key'::regproc
            AND tgargs = convert_to(c.column_name, 'UTF8') || '\\x00') AS guarded
      FROM information_schema.columns c
      WHERE c.table_schema = 'public' AND c.column_name LIKE '%\\_box'`);
    const listed = Object.values(SEALED_COLUMNS).map(({ table, column, key }) => ({
      table,
      column,
      key: key.map(({ name, type }) => [name, type]),
      guarded: true,
    }));
    const place = (each: { table: string; column: string }) => `${each.table}.${each.column}`;
    const inOrder = (a: (typeof listed)[number], b: (typeof listed)[number]) => (place(a) < place(b) ? -1 : 1);
    expect(columns.rows.toSorted(inOrder)).toEqual(listed.toSorted(inOrder));
  } finally {
    await client.end();
    await database.drop();
  }
});

test('places of different columns, tables and rows have different names', () => {
  const { webhookHeaders, webhookAuth, webhookSecret, idempotentResponse, erasedValue } = SEALED_COLUMNS;
  const names = [
    sealedPlace(webhookHeaders, 't', 'a'),
    sealedPlace(webhookHeaders, 't', 'b'),
    sealedPlace(webhookHeaders, 'u', 'a'),
    sealedPlace(webhookAuth, 't', 'a'),
    sealedPlace({ ...webhookHeaders, label: 'secret' }, 't', 'a'),
    sealedPlace(webhookSecret, 't', 'a', 'b'),
    sealedPlace(idempotentResponse, 't', 'a', 'b'),
    sealedPlace(idempotentResponse, 't', 'a', 'b/response'),
    sealedPlace(idempotentResponse, 't', 'a', ''),
    sealedPlace(erasedValue, 't', 'a', 'b'),
  ];
  expect(new Set(names).size).toBe(names.length);
});
