import type { Selectable } from 'kysely';
import type { Tables } from '../db/tables.ts';

/** What `webhook_totals` knows of a webhook's health. */
export type WebhookHealth = Pick<
  Selectable<Tables['webhook_totals']>,
  'failing_since' | 'failing_days' | 'last_failure_at'
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

/** Since when a webhook has done nothing but fail, when it is time to disable it for that; undefined when it is not. */
export function failingTooLongSince(health: WebhookHealth | undefined, nowMs: number): Date | undefined {
  const since = health?.failing_since;
  if (health === undefined || since === null || since === undefined) return undefined;
  const lastFailureMs = health.last_failure_at?.getTime() ?? since.getTime();
  const tooLong =
    nowMs - since.getTime() >= FAILING_MS_MIN &&
    nowMs - lastFailureMs <= LAST_FAILURE_MS_MAX &&
    health.failing_days >= FAILING_DAYS_MIN;
  return tooLong ? since : undefined;
}
