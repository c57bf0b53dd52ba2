import { describe, expect, it } from 'vitest';
import { failingTooLongSince, type ShardHealth } from './failure-streak.ts';

const now = new Date('2030-01-15T12:00:00Z');
const days = (count: number) => new Date(now.getTime() - count * 86_400_000);

/** A shard whose streak began `since` days ago, was seen on `on` days, and failed last `last` days ago. */
function shard(since: number | null, { on = 5, last = 0.1, success = null as number | null } = {}): ShardHealth {
  return {
    last_success_at: success === null ? null : days(success),
    failing_since: since === null ? null : days(since),
    failing_days: since === null ? 0 : on,
    last_failure_at: since === null ? null : days(last),
  };
}

describe('failingTooLongSince', () => {
  const failing: [string, ShardHealth[], number][] = [
    ['five days of failures and never a success', [shard(5)], 5],
    ['failures since the last success, longer ago', [shard(6, { success: 6.1 })], 6],
    ['a second shard that has seen nothing yet', [shard(7), shard(null)], 7],
    ['the earliest of several streaks', [shard(5.5), shard(9), shard(1, { on: 1 })], 9],
    ['a streak that began after another shard’s success', [shard(6), shard(null, { success: 6.2 })], 6],
    ['the last failure one day ago', [shard(8, { last: 1 })], 8],
    [
      'three days over shards that saw fewer each',
      [shard(5, { on: 2, last: 4 }), shard(2.5, { on: 1, last: 2.5 }), shard(0.5, { on: 1, last: 0.5 })],
      5,
    ],
  ];
  it.each(failing)('is time after %s', (_what, shards, since) => {
    expect(failingTooLongSince(shards, now.getTime())).toEqual(days(since));
  });

  const spared: [string, ShardHealth[]][] = [
    ['nothing at all', []],
    ['no failure', [shard(null, { success: 0.1 })]],
    ['a minute less than five days', [shard(5 - 1 / 1440)]],
    ['failures on two days only', [shard(6, { on: 2, last: 0 })]],
    ['one bad day, then no event', [shard(5.2, { on: 1, last: 5 })]],
    ['no failure for longer than a day', [shard(8, { last: 1.01 })]],
    ['a success on another shard since', [shard(6), shard(null, { success: 5.9 })]],
    ['a success on another shard at the same moment', [shard(6), shard(null, { success: 6 })]],
    ['a success on another shard just now', [shard(30), shard(20), shard(null, { success: 0 })]],
    [
      'an old streak that another shard’s success ended, and a new one that is short',
      [shard(30, { on: 20, last: 10 }), shard(4, { on: 4, success: 8 })],
    ],
    [
      'days that only an ended streak has seen',
      [shard(30, { on: 20, last: 10 }), shard(6, { on: 1, last: 0.1, success: 8 })],
    ],
    ['a streak that begins in the future, as on a node whose clock is wrong', [shard(-1)]],
  ];
  it.each(spared)('is not time after %s', (_what, shards) => {
    expect(failingTooLongSince(shards, now.getTime())).toBeUndefined();
  });
});
