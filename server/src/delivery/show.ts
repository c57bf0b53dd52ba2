import { formatId, timeOfId } from '../kernel/ids.ts';
import type { Masker } from '../masking/masker.ts';
import { isFirstAttemptDue } from './first-attempts.ts';
import type { DeadReason } from './outcome.ts';
import type { DeadLetterRow, DeliveryRow } from './queries.ts';
import { type DeliveryShown, shownIds } from './shown.ts';

export function showDelivery(row: DeliveryRow, masker: Masker): DeliveryShown {
  const createdAtMs = timeOfId(row.id);
  return {
    id: formatId('delivery', row.id),
    ...shownIds(row),
    status: row.status,
    status_reason: row.status_reason,
    attempt_count: row.attempt_count,
    next_attempt_at: nextAttemptAt(row, createdAtMs),
    response_status: row.response_status,
    response_time_ms: row.response_time_ms,
    error_class: row.error_class as DeliveryShown['error_class'],
    error_message: row.error_message === null ? null : masker.text(row.error_message),
    created_at: new Date(createdAtMs).toISOString(),
    completed_at: row.completed_at?.toISOString() ?? null,
  };
}

/** A held delivery waits for its webhook, not for a time. */
function nextAttemptAt({ due_at }: DeliveryRow, createdAtMs: number): string | null {
  if (!(due_at instanceof Date)) return null;
  return new Date(isFirstAttemptDue(due_at.getTime()) ? createdAtMs : due_at).toISOString();
}

export function showDeadLetter(row: DeadLetterRow) {
  return {
    delivery_id: formatId('delivery', row.delivery_id),
    ...shownIds(row),
    reason: row.reason as DeadReason,
    attempt_count: row.attempt_count,
    response_status: row.response_status,
    dead_at: row.dead_at.toISOString(),
  };
}
