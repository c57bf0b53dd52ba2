import { expect, test } from 'vitest';
import { ManualClock } from '../testing/manual-clock.ts';
import { RestartDelay } from './restart-delay.ts';

test('the first restart comes at once, later ones ever more slowly, but every ten seconds at least', () => {
  const delay = new RestartDelay(new ManualClock());
  expect(Array.from({ length: 7 }, () => delay.next())).toEqual([0, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000]);
});

test('what ran for two seconds is restarted at once again, and what ended before is not', () => {
  const clock = new ManualClock();
  const delay = new RestartDelay(clock);
  delay.next();
  delay.started();
  clock.advance(1_999);
  expect(delay.next()).toBe(1_000);
  delay.started();
  clock.advance(2_000);
  expect(delay.next()).toBe(0);
  expect(delay.next()).toBe(1_000);
});
