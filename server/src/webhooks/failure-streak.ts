import type { Selectable } from 'kysely';
import type { Tables } from '../db/tables.ts';

/** What one shard of `webhook_totals` saw of a webhook's health. */
export type ShardHealth = Pick<
  Selectable<Tables['webhook_totals']>,
  'last_success_at' | 'failing_since' | 'failing_days' | 'last_failure_at'
>;

const DAY_MS = 86_400_000;

/**
 * How long a webhook fails before it is disabled: longer than a weekend with a holiday on either side, on which nobody
 * is there to mend the receiver.
 */
export const FAILING_MS_MIN = 5 * DAY_MS;

/**
 * Different days (UTC) with failures within that time. One bad hour and then no event for a week is five days without
 * success, and says nothing of the receiver.
 */
const FAILING_DAYS_MIN = 3;

/** The last failure is younger than this: what has not been tried for longer may have been mended. */
const LAST_FAILURE_MS_MAX = DAY_MS;

/**
 * Since when a webhook has done nothing but fail, when it is time to disable it for that; undefined when it is not.
 *
 * A shard's streak counts only when no other shard saw a success since it began. Each shard counts its own days, so
 * how many there were in all is known to be at least the highest of them, and at least as many as there are different
 * days among the first and last failures.
 */
export function failingTooLongSince(shards: readonly ShardHealth[], nowMs: number): Date | undefined {
  const lastSuccessMs = Math.max(
    ...shards.map((shard) => shard.last_success_at?.getTime() ?? Number.NEGATIVE_INFINITY),
  );
  let sinceMs = Number.POSITIVE_INFINITY;
  let lastFailureMs = Number.NEGATIVE_INFINITY;
  let daysCounted = 0;
  const daysSeen = new Set<number>();
  for (const shard of shards) {
    const firstMs = shard.failing_since?.getTime();
    if (firstMs === undefined || firstMs <= lastSuccessMs) continue;
    const lastMs = shard.last_failure_at?.getTime() ?? firstMs;
    sinceMs = Math.min(sinceMs, firstMs);
    lastFailureMs = Math.max(lastFailureMs, lastMs);
    daysCounted = Math.max(daysCounted, shard.failing_days);
    for (const timeMs of [firstMs, lastMs]) daysSeen.add(Math.floor(timeMs / DAY_MS));
  }
  const tooLong =
    nowMs - sinceMs >= FAILING_MS_MIN &&
    nowMs - lastFailureMs <= LAST_FAILURE_MS_MAX &&
    Math.max(daysCounted, daysSeen.size) >= FAILING_DAYS_MIN;
  return tooLong ? new Date(sinceMs) : undefined;
}
