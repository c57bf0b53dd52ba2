import fc from 'fast-check';
import { expect, test } from 'vitest';
import { decodeCursor, encodeCursor } from './cursor.ts';

test('a cursor brings back the id that it was made of', () => {
  fc.assert(fc.property(fc.uuid({ version: 7 }), (id) => decodeCursor(encodeCursor(id)) === id));
});

test('a cursor needs no escaping in a query string', () => {
  fc.assert(fc.property(fc.uuid({ version: 7 }), (id) => /^[A-Za-z0-9_-]{22}$/.test(encodeCursor(id))));
});

test.each([
  '',
  'x',
  '01890a5d-ac96-774b-bcce-b302099a8057',
  'A'.repeat(21),
  'A'.repeat(23),
  '!'.repeat(22),
  `${'A'.repeat(21)}\n`,
  "' OR 1=1 --            ",
  '__proto__',
])('%j is refused as no cursor of this API', (text) => {
  expect(() => decodeCursor(text)).toThrow(expect.objectContaining({ status: 400, code: 'invalid_cursor' }));
});

test('a text of 100,000 characters is no cursor', () => {
  expect(() => decodeCursor('A'.repeat(100_000))).toThrow(expect.objectContaining({ status: 400 }));
});

test('what is no cursor is refused or is the place of an id, whatever it is', () => {
  fc.assert(
    fc.property(fc.string({ minLength: 22, maxLength: 22 }), (text) => {
      try {
        return /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(decodeCursor(text));
      } catch (error) {
        return (error as { status?: number }).status === 400;
      }
    }),
  );
});
