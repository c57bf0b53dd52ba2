import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ManualClock } from '../testing/manual-clock.ts';
import { TokenBucket } from './token-bucket.ts';

test('no stretch of t seconds has more than the limit times (t + 1), and demand above it gets all of that', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 5_000 }),
      fc.array(fc.record({ waitMs: fc.integer({ min: 0, max: 700 }), count: fc.integer({ min: 1, max: 300 }) }), {
        minLength: 1,
        maxLength: 60,
      }),
      (perSecond, wishes) => {
        const clock = new ManualClock();
        const bucket = new TokenBucket(clock, perSecond);
        const taken: { atMs: number; count: number }[] = [];
        for (const { waitMs, count } of wishes) {
          clock.advance(waitMs);
          if (bucket.take(count).granted) taken.push({ atMs: clock.monotonicMs(), count });
        }
        for (const [from, first] of taken.entries()) {
          let sum = 0;
          for (const { atMs, count } of taken.slice(from)) {
            sum += count;
            expect(sum).toBeLessThanOrEqual((perSecond * (atMs - first.atMs + 1_000)) / 1_000 + 1e-6);
          }
        }
      },
    ),
  );
  const clock = new ManualClock();
  const bucket = new TokenBucket(clock, 7);
  let granted = 0;
  for (let ms = 0; ms < 10_000; ms += 1) {
    if (bucket.take(1).granted) granted += 1;
    clock.advance(1);
  }
  expect(granted).toBeGreaterThanOrEqual(7 * 10 + 6);
});

test('a batch is taken as a whole or not at all, and one of a second’s worth fits into a full bucket', () => {
  const clock = new ManualClock();
  const bucket = new TokenBucket(clock, 10);
  expect(bucket.take(10)).toEqual({ granted: true, remaining: 0, resetMs: 1_000, retryMs: 0 });
  clock.advance(500);
  const refused = bucket.take(6);
  expect(refused).toMatchObject({ granted: false, remaining: 5 });
  clock.advance(Math.ceil(refused.retryMs));
  expect(bucket.take(6).granted).toBe(true);
});

test('what is given back can be taken again, and no more than that', () => {
  const clock = new ManualClock();
  const bucket = new TokenBucket(clock, 10);
  bucket.take(10);
  bucket.giveBack(2);
  expect([bucket.take(1), bucket.take(1), bucket.take(1)].map(({ granted }) => granted)).toEqual([true, true, false]);
});

test('a changed limit counts at once, and what was taken stays taken', () => {
  const clock = new ManualClock();
  const bucket = new TokenBucket(clock, 1);
  expect(bucket.take(1).granted).toBe(true);
  bucket.setLimit(100);
  expect(bucket.take(1).granted).toBe(false);
  clock.advance(10);
  expect(bucket.take(1).granted).toBe(true);
});
