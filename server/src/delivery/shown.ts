import { type Static, Type } from 'typebox';
import { formatId } from '../kernel/ids.ts';
import { HTTP_METHODS } from '../webhooks/settings.ts';
import { DEAD_REASONS, ERROR_CLASSES, type ErrorClass } from './outcome.ts';

const nullable = {
  text: Type.Union([Type.String(), Type.Null()]),
  number: Type.Union([Type.Integer(), Type.Null()]),
  time: Type.Union([Type.String({ format: 'date-time' }), Type.Null()]),
};
const time = Type.String({ format: 'date-time' });

const eventId = Type.String({
  description:
    'The event’s `id`, `evt_…`; an `event_id` of the publisher’s own finds it, too, wherever one is asked for.',
});

const ERROR_CLASS_RULE =
  '`response`: the receiver answered with a status that is no success; `template`: the template or transform failed; ' +
  '`blocked`: the address is not allowed; `internal`: a fault of Posthorn.';

export const ErrorClassShown = Type.Enum([...ERROR_CLASSES], { description: ERROR_CLASS_RULE });

const nullableErrorClass = Type.Unsafe<ErrorClass | null>({
  type: ['string', 'null'],
  enum: [...ERROR_CLASSES, null],
  description: `Null after a success, and before the first attempt. ${ERROR_CLASS_RULE}`,
});

export const DELIVERY_STATUSES = ['pending', 'delivered', 'failed', 'dead', 'cancelled', 'held', 'discarded'] as const;

export const DeliveryShown = Type.Object(
  {
    id: Type.String(),
    event_id: eventId,
    webhook_id: Type.String(),
    event_type: Type.String(),
    status: Type.Enum([...DELIVERY_STATUSES], {
      description:
        '`pending` waits for its first attempt; `failed` waits for a retry; `held` while its webhook is paused or ' +
        'disabled; `delivered`, `dead`, `cancelled` and `discarded` are ends.',
    }),
    status_reason: {
      ...nullable.text,
      description:
        'Why it ended. Of a dead one `attempts_used_up`, `status_not_retryable`, `gone`, `internal_fault`, ' +
        '`template_fault`, `unrecordable` or `test`; of a discarded one `webhook_deleted`, `payload_erased` or ' +
        '`cancelled_by_transform`.',
    },
    attempt_count: Type.Integer(),
    next_attempt_at: nullable.time,
    response_status: nullable.number,
    response_time_ms: nullable.number,
    error_class: nullableErrorClass,
    error_message: nullable.text,
    created_at: time,
    completed_at: nullable.time,
  },
  { $id: 'Delivery', title: 'Delivery' },
);
export type DeliveryShown = Static<typeof DeliveryShown>;

const headers = Type.Record(Type.String(), Type.String());

export const AttemptShown = Type.Object(
  {
    id: Type.String(),
    delivery_id: Type.String(),
    event_id: eventId,
    webhook_id: Type.String(),
    event_type: Type.String(),
    tenant_id: Type.String(),
    number: Type.Integer({ description: 'Of this attempt, from 1.' }),
    attempt_count: Type.Integer({ description: 'The same as `number` (whatsapp-crm.md).' }),
    trigger: Type.Enum(['scheduled', 'manual', 'replay', 'test', 'failover'], {
      description: 'What the attempt was made for: the schedule, a retry by hand, a replay, a test, or a failover.',
    }),
    is_success: Type.Boolean(),
    url: Type.String(),
    http_method: Type.Unsafe<string>({ type: 'string', enum: [...HTTP_METHODS] }),
    request_headers: { ...headers, description: 'Values of secret headers are masked.' },
    request_body: {
      ...nullable.text,
      description: 'As sent, before compression; of a batch this delivery’s element. Null once the payload is erased.',
    },
    payload: { ...nullable.text, description: 'The same as `request_body` (whatsapp-crm.md).' },
    template_id: { ...nullable.text, description: 'The stored template that shaped the request.' },
    template_version: nullable.number,
    request_truncated: Type.Boolean({
      description: 'The body goes on beyond what is shown, or was a batch of several.',
    }),
    response_status: nullable.number,
    response_headers: Type.Union([headers, Type.Null()]),
    response_body: { ...nullable.text, description: 'The first 64 KB are kept; null for a batch of several events.' },
    response_truncated: Type.Boolean(),
    response_time_ms: Type.Integer(),
    error_class: nullableErrorClass,
    error_message: nullable.text,
    created_at: time,
  },
  { $id: 'Attempt', title: 'Attempt' },
);
export type AttemptShown = Static<typeof AttemptShown>;

export const DeadLetterShown = Type.Object(
  {
    delivery_id: Type.String(),
    event_id: eventId,
    webhook_id: Type.String(),
    event_type: Type.String(),
    reason: Type.Enum([...DEAD_REASONS], {
      description:
        '`attempts_used_up`, `status_not_retryable` by the retry policy, `gone` after a 410, `internal_fault` and ' +
        '`template_fault` again and again, `unrecordable` in the database, or a `test`, which is never retried.',
    }),
    attempt_count: Type.Integer(),
    response_status: { ...nullable.number, description: 'Of the last attempt; null where nothing was answered.' },
    dead_at: time,
  },
  { $id: 'DeadLetter', title: 'Dead letter' },
);

export const DeliveryStats = Type.Object(
  {
    webhook_id: Type.String(),
    total_deliveries: Type.Integer({ description: 'Deliveries that ended, as delivered or dead.' }),
    successful_deliveries: Type.Integer(),
    failed_deliveries: Type.Integer(),
    filtered_deliveries: Type.Integer({ description: 'Events that the webhook’s filters kept from it.' }),
    waiting_deliveries: Type.Integer({ description: 'Waiting for an attempt, or held; counted up to 10,000.' }),
    success_rate: Type.Union([Type.Number(), Type.Null()], {
      description: 'Percent of ended deliveries; null before the first.',
    }),
    total_attempts: Type.Integer(),
    failed_attempts: Type.Integer(),
    average_response_time_ms: Type.Union([Type.Number(), Type.Null()]),
    last_triggered_at: nullable.time,
  },
  { $id: 'WebhookStats', title: 'Webhook statistics' },
);

/** Ids as the API gives them. */
export function shownIds(row: { event_id: string; webhook_id: string; event_type: string }) {
  return {
    event_id: formatId('event', row.event_id),
    webhook_id: formatId('webhook', row.webhook_id),
    event_type: row.event_type,
  };
}
