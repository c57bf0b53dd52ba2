import { expect, test } from 'vitest';
import { readKey } from './credentials.ts';

test.each([
  [{ authorization: 'Bearer k-1' }, 'k-1'],
  [{ authorization: 'bearer   k-1' }, 'k-1'],
  [{ 'x-api-key': 'k-1' }, 'k-1'],
  [{ authorization: 'Bearer k-1', 'x-api-key': 'k-1' }, 'k-1'],
  [{ authorization: 'Basic dXNlcjpwYXNz', 'x-api-key': 'k-1' }, 'k-1'],
])('the key is read from %j', (headers, key) => {
  expect(readKey(headers)).toBe(key);
});

test.each([
  {},
  { authorization: '' },
  { authorization: 'Bearer' },
  { authorization: 'Bearer ' },
  { authorization: 'Bearer\tk-1' },
  { authorization: 'Basic dXNlcjpwYXNz' },
  { authorization: 'k-1' },
  { 'x-api-key': '' },
  { authorization: 'Bearer k-1', 'x-api-key': 'k-2' },
  { authorization: 'Bearer k-1', 'x-api-key': '' },
])('no key is read from %j', (headers) => {
  expect(() => readKey(headers)).toThrow(expect.objectContaining({ status: 401, code: 'unauthorized' }));
});

test('a key of more than 8,192 characters is refused', () => {
  expect(readKey({ 'x-api-key': 'x'.repeat(8_192) })).toHaveLength(8_192);
  for (const key of ['x'.repeat(8_193), 'x'.repeat(100_000), ' '.repeat(100_000)]) {
    expect(() => readKey({ 'x-api-key': key })).toThrow(expect.objectContaining({ status: 401 }));
    expect(() => readKey({ authorization: `Bearer ${key}` })).toThrow(expect.objectContaining({ status: 401 }));
  }
});
