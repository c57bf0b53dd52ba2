import { expect, test } from 'vitest';
import { distributionOf, median } from './figures.ts';

test('percentiles are values that occurred, by nearest rank, in milliseconds', () => {
  const values = Float64Array.from({ length: 200 }, (_, index) => (200 - index) * 1000);
  expect(distributionOf(values)).toEqual({ p50: 100, p95: 190, p99: 198, max: 200 });
  expect(distributionOf(Float64Array.of(1500))).toEqual({ p50: 1.5, p95: 1.5, p99: 1.5, max: 1.5 });
  expect(distributionOf(new Float64Array(0))).toBeUndefined();
});

test('the median is the middle value, or the mean of the middle two', () => {
  expect(median([9, 1, 5])).toBe(5);
  expect(median([9, 1, 5, 7])).toBe(6);
  expect(median([])).toBeNaN();
});
