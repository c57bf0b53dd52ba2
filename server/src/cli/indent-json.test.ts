import fc from 'fast-check';
import { expect, test } from 'vitest';
import { indentJson } from './indent-json.ts';

test('spellings of numbers, escapes, key order and repeated keys survive', () => {
  const json = '{"b":1.0,"a":[12345678901234567890,1e400],"a":"\\u0041\\"{,}","e":{},"f":[ ]}';
  expect(indentJson(json, 10_000)).toBe(
    [
      '{',
      '  "b": 1.0,',
      '  "a": [',
      '    12345678901234567890,',
      '    1e400',
      '  ],',
      '  "a": "\\u0041\\"{,}",',
      '  "e": {},',
      '  "f": []',
      '}',
    ].join('\n'),
  );
});

test('any JSON, however it was laid out before, means the same afterwards and looks like JSON.stringify', () => {
  fc.assert(
    fc.property(fc.json(), fc.constantFrom(undefined, 1, '\t', ' \r\n'), (json, indent) => {
      const value: unknown = JSON.parse(json);
      const given = JSON.stringify(value, null, indent);
      expect(indentJson(given, 1_000_000)).toBe(JSON.stringify(value, null, 2));
    }),
  );
});

test('a huge text is left soon after the limit', () => {
  expect(indentJson(JSON.stringify('x'.repeat(5_000_000)), 2048).length).toBeLessThan(4100);
  expect(indentJson('['.repeat(100_000) + ']'.repeat(100_000), 2048).length).toBeLessThan(4200);
});
