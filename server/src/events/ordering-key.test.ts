import { expect, test } from 'vitest';
import { orderingKeyOf } from './ordering-key.ts';

const key = (data: unknown, path: string[] | null, orderingKey: string | null = null) =>
  orderingKeyOf({ dataValue: data, orderingKey }, path);

test('the key is the value at the path, also within lists', () => {
  expect(key({ customer: { id: 'c1' } }, ['customer', 'id'], 'other')).toBe('c1');
  expect(key({ items: [{ id: 7 }] }, ['items', '0', 'id'])).toBe('7');
  expect(key({ a: true }, ['a'])).toBe('true');
  expect(key({ a: { b: 1 } }, ['a'])).toBe('{"b":1}');
});

test('without a value the event’s own key counts, and without both all are one sequence', () => {
  expect(key({ customer: {} }, ['customer', 'id'], 'own')).toBe('own');
  expect(key({ customer: null }, ['customer', 'id'])).toBe('');
  expect(key({ a: null }, ['a'], 'own')).toBe('own');
  expect(key([1], null, 'own')).toBe('own');
  expect(key('text', ['length'])).toBe('');
});

test('what every object has by birth is no key', () => {
  expect(key({}, ['constructor', 'name'], 'own')).toBe('own');
  expect(key({}, ['__proto__'], 'own')).toBe('own');
});

test('values that no column holds, or that are too long, stay different from each other', () => {
  const long = 'x'.repeat(300);
  expect(key({ a: long }, ['a'])).toMatch(/^sha256:/);
  expect(key({ a: long }, ['a'])).not.toBe(key({ a: `${long}y` }, ['a']));
  expect(key({ a: 'a\0b' }, ['a'])).toMatch(/^sha256:/);
  expect(key({ a: '\ud800' }, ['a'])).not.toBe(key({ a: '\ud801' }, ['a']));
});
