import fc from 'fast-check';
import pg from 'pg';
import { afterAll, beforeAll, expect, inject, test } from 'vitest';
import { booleanArray, bytesArray, intArray, textArray, timestampArray, uuidArray } from './binary-arrays.ts';

let client: pg.Client;
beforeAll(async () => {
  client = new pg.Client({ connectionString: inject('postgresUrl') });
  await client.connect();
});
afterAll(() => client.end());

/** What PostgreSQL reads out of an encoded array. */
async function read(type: string, encoded: Buffer): Promise<unknown[]> {
  const result = await client.query(
    `SELECT value FROM unnest($1::${type}[]) WITH ORDINALITY AS u (value, at) ORDER BY at`,
    [encoded],
  );
  return result.rows.map((row) => row.value);
}

const text = fc.string({ unit: 'binary' }).filter((value) => value.isWellFormed() && !value.includes('\0'));
const maybe = <T>(values: fc.Arbitrary<T>) => fc.array(fc.option(values, { nil: null }), { maxLength: 20 });

async function arrivesAsSent<T>(
  type: string,
  encode: (values: T[]) => Buffer,
  values: fc.Arbitrary<T[]>,
): Promise<void> {
  const property = fc.asyncProperty(values, async (sent) => {
    expect(await read(type, encode(sent))).toEqual(sent);
  });
  await fc.assert(property, { numRuns: 50 });
}

test('uuids, integers and texts arrive as they were sent, nulls and none at all included', async () => {
  await arrivesAsSent('uuid', uuidArray, maybe(fc.uuid()));
  await arrivesAsSent('int4', intArray, maybe(fc.integer()));
  await arrivesAsSent('text', textArray, maybe(text));
});

test('what repeats the element before it arrives as what does not', async () => {
  const repeating = <T>(values: fc.Arbitrary<T>) =>
    fc
      .array(fc.tuple(fc.option(values, { nil: null }), fc.integer({ min: 1, max: 3 })), { maxLength: 8 })
      .map((runs) => runs.flatMap(([value, times]) => Array<T | null>(times).fill(value)));
  await arrivesAsSent('uuid', uuidArray, repeating(fc.uuid()));
  await arrivesAsSent('text', textArray, repeating(text));
});

test('texts longer than what is set aside for them arrive whole', async () => {
  const long = 'ü'.repeat(300_000);
  expect(await read('text', textArray(['a', long, null, long, 'é']))).toEqual(['a', long, null, long, 'é']);
});

test('bytes arrive to the byte', async () => {
  await fc.assert(
    fc.asyncProperty(maybe(fc.uint8Array({ maxLength: 300 })), async (values) => {
      const sent = values.map((value) => (value === null ? null : Buffer.from(value)));
      expect(await read('bytea', bytesArray(sent))).toEqual(sent);
    }),
    { numRuns: 50 },
  );
});

test('booleans arrive as they were sent', async () => {
  expect(await read('bool', booleanArray([true, false, true]))).toEqual([true, false, true]);
});

test('times arrive to the millisecond, before and after 2000, and Infinity is infinity', async () => {
  const times = [
    '1970-01-01T00:00:00.000Z',
    '1999-12-31T23:59:59.999Z',
    '2000-01-01T00:00:00.001Z',
    '2026-11-22T19:04:44.123Z',
    '9999-12-31T23:59:59.999Z',
  ];
  const sent = times.map((time) => Date.parse(time));
  expect(await read('timestamptz', timestampArray(sent))).toEqual(times.map((time) => new Date(time)));
  expect(await read('timestamptz', timestampArray([null, Number.POSITIVE_INFINITY]))).toEqual([
    null,
    Number.POSITIVE_INFINITY,
  ]);
});
