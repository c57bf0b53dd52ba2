import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Forecast, forecastCounts } from './forecast.ts';

const series = (length: number, valueAt: (n: number) => number) => Array.from({ length }, (_, n) => valueAt(n));
const told = (values: number[], seasonLength = 24, horizon = 24): Forecast => {
  const forecast = forecastCounts(values, seasonLength, horizon);
  if ('reason' in forecast) throw new Error(forecast.reason);
  return forecast;
};

/** The same numbers on each run, evenly spread over [-1, 1). */
function noise(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fffffff;
    return (state / 0x7fffffff) * 2 - 1;
  };
}

describe('a forecast', () => {
  it('repeats a season, on top of a trend', () => {
    const valueAt = (n: number) => 1_000 + 2 * n + 300 * Math.sin((2 * Math.PI * n) / 24);
    const { model, basedOn, points } = told(series(96, valueAt));
    expect({ model, basedOn }).toEqual({ model: 'holt_winters', basedOn: 96 });
    points.forEach(({ value, low, high }, step) => {
      const real = valueAt(96 + step);
      expect(Math.abs(value - real) / real).toBeLessThan(0.02);
      expect(low).toBeLessThanOrEqual(value);
      expect(high).toBeGreaterThanOrEqual(value);
    });
  });

  it('knows a season as soon as there are two, and not before', () => {
    const valueAt = (n: number) => (n % 7 < 5 ? 100 : 10);
    expect(told(series(13, valueAt), 7, 7).model).toBe('holt');
    const { model, points } = told(series(14, valueAt), 7, 7);
    expect(model).toBe('holt_winters');
    expect(points.map(({ value }) => Math.round(value))).toEqual([100, 100, 100, 100, 100, 10, 10]);
  });

  it('goes on with a straight line', () => {
    const { model, points } = told(
      series(20, (n) => 50 + 10 * n),
      24,
      5,
    );
    expect(model).toBe('holt');
    expect(points.map(({ value }) => value)).toEqual([250, 260, 270, 280, 290]);
  });

  it('is the mean of what is too short for a trend, with a wide interval', () => {
    const { model, points } = told([10, 20, 30, 20, 10], 24, 2);
    expect(model).toBe('mean');
    expect(points[0]).toMatchObject({ value: 18, low: 0 });
    expect(points[0]?.high).toBeGreaterThan(36);
  });

  it('has no width where nothing ever differs, and stays as it is', () => {
    expect(
      told(series(100, () => 7)).points.every(({ value, low, high }) => value === 7 && low === 7 && high === 7),
    ).toBe(true);
  });

  it('has about 95 % of what really comes within its interval', () => {
    let [within, all] = [0, 0];
    for (let seed = 1; seed <= 60; seed++) {
      const next = noise(seed * 7_919);
      // Nearly normal: a sum of several.
      const valueAt = (n: number) =>
        500 + 100 * Math.sin((2 * Math.PI * n) / 24) + 20 * (next() + next() + next() + next());
      const values = series(96 + 12, valueAt);
      told(values.slice(0, 96), 24, 12).points.forEach(({ low, high }, step) => {
        const real = values[96 + step] ?? Number.NaN;
        if (real >= low && real <= high) within++;
        all++;
      });
    }
    expect(within / all).toBeGreaterThan(0.9);
    expect(within / all).toBeLessThanOrEqual(1);
  });

  it('is less sure of what is further away', () => {
    const next = noise(5);
    let value = 500;
    const { points } = told(
      series(100, () => {
        value += 20 * next();
        return value;
      }),
    );
    const widthAt = (step: number) => (points[step]?.high ?? 0) - (points[step]?.low ?? 0);
    expect(widthAt(20)).toBeGreaterThan(1.5 * widthAt(0));
  });

  it('says why there is none', () => {
    expect(forecastCounts([0, 0, 0, 0, 0, 0], 24, 5)).toEqual({ reason: 'no_attempts', needed: 5, given: 0 });
    expect(forecastCounts([], 24, 5)).toEqual({ reason: 'no_attempts', needed: 5, given: 0 });
    // What was before the first attempt is nothing to learn from.
    expect(forecastCounts([0, 0, 0, 0, 0, 3, 0, 4], 24, 5)).toEqual({
      reason: 'too_few_intervals',
      needed: 5,
      given: 3,
    });
  });

  it('is never below nothing nor without a number, whatever came before', () => {
    const values = fc.array(fc.oneof(fc.constant(0), fc.nat({ max: 20 }), fc.nat({ max: 1e9 })), { maxLength: 120 });
    fc.assert(
      fc.property(values, fc.integer({ min: 2, max: 24 }), (of, seasonLength) => {
        const forecast = forecastCounts(of, seasonLength, 10);
        if ('reason' in forecast) return;
        expect(forecast.points).toHaveLength(10);
        for (const { value, low, high } of forecast.points) {
          expect(Number.isFinite(high)).toBe(true);
          expect(0 <= low && low <= value && value <= high).toBe(true);
        }
      }),
      { numRuns: 200 },
    );
  });
});
