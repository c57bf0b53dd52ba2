import { expect, test } from 'vitest';
import { ManualClock } from '../testing/manual-clock.ts';
import { TellingPace, TOLD_A_MINUTE, TOLD_AT_ONCE_MAX } from './telling-pace.ts';

test('of an environment many are told of at once, then some a minute, whatever others have', () => {
  const clock = new ManualClock();
  const pace = new TellingPace(clock);
  const taken = (environmentId: string, of: number) =>
    Array.from({ length: of }, () => pace.takes(environmentId)).filter(Boolean).length;
  expect(taken('flooded', 10_000)).toBe(TOLD_AT_ONCE_MAX);
  clock.advance(60_000);
  expect(taken('flooded', 10_000)).toBe(TOLD_A_MINUTE);
  expect(taken('quiet', 1)).toBe(1);
  clock.advance(86_400_000);
  expect(taken('flooded', 10_000)).toBe(TOLD_AT_ONCE_MAX);
});
