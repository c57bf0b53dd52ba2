import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Pace, paceIntervalMs } from './pace.ts';

/** Starts as soon as allowed, whenever a timer that is up to `lateMs` late looks. */
function startsOf(pace: Pace, count: number, lateMs: () => number): number[] {
  const starts: number[] = [];
  let now = 0;
  while (starts.length < count) {
    now = Math.max(now, pace.readyAtMs) + lateMs();
    while (pace.readyAtMs <= now && starts.length < count) {
      pace.start(now);
      starts.push(now);
    }
  }
  return starts;
}

test('no stretch of 60 seconds has more starts than the limit, however late timers ring', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 3_000 }),
      fc.infiniteStream(fc.integer({ min: 0, max: 250 })),
      (perMinute, lateness) => {
        const starts = startsOf(new Pace(perMinute, 0), perMinute * 2 + 2, () => lateness.next().value ?? 0);
        for (const [at, first] of starts.entries()) {
          const beyond = starts[at + perMinute];
          if (beyond !== undefined) expect(beyond - first).toBeGreaterThan(60_000);
        }
      },
    ),
    { numRuns: 60 },
  );
});

test('starts are spread evenly: none comes more than a tenth of a second before its time', () => {
  const starts = startsOf(new Pace(60, 0), 120, () => 0);
  for (const [at, start] of starts.entries())
    expect(Math.abs(start - at * paceIntervalMs(60))).toBeLessThanOrEqual(100);
});

test('a limit is reached within half a percent', () => {
  for (const perMinute of [1, 60, 6_000, 60_000]) {
    const starts = startsOf(new Pace(perMinute, 0), perMinute * 2, () => 1);
    expect(starts.at(-1)).toBeLessThanOrEqual(2 * 60_300 + 2);
  }
});

test('an idle time is no credit for a burst', () => {
  const pace = new Pace(60, 0);
  pace.start(0);
  pace.start(1_000_000);
  expect(pace.readyAtMs).toBe(1_000_000 + paceIntervalMs(60));
});

test('a start that is a little late does not put off the ones after it', () => {
  const pace = new Pace(60, 0);
  pace.start(0);
  pace.start(paceIntervalMs(60) + 90);
  expect(pace.readyAtMs).toBe(2 * paceIntervalMs(60));
});
