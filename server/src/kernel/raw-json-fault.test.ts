import fc from 'fast-check';
import { expect, test } from 'vitest';
import { jsonTexts } from './raw-json.arbitrary.ts';
import { findJsonFault } from './raw-json-fault.ts';

const fault = (text: string) => findJsonFault(Buffer.from(text));

test.each([
  ['', 0],
  ['{', 1],
  ['{,', 1],
  ['{"a"', 4],
  ['{"a" 1', 5],
  ['{"a":}', 5],
  ['{"a":1,}', 7],
  ['{"a":1]', 6],
  ['[1,]', 3],
  ['[1 2]', 3],
  ['[1}', 2],
  ['1 1', 2],
  ['01', 1],
  ['-', 1],
  ['-a', 1],
  ['+1', 0],
  ['.5', 0],
  ['1.', 2],
  ['1.e', 2],
  ['1e', 2],
  ['1e+', 3],
  ['1e+x', 3],
  ['tru', 3],
  ['truth', 3],
  ['NaN', 0],
  ["'a'", 0],
  ['"a', 2],
  ['"a\n"', 2],
  ['"\\', 2],
  ['"\\x"', 2],
  ['"\\u12', 5],
  ['"\\u12g4"', 5],
  ['// a', 0],
  ['\u00a01', 0],
])('%j stops being JSON at byte %i', (text, at) => {
  expect(fault(text)).toBe(at);
});

test('a valid text has no fault, and each end cut off it ends too early', () => {
  fc.assert(
    fc.property(jsonTexts.object, fc.nat(), (text, cut) => {
      const bytes = Buffer.from(text);
      expect(findJsonFault(bytes)).toBeUndefined();
      const end = cut % bytes.length;
      expect(findJsonFault(bytes.subarray(0, end))).toBe(end);
    }),
  );
});

test('has a fault exactly when JSON.parse throws, where JSON.parse says so', () => {
  fc.assert(
    fc.property(
      jsonTexts.value,
      fc.nat(30),
      fc.constantFrom('{', ']', '"', '\\', ',', '0', '-', '.', 'e', 'n', '\u0007', '\ufeff'),
      (valid, at, insert) => {
        const text = (valid.slice(0, at) + insert + valid.slice(at)).toWellFormed();
        try {
          JSON.parse(text);
          expect(fault(text)).toBeUndefined();
        } catch (error) {
          const found = fault(text);
          expect(found).toBeDefined();
          const said = /JSON at position (\d+)/.exec((error as Error).message)?.[1];
          if (said !== undefined) expect(found).toBe(Buffer.byteLength(text.slice(0, Number(said))));
        }
      },
    ),
    { numRuns: 2000 },
  );
});
