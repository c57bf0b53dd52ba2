import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { jsonTexts } from '../kernel/raw-json.arbitrary.ts';
import { respell } from './respell.ts';

const respelled = (text: string) => respell(Buffer.from(text)).toString();

test.each([
  ['2.0', '2'],
  ['-0', '0'],
  ['1E+2', '100'],
  ['1e21', '1e+21'],
  ['100000000000000000000000', '1e+23'],
  ['0.50e-07', '5e-8'],
  ['12.50', '12.5'],
  ['0.1', '0.1'],
  ['0.10000000000000001', '0.1'],
  ['9007199254740992', '9007199254740992'],
  ['"\\u00e9\\/\\u0041"', '"é/A"'],
  ['"\\ud83d\\ude00 \\ud83d"', '"😀 \\ud83d"'],
  ['"\\u2028\u2028\\u007f"', '"\u2028\u2028\u007f"'],
  ['"a\\\\"', '"a\\\\"'],
  ['"\\u005c\\u0022\\t\\u0009"', '"\\\\\\"\\t\\t"'],
  ['{"b":1.0,"10":2,"9":[],"a":{},"9":3}', '{"9":3,"10":2,"b":1,"a":{}}'],
  ['{"4294967295":1,"4294967294":2,"01":3,"-1":4}', '{"4294967294":2,"4294967295":1,"01":3,"-1":4}'],
  ['{"a":1,"\\u0061":2.0,"__proto__":{"a":1.0}}', '{"a":2,"__proto__":{"a":1}}'],
  ['{"\\\\":1.0,"\\"":2}', '{"\\\\":1,"\\"":2}'],
  [' { "a" : [ 1.0 , true , false , null ] } ', '{"a":[1,true,false,null]}'],
])('%s is sent as %s', (text, expected) => {
  expect(respelled(text)).toBe(expected);
});

describe('a text stays as it is', () => {
  test.each([
    '9007199254740993',
    '12345678901234567890',
    '9007199254740993.0',
    '1e400',
    '-1e400',
    '1e-400',
    '0.1000000000000000055511151231257827',
    `1${'0'.repeat(500)}`,
  ])('when %s in it would be another number', (number) => {
    const text = `{"a":2.0,"b":[{"c":${number}}]}`;
    expect(respelled(text)).toBe(text);
  });

  test('when there is nothing to do, and then to the buffer', () => {
    const body = Buffer.from('{"a":[1,"é\\n"],"b":{}}');
    expect(respell(body)).toBe(body);
  });
});

const NUMBERS_THAT_CHANGE = /1e400|12345678901234567890/;

test('is what JSON.stringify makes of what JSON.parse reads, for any spelling', () => {
  fc.assert(
    fc.property(
      jsonTexts.value.filter((text) => !NUMBERS_THAT_CHANGE.test(text)),
      (text) => {
        expect(respelled(text)).toBe(JSON.stringify(JSON.parse(text)));
      },
    ),
    { numRuns: 2_000 },
  );
});

test('of any double as JavaScript, Python and others may print it, is the same double', () => {
  fc.assert(
    fc.property(fc.double({ noNaN: true, noDefaultInfinity: true }), (value) => {
      for (const text of [String(value), value.toExponential(16), value.toPrecision(17)]) {
        expect(Number(respelled(`[${text}]`).slice(1, -1))).toBe(value === 0 ? 0 : value);
      }
    }),
  );
});

test('takes no longer than its length, whatever the text is', () => {
  for (const text of [
    `[${'9'.repeat(300_000)},2.0]`,
    `[${'1'.repeat(300)}.${'0'.repeat(300_000)}1,2.0]`,
    `{"a":"${'\\u0041'.repeat(100_000)}","b":2.0}`,
    `{${Array.from({ length: 20_000 }, (_, at) => `"${20_000 - at}":1.0`).join()}}`,
    `${'[{"a":'.repeat(500)}1.0${'}]'.repeat(500)}`,
  ]) {
    const startedAt = performance.now();
    respelled(text);
    expect(performance.now() - startedAt).toBeLessThan(2_000);
  }
});
