import { expect, test } from 'vitest';
import { AppError } from '../kernel/errors.ts';
import { ManualClock } from '../testing/manual-clock.ts';
import { createFailedAttempts, type FailedAttempts } from './failed-attempts.ts';

function isRefused(attempts: FailedAttempts, address: string): number | undefined {
  try {
    attempts.refuse(address);
    return undefined;
  } catch (error) {
    expect(error).toMatchObject({ status: 429, code: 'too_many_failed_attempts' });
    return (error as AppError).retryAfterSeconds;
  }
}

test('an address may fail so many times a minute; then it waits for one after the other', () => {
  const clock = new ManualClock();
  const attempts = createFailedAttempts(clock, 20);
  for (let n = 0; n < 20; n++) {
    expect(isRefused(attempts, '192.0.2.1')).toBeUndefined();
    attempts.add('192.0.2.1');
  }
  expect(isRefused(attempts, '192.0.2.1')).toBe(3);
  expect(isRefused(attempts, '192.0.2.2')).toBeUndefined();
  clock.advance(2_900);
  expect(isRefused(attempts, '192.0.2.1')).toBe(1);
  clock.advance(100);
  expect(isRefused(attempts, '192.0.2.1')).toBeUndefined();
  attempts.add('192.0.2.1');
  expect(isRefused(attempts, '192.0.2.1')).toBe(3);
});

test('failures that were under way together count for a minute and no longer', () => {
  const clock = new ManualClock();
  const attempts = createFailedAttempts(clock, 20);
  for (let n = 0; n < 5_000; n++) attempts.add('192.0.2.1');
  clock.advance(3_000);
  expect(isRefused(attempts, '192.0.2.1')).toBeUndefined();
  clock.advance(60_000);
  for (let n = 0; n < 20; n++) {
    expect(isRefused(attempts, '192.0.2.1')).toBeUndefined();
    attempts.add('192.0.2.1');
  }
});

test.for([
  ['2001:db8:1:2::1', '2001:db8:1:2:ffff:ffff:ffff:ffff', true],
  ['2001:db8:1:2::', '2001:DB8:0001:2:3::4', true],
  ['2001:db8::1', '2001:db8:0:0:5::', true],
  ['::1', '::2', true],
  ['::', '0:0:0:0:1::', true],
  ['2001:db8:1:2::1', '2001:db8:1:3::1', false],
  ['64:ff9b::1.2.3.4', '64:ff9b::5.6.7.8', true],
  ['192.0.2.1', '192.0.2.2', false],
] as const)('%s and %s are one address: %s', ([one, other, same]) => {
  const attempts = createFailedAttempts(new ManualClock(), 1);
  attempts.add(one);
  expect(isRefused(attempts, one)).toBeDefined();
  expect(isRefused(attempts, other) !== undefined).toBe(same);
});

test('memory is bounded, however many addresses there are', () => {
  const attempts = createFailedAttempts(new ManualClock(), 1);
  attempts.add('192.0.2.1');
  for (let n = 0; n < 49_999; n++) attempts.add(`10.${n >> 16}.${(n >> 8) & 255}.${n & 255}`);
  expect(isRefused(attempts, '192.0.2.1')).toBeDefined();
  attempts.add('203.0.113.1');
  expect(isRefused(attempts, '192.0.2.1')).toBeUndefined();
});

test('an address has a thousand look-ups under way at most, and one that ends makes room', async () => {
  const attempts = createFailedAttempts(new ManualClock(), 20);
  const ends: (() => void)[] = [];
  const lookUp = () => attempts.lookingUp('192.0.2.1', () => new Promise<void>((resolve) => ends.push(resolve)));
  const underWay = Array.from({ length: 1_000 }, lookUp);
  await expect(lookUp()).rejects.toBeInstanceOf(AppError);
  ends[0]?.();
  await underWay[0];
  underWay.push(lookUp());
  for (const end of ends) end();
  await Promise.all(underWay);
});
