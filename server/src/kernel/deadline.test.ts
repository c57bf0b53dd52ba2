import { expect, test } from 'vitest';
import { ManualClock } from '../testing/manual-clock.ts';
import { endsBy } from './deadline.ts';

test('work that ends in time, at the last moment too, has ended; what fails fails', async () => {
  const clock = new ManualClock();
  const work = Promise.withResolvers<string>();
  const ended = endsBy(clock, clock.monotonicMs() + 1_000, work.promise);
  clock.advance(999);
  work.resolve('done');
  expect(await ended).toBe(true);
  await expect(endsBy(clock, clock.monotonicMs(), Promise.reject(new Error('no')))).rejects.toThrow('no');
});

test('work that goes on is waited for until then and no longer, and what becomes of it is nobody else’s fault', async () => {
  const clock = new ManualClock();
  const work = Promise.withResolvers<void>();
  const ended = endsBy(clock, clock.monotonicMs() + 1_000, work.promise);
  clock.advance(1_000);
  expect(await ended).toBe(false);
  work.reject(new Error('too late'));
  const late = endsBy(clock, clock.monotonicMs() - 1, new Promise(() => {}));
  clock.advance(0);
  expect(await late).toBe(false);
});
