import fc from 'fast-check';
import { expect, test } from 'vitest';
import { isSameScalar, scalarsAt } from './json-values.ts';

test.each([
  ['{"customer":{"email":"a@b.c"}}', 'customer.email', ['"a@b.c"']],
  ['{"customer":{"e\\u006dail":"a@b.c"}}', 'customer.email', ['"a@b.c"']],
  ['{"customer":{"email":"1","email":"2"}}', 'customer.email', ['"1"', '"2"']],
  ['{"items":[{"id":1},{"id":2.0},{"no":3}]}', 'items.id', ['1', '2.0']],
  ['{"items":[{"id":1},{"id":2}]}', 'items.1.id', ['2']],
  ['{"tags":["a",["b",{"c":1}],"d"]}', 'tags', ['"a"', '"b"', '"d"']],
  ['{"1":{"a":true}}', '1.a', ['true']],
  ['[{"a":null},{"a":false}]', 'a', ['null', 'false']],
  ['{"a":{"b":1}}', 'a', []],
  ['{"a":"x\\"}{","b":[1,"]"],"c":2}', 'c', ['2']],
  ['{"a":{"x":[{}, []]},"b": 7 }', 'b', ['7']],
  ['{"__proto__":{"a":1}}', '__proto__.a', ['1']],
  ['"text"', 'a', []],
  ['{}', 'a', []],
])('in %s the values at %s are %j', (text, path, values) => {
  expect(scalarsAt(text, path.split('.'))).toEqual(values);
});

test('whatever the JSON is, each scalar member is found at its path', () => {
  const name = fc.string({ minLength: 1 }).filter((text) => !/^\d+$/.test(text));
  const scalar = fc.oneof(fc.string(), fc.double({ noNaN: true, noDefaultInfinity: true }), fc.boolean());
  fc.assert(
    fc.property(name, name, scalar, fc.jsonValue(), fc.boolean(), (outer, inner, value, other, spaced) => {
      const decoy = `${inner}x`;
      const text = JSON.stringify({ decoy: other, [outer]: { [decoy]: other, [inner]: value } }, null, spaced ? 2 : 0);
      fc.pre(outer !== 'decoy');
      expect(scalarsAt(text, [outer, inner])).toEqual([JSON.stringify(value)]);
    }),
  );
});

test.each([
  ['"a@b.c"', '"a\\u0040b.c"', true],
  ['"é"', '"\\u00e9"', true],
  ['"\\/"', '"/"', true],
  ['"1"', '1', false],
  ['1', '1.0', true],
  ['1', '10e-1', true],
  ['100', '1E2', true],
  ['0', '-0.0', true],
  ['9007199254740993', '9007199254740992', false],
  ['9007199254740993', '9007199254740993.000', true],
  ['1e400', '10e399', true],
  ['1e99999999999999999999', '1e99999999999999999998', false],
  ['-1', '1', false],
  ['true', 'true', true],
  ['true', '"true"', false],
  ['null', '0', false],
])('%s and %s are the same value: %s', (one, other, same) => {
  expect([isSameScalar(one, other), isSameScalar(other, one)]).toEqual([same, same]);
});
