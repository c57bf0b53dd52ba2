import { formatId, timeOfId } from '../kernel/ids.ts';
import { type Envelope, shapeBody } from '../shaping/envelopes.ts';
import { isFirstAttemptDue } from './first-attempts.ts';
import type { AttemptRow, DeadLetterRow, DeliveryRow } from './queries.ts';
import { EVENT_SOURCE } from './rows.ts';
import { type AttemptShown, type DeliveryShown, shownIds } from './shown.ts';

export function showDelivery(row: DeliveryRow): DeliveryShown {
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
    error_class: row.error_class,
    error_message: row.error_message,
    created_at: new Date(createdAtMs).toISOString(),
    completed_at: row.completed_at?.toISOString() ?? null,
  };
}

/** A held delivery waits for its webhook, not for a time. */
function nextAttemptAt({ due_at }: DeliveryRow, createdAtMs: number): string | null {
  if (!(due_at instanceof Date)) return null;
  return new Date(isFirstAttemptDue(due_at.getTime()) ? createdAtMs : due_at).toISOString();
}

/** `bodyCharactersMax` cuts the bodies shown; what was sent and kept is not touched. */
export function showAttempt(row: AttemptRow, bodyCharactersMax: number): AttemptShown {
  const requestBody = requestBodyOf(row);
  const shownBody = requestBody?.slice(0, bodyCharactersMax) ?? null;
  const responseBody = row.response_body?.toString('utf8') ?? null;
  return {
    id: formatId('attempt', row.id),
    delivery_id: formatId('delivery', row.delivery_id),
    ...shownIds(row),
    tenant_id: formatId('tenant', row.tenant_id),
    number: row.number,
    attempt_count: row.number,
    trigger: row.trigger as AttemptShown['trigger'],
    is_success: row.error_class === null,
    url: row.url,
    http_method: row.http_method,
    request_headers: JSON.parse(row.request_headers),
    request_body: shownBody,
    payload: shownBody,
    request_truncated: (requestBody?.length ?? 0) > bodyCharactersMax,
    response_status: row.response_status,
    response_headers: row.response_headers === null ? null : JSON.parse(row.response_headers),
    response_body: responseBody?.slice(0, bodyCharactersMax) ?? null,
    response_truncated: row.response_truncated || (responseBody?.length ?? 0) > bodyCharactersMax,
    response_time_ms: row.duration_ms,
    error_class: row.error_class,
    error_message: row.error_message,
    created_at: new Date(timeOfId(row.id)).toISOString(),
  };
}

export function showDeadLetter(row: DeadLetterRow) {
  return {
    delivery_id: formatId('delivery', row.delivery_id),
    ...shownIds(row),
    reason: row.reason,
    attempt_count: row.attempt_count,
    dead_at: row.dead_at.toISOString(),
  };
}

/** The body as it was sent: the envelope of the attempt around the event's bytes, which are stored once for all attempts. */
function requestBodyOf(row: AttemptRow): string | null {
  if (row.data === null || row.occurred_at === null) return null;
  if (row.http_method === 'GET') return '';
  const id = formatId('event', row.event_id);
  const event = {
    id,
    publicId: row.external_id ?? id,
    type: row.event_type,
    timestamp: row.occurred_at.toISOString(),
    data: row.data,
    metadata: row.metadata,
    source: EVENT_SOURCE,
  };
  return shapeBody(row.envelope as Envelope, event, row.number).body.toString('utf8');
}
