import fc from 'fast-check';
import { expect, test } from 'vitest';
import { changedFields, hidden, hiddenUrl, jsonOf } from './changed-fields.ts';

const changes = (before: object | undefined, after: object | undefined) => {
  const texts = changedFields(before, after);
  return [texts.before, texts.after].map((text) => (text === null ? null : JSON.parse(text)));
};

test.each([
  [{ a: 1, b: 2 }, { a: 1, b: 3 }, { b: 2 }, { b: 3 }],
  [{ a: { x: 1, y: 2 } }, { a: { x: 1, y: 3, z: 4 } }, { a: { y: 2 } }, { a: { y: 3, z: 4 } }],
  [{ a: [1, 2] }, { a: [1] }, { a: [1, 2] }, { a: [1] }],
  [{ a: { x: 1 } }, { a: null }, { a: { x: 1 } }, { a: null }],
  [{ a: { x: 1 } }, { a: {} }, { a: { x: 1 } }, null],
  [{ a: 1 }, { a: 1 }, null, null],
  [undefined, { a: 1 }, null, { a: 1 }],
  [{ a: 1 }, undefined, { a: 1 }, null],
])('from %j to %j', (before, after, was, is) => {
  expect(changes(before, after)).toEqual([was, is]);
});

test('a hidden value is compared and not written', () => {
  const same = { a: hidden('x'), b: 1 };
  expect(changes(same, { a: hidden('x'), b: 1 })).toEqual([null, null]);
  expect(changes(same, { a: hidden('y'), b: 1 })).toEqual([{ a: '***' }, { a: '***' }]);
});

test('a URL is written without its user, query and fragment', () => {
  const url = 'https://me:pass@example.com:8443/path?token=x#part';
  expect(JSON.parse(jsonOf({ url: hiddenUrl(url) }))).toEqual({ url: 'https://example.com:8443/path?***' });
  expect(JSON.parse(jsonOf({ url: hiddenUrl('no url, p=secret') }))).toEqual({ url: '***' });
  expect(hiddenUrl(null)).toBeNull();
});

test('texts that are named like credentials are masked, however deep', () => {
  const fields = {
    password: 'a',
    list: [{ apiKey: 'b', 'X-Auth-Token': 'c' }],
    key_hint: 'd',
    secrets: ['e'],
    token: 5,
  };
  expect(JSON.parse(jsonOf(fields))).toEqual({
    password: '***',
    list: [{ apiKey: '***', 'X-Auth-Token': '***' }],
    key_hint: 'd',
    secrets: ['***'],
    token: 5,
  });
});

test('whatever the fields are, the text is JSON and bounded', () => {
  fc.assert(
    fc.property(fc.dictionary(fc.string(), fc.jsonValue()), fc.nat(50_000), (fields, size) => {
      const text = jsonOf({ ...fields, large: '\u{1f4ef}"\\'.repeat(size / 4), second: 'x'.repeat(size) });
      expect(text.length).toBeLessThan(20_000);
      JSON.parse(text);
    }),
  );
});
