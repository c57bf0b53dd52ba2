import fc from 'fast-check';
import { expect, test } from 'vitest';
import { compactJson } from './compact-json.ts';

const compact = (text: string) => compactJson(Buffer.from(text)).toString();

test('white space between tokens goes, and everything else stays as it was written', () => {
  expect(compact('{ "b" : 1.0 ,\r\n\t"a" : [ 12345678901234567890 , 1e400 ] }')).toBe(
    '{"b":1.0,"a":[12345678901234567890,1e400]}',
  );
  expect(compact('{"a":" x \\" { y ","a": "\\u2028\\\\" }')).toBe('{"a":" x \\" { y ","a":"\\u2028\\\\"}');
});

test('a text without white space is given back without being copied', () => {
  const text = Buffer.from('{"a":"b c"}');
  expect(compactJson(text)).toBe(text);
});

test('of any value written with any indentation it makes what JSON.stringify writes without', () => {
  fc.assert(
    fc.property(fc.jsonValue(), fc.integer({ min: 0, max: 8 }), (value, indent) => {
      expect(compact(JSON.stringify(value, null, indent))).toBe(JSON.stringify(value));
    }),
  );
});
