import { createHash } from 'node:crypto';
import { type Static, type TSchema, Type } from 'typebox';
import { EVENT_TYPE_NAME_LENGTH_MAX, EVENT_TYPE_NAME_PATTERN } from '../catalog/event-type-name.ts';
import { compactJson } from '../kernel/compact-json.ts';
import { AppError, type FieldProblem, invalidField, invalidFields } from '../kernel/errors.ts';
import type { RawJson } from '../kernel/raw-json.ts';
import { orNull } from '../webhooks/nullable.ts';

/** Bytes of an event's `data`, as published. */
export const DATA_BYTES_MAX = 1_048_576;

/** Bytes of an event's `metadata`. */
const METADATA_BYTES_MAX = 16_384;

/** Events in a batch. */
export const BATCH_EVENTS_MAX = 1_000;

/** How far ahead `deliver_at` may lie. */
const SCHEDULE_MS_MAX = 30 * 86_400_000;

/** The type goes into a header and into the catalogue, so it keeps to the catalogue's grammar, known or not. */
export const EventTypeName = {
  type: 'string',
  maxLength: EVENT_TYPE_NAME_LENGTH_MAX,
  pattern: EVENT_TYPE_NAME_PATTERN,
} as const;

/**
 * The body of a publish. Three spellings of the type and two of the data are known, one of each must be there. null is the
 * same as absent, as many clients write what they have not set, for all else; of the data it is data.
 */
export const PublishBody = Type.Object(
  {
    event_type: Type.Optional(
      Type.String({ ...EventTypeName, description: 'The event type, for example `invoice.paid`.' }),
    ),
    event: Type.Optional(Type.String({ ...EventTypeName, description: 'Another spelling of `event_type`.' })),
    type: Type.Optional(Type.String({ ...EventTypeName, description: 'Another spelling of `event_type`.' })),
    data: Type.Optional(
      Type.Unknown({
        description:
          'Any JSON, at most 1 MB and 64 levels. Key order, number spellings and escapes reach receivers as sent.',
      }),
    ),
    payload: Type.Optional(Type.Unknown({ description: 'Another spelling of `data`.' })),
    event_id: optionalOrNull(
      Type.String({
        pattern: '^[\\x21-\\x7e]{1,256}$',
        description: 'Your own id of the event: publishing it again delivers nothing again.',
      }),
    ),
    timestamp: optionalOrNull(Type.String({ format: 'date-time', description: 'When it happened (now).' })),
    metadata: optionalOrNull(Type.Object({}, { additionalProperties: true, description: 'At most 16 KB.' })),
    ordering_key: optionalOrNull(Type.String({ minLength: 1, maxLength: 256, pattern: '^[^\\u0000]*$' })),
    priority: optionalOrNull(
      Type.Integer({ minimum: -100, maximum: 100, description: 'Kept with the event and its deliveries (0).' }),
    ),
    deliver_at: optionalOrNull(
      Type.String({ format: 'date-time', description: 'Deliver not before this time, at most 30 days ahead.' }),
    ),
  },
  { additionalProperties: false },
);
export type PublishBody = Static<typeof PublishBody>;

/** A publish that can be read; whether its type is known is not yet looked at. */
export interface PublishRequest {
  type: string;
  /** As published, but for white space between its tokens. */
  data: Buffer;
  /** The same, parsed. */
  dataValue: unknown;
  metadata: Buffer | null;
  eventId: string | null;
  occurredAtMs: number;
  orderingKey: string | null;
  priority: number;
  deliverAtMs: number | null;
}

/**
 * Reads one event of a publish. `at` stands before the field names in problems, for batches: `events.3.`.
 *
 * @throws AppError 422 for fields that are missing, given twice or out of bounds; 413 for data that is too large.
 */
export function readPublishRequest(body: PublishBody, raw: RawJson, nowMs: number, at = ''): PublishRequest {
  const type = onlyOne(body, ['event_type', 'event', 'type'], at);
  const dataName = onlyOne(body, ['data', 'payload'], at);
  const data = raw.member(dataName);
  if (data === undefined) throw invalidField(`${at}data`, 'is required');
  if (data.length > DATA_BYTES_MAX) {
    throw new AppError({
      code: 'payload_too_large',
      message: `${at}${dataName} has ${data.length} bytes; at most ${DATA_BYTES_MAX} are taken.`,
    });
  }
  const metadata = body.metadata == null ? undefined : raw.member('metadata');
  const deliverAtMs = body.deliver_at == null ? null : Date.parse(body.deliver_at);
  const occurredAtMs = body.timestamp == null ? nowMs : Date.parse(body.timestamp);
  const problems = [
    ...(metadata !== undefined && metadata.length > METADATA_BYTES_MAX
      ? [{ path: `${at}metadata`, message: `must have at most ${METADATA_BYTES_MAX} bytes` }]
      : []),
    ...timeProblems(occurredAtMs, `${at}timestamp`),
    ...(deliverAtMs === null ? [] : scheduleProblems(deliverAtMs, nowMs, `${at}deliver_at`)),
  ];
  if (problems.length > 0) throw invalidFields(problems);
  return {
    type: String(body[type]),
    data: compactJson(data),
    dataValue: body[dataName],
    metadata: metadata === undefined ? null : compactJson(metadata),
    eventId: body.event_id ?? null,
    occurredAtMs,
    orderingKey: body.ordering_key ?? null,
    priority: body.priority ?? 0,
    deliverAtMs: deliverAtMs !== null && deliverAtMs > nowMs ? deliverAtMs : null,
  };
}

/** What two publishes with the same `event_id` must have in common to be the same event. */
export function contentHash(request: Pick<PublishRequest, 'type' | 'data'>): Buffer {
  return createHash('sha256').update(request.type).update('\0').update(request.data).digest();
}

function optionalOrNull<T extends TSchema>(schema: T) {
  return Type.Optional(orNull(schema));
}

function onlyOne<Name extends keyof PublishBody>(
  body: PublishBody,
  names: readonly [Name, ...Name[]],
  at: string,
): Name {
  const given = names.filter((each) => Object.hasOwn(body, each));
  const [first] = given;
  if (first === undefined) throw invalidField(`${at}${names[0]}`, 'is required');
  if (given.length > 1)
    throw invalidField(`${at}${given[1]}`, `is another spelling of ${names[0]}: send only one of them`);
  return first;
}

/** RFC 3339 allows what a Date cannot hold: a leap second, a year beyond the calendar. */
function timeProblems(timeMs: number, path: string): FieldProblem[] {
  return Number.isNaN(timeMs) ? [{ path, message: 'must be a time that exists, such as 2026-01-31T12:00:00Z' }] : [];
}

function scheduleProblems(timeMs: number, nowMs: number, path: string): FieldProblem[] {
  if (timeMs > nowMs + SCHEDULE_MS_MAX) return [{ path, message: 'must be at most 30 days ahead' }];
  return timeProblems(timeMs, path);
}
