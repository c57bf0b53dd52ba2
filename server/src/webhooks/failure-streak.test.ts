import { describe, expect, it } from 'vitest';
import { failingTooLongSince, type WebhookHealth } from './failure-streak.ts';

const now = new Date('2030-01-15T12:00:00Z');
const days = (count: number) => new Date(now.getTime() - count * 86_400_000);

/** A webhook whose streak began `since` days ago, was seen on `on` days, and failed last `last` days ago. */
function health(since: number | null, { on = 5, last = 0.1 } = {}): WebhookHealth {
  return {
    failing_since: since === null ? null : days(since),
    failing_days: since === null ? 0 : on,
    last_failure_at: since === null ? null : days(last),
  };
}

describe('failingTooLongSince', () => {
  const failing: [string, WebhookHealth, number][] = [
    ['five days of failures', health(5), 5],
    ['a month of them', health(30, { on: 30 }), 30],
    ['failures on three days', health(6, { on: 3 }), 6],
    ['the last failure one day ago', health(8, { last: 1 }), 8],
  ];
  it.each(failing)('is time after %s', (_what, seen, since) => {
    expect(failingTooLongSince(seen, now.getTime())).toEqual(days(since));
  });

  const spared: [string, WebhookHealth | undefined][] = [
    ['nothing at all', undefined],
    ['no failure', health(null)],
    ['a minute less than five days', health(5 - 1 / 1440)],
    ['failures on two days only', health(6, { on: 2, last: 0 })],
    ['one bad day, then no event', health(5.2, { on: 1, last: 5 })],
    ['no failure for longer than a day', health(8, { last: 1.01 })],
    ['a streak that begins in the future, as on a node whose clock is wrong', health(-1)],
  ];
  it.each(spared)('is not time after %s', (_what, seen) => {
    expect(failingTooLongSince(seen, now.getTime())).toBeUndefined();
  });
});
