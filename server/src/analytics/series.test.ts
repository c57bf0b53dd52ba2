import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { beginningOf, finestLevelOf, LEVELS, rangesOf } from './series.ts';

const at = (text: string) => Date.parse(`${text}Z`);
const NOW = at('2030-03-10T14:23:10');
const shown = (since: string, until: string) =>
  rangesOf(at(since), at(until), NOW).map(
    ({ level, fromMs, toMs }) =>
      `${level} ${new Date(fromMs).toISOString().slice(0, 16)} ${new Date(toMs).toISOString().slice(0, 16)}`,
  );

describe('the rows that have the counts of a time', () => {
  it('are days, with hours and minutes at the edges', () => {
    expect(shown('2030-03-05T10:58:00', '2030-03-08T01:02:00')).toEqual([
      'minute 2030-03-05T10:58 2030-03-05T11:00',
      'hour 2030-03-05T11:00 2030-03-06T00:00',
      'day 2030-03-06T00:00 2030-03-08T00:00',
      'hour 2030-03-08T00:00 2030-03-08T01:00',
      'minute 2030-03-08T01:00 2030-03-08T01:02',
    ]);
  });

  it('end with the running day, hour or minute when the time goes on to now', () => {
    expect(shown('2030-03-09T23:59:00', '2030-03-10T14:24:00')).toEqual([
      'minute 2030-03-09T23:59 2030-03-10T00:00',
      'day 2030-03-10T00:00 2030-03-11T00:00',
    ]);
    expect(shown('2030-03-10T14:00:00', '2030-03-10T14:24:00')).toEqual(['hour 2030-03-10T14:00 2030-03-10T15:00']);
    expect(shown('2030-03-10T14:20:00', '2030-03-10T14:24:00')).toEqual(['minute 2030-03-10T14:20 2030-03-10T14:24']);
  });

  it('are minutes alone within an hour, and none for no time', () => {
    expect(shown('2030-03-05T10:10:00', '2030-03-05T10:40:00')).toEqual(['minute 2030-03-05T10:10 2030-03-05T10:40']);
    expect(shown('2030-03-05T10:10:00', '2030-03-05T10:10:00')).toEqual([]);
  });

  it('follow one another without gaps, and are few', () => {
    const minute = fc.integer({ min: 0, max: 40 * 1_440 });
    fc.assert(
      fc.property(minute, minute, (one, other) => {
        const nowMs = NOW;
        const [fromMs, toMs] = [one, other]
          .sort((a, b) => a - b)
          .map((n) => beginningOf('minute', nowMs) - (40 * 1_440 - n) * 60_000) as [number, number];
        const ranges = rangesOf(fromMs, toMs, nowMs);
        let endMs = fromMs;
        for (const range of ranges) {
          expect(range.fromMs).toBe(endMs);
          expect(range.fromMs % LEVELS[range.level].lengthMs).toBe(0);
          expect(range.toMs % LEVELS[range.level].lengthMs).toBe(0);
          endMs = range.toMs;
        }
        expect(endMs).toBe(toMs);
        expect(ranges.length).toBeLessThanOrEqual(5);
      }),
    );
  });
});

it('knows how fine what is left of a time is', () => {
  expect(finestLevelOf(NOW - 2 * 86_400_000, NOW)).toBe('minute');
  expect(finestLevelOf(NOW - 3 * 86_400_000, NOW)).toBe('hour');
  expect(finestLevelOf(NOW - 91 * 86_400_000, NOW)).toBe('day');
  expect(finestLevelOf(NOW - 800 * 86_400_000, NOW)).toBeUndefined();
});
