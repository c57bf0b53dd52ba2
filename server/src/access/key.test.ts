import { expect, test } from 'vitest';
import { API_KEY_PATTERN, createApiKey } from './key.ts';

test.each([
  ['development', 'ph_dev_'],
  ['staging', 'ph_stg_'],
  ['production', 'ph_prod_'],
  ['qa', 'ph_env_'],
  ['constructor', 'ph_env_'],
])('a key of %s begins with %s, and its hint shows four of its characters', (environment, start) => {
  const { key, hint } = createApiKey(environment);
  expect(key).toMatch(API_KEY_PATTERN);
  expect(key.startsWith(start)).toBe(true);
  expect(hint).toBe(key.slice(0, start.length + 4));
});

test('all 256 bits of a key are in its text', () => {
  const zero = createApiKey('qa', Buffer.alloc(32));
  expect(zero.key).toBe(`ph_env_${'0'.repeat(43)}`);
  const most = createApiKey('qa', Buffer.alloc(32, 0xff));
  expect(most.key).toMatch(API_KEY_PATTERN);
  const digits = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
  const value = [...most.key.slice('ph_env_'.length)].reduce(
    (sum, digit) => sum * 62n + BigInt(digits.indexOf(digit)),
    0n,
  );
  expect(value).toBe(2n ** 256n - 1n);
});

test('no two keys are alike', () => {
  const keys = new Set(Array.from({ length: 1000 }, () => createApiKey('production').key));
  expect(keys.size).toBe(1000);
});
