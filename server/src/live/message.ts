import { isFirstAttemptDue } from '../delivery/first-attempts.ts';
import { formatId, timeOfId } from '../kernel/ids.ts';

/** The states of a delivery that the stream tells of. */
export const STREAMED_STATUSES = ['delivered', 'failed', 'dead', 'cancelled', 'held', 'discarded'] as const;
export type StreamedStatus = (typeof STREAMED_STATUSES)[number];

/** What may be asked for by `types`. */
export const MESSAGE_TYPES = [
  ...STREAMED_STATUSES.map((status) => `delivery.${status}` as const),
  'alert.fired',
  'alert.acknowledged',
  'alert.resolved',
] as const;
export type MessageType = (typeof MESSAGE_TYPES)[number];

/** One message of the stream, made once for all who listen. */
export interface Message {
  /** UUIDv7 of the row that it tells of. */
  id: string;
  type: MessageType;
  webhookId: string | null;
  /** Of the webhook; undefined: no owner may see it. */
  owner: string | null | undefined;
  /** Of the delivery; undefined: it tells of none. */
  eventType: string | undefined;
  status: StreamedStatus | undefined;
  /** Its lines `event` and `data`. */
  text: string;
}

/** An attempt, and what its delivery is by now. */
export interface AttemptSeen {
  id: string;
  delivery_id: string;
  event_id: string;
  webhook_id: string;
  event_type: string;
  number: number;
  trigger: string;
  response_status: number | null;
  error_class: string | null;
  duration_ms: number;
  owner: string | null;
  /** null in the next four: the delivery is gone. */
  status: string | null;
  status_reason: string | null;
  attempt_count: number | null;
  due_at: Date | number | null;
}

export interface EntrySeen {
  id: string;
  type: string;
  webhook_id: string | null;
  for_owner: boolean;
  owner: string | null;
  data: unknown;
}

export function messageOfAttempt(row: AttemptSeen): Message {
  const isLast = row.attempt_count === row.number;
  const status = row.error_class === null ? 'delivered' : isLast && row.status === 'dead' ? 'dead' : 'failed';
  const waits = status === 'failed' && isLast && row.due_at instanceof Date && !isFirstAttemptDue(row.due_at.getTime());
  const data = {
    delivery_id: formatId('delivery', row.delivery_id),
    event_id: formatId('event', row.event_id),
    webhook_id: formatId('webhook', row.webhook_id),
    event_type: row.event_type,
    status,
    status_reason: status === 'dead' ? row.status_reason : null,
    attempt_id: formatId('attempt', row.id),
    attempt: row.number,
    trigger: row.trigger,
    response_status: row.response_status,
    response_time_ms: row.duration_ms,
    error_class: row.error_class,
    next_attempt_at: waits ? (row.due_at as Date).toISOString() : null,
    at: new Date(timeOfId(row.id)).toISOString(),
  };
  return {
    id: row.id,
    type: `delivery.${status}`,
    webhookId: row.webhook_id,
    owner: row.owner,
    eventType: row.event_type,
    status,
    text: textOf(`delivery.${status}`, data),
  };
}

export function messageOfEntry(row: EntrySeen): Message {
  const type = row.type as MessageType;
  const status = STREAMED_STATUSES.find((each) => type === `delivery.${each}`);
  const data = status === 'held' || status === 'discarded' ? toldDelivery(row, status) : row.data;
  return {
    id: row.id,
    type,
    webhookId: row.webhook_id,
    owner: row.for_owner ? row.owner : undefined,
    eventType: (data as { event_type?: string }).event_type,
    status,
    text: textOf(type, data),
  };
}

/** As `webhooks/told-deliveries.ts` writes it. */
interface ToldDelivery {
  delivery_id: string;
  event_id: string;
  event_type: string;
  status_reason: string | null;
  attempt: number;
}

function toldDelivery(row: EntrySeen, status: StreamedStatus) {
  const { delivery_id, event_id, event_type, status_reason, attempt } = row.data as ToldDelivery;
  return {
    delivery_id: formatId('delivery', delivery_id),
    event_id: formatId('event', event_id),
    webhook_id: formatId('webhook', row.webhook_id ?? ''),
    event_type,
    status,
    status_reason,
    attempt,
    at: new Date(timeOfId(row.id)).toISOString(),
  };
}

/** JSON has no line break outside of its texts, and in them it is escaped: one line of data. */
export function textOf(type: string, data: unknown): string {
  return `event: ${type}\ndata: ${JSON.stringify(data)}\n`;
}
