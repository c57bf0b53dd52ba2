import type { FastifyReply } from 'fastify';
import { Type } from 'typebox';
import { hidden } from '../audit/changed-fields.ts';
import type { EventTypeRow } from './queries.ts';

const Time = Type.String({ format: 'date-time' });
const NullableText = Type.Unsafe<string | null>({ type: ['string', 'null'] });
const Schema = Type.Unknown({ description: 'JSON Schema 2020-12 of the data, or null; as it was written.' });
const Sample = Type.Unknown({ description: 'Data of an example event, or null; as it was written.' });

/** An event type as `/api/v1/event-types` shows it. */
export const EventTypeSchema = Type.Object({
  name: Type.String(),
  group: Type.String(),
  description: Type.String(),
  enforce_schema: Type.Boolean(),
  deprecated: Type.Boolean(),
  preset: NullableText,
  created_at: Time,
  updated_at: Time,
  schema: Schema,
  sample: Sample,
});

/** The same for subscribers: `/api/v1/webhooks/events`. `name` and `event_type` are the same. */
export const AvailableEventSchema = Type.Object({
  name: Type.String(),
  event_type: Type.String(),
  group: Type.String(),
  description: Type.String(),
  deprecated: Type.Boolean(),
  sample: Sample,
});

export const AvailableEventDetailsSchema = Type.Object({
  ...AvailableEventSchema.properties,
  enforce_schema: Type.Boolean(),
  schema: Schema,
});

/** JSON text of an `EventTypeSchema`, with the stored texts of schema and sample untouched. */
export function showEventType(row: EventTypeRow): string {
  const { name, group_name: group, description, enforce_schema, deprecated, preset, schema, sample } = row;
  const created_at = row.created_at.toISOString();
  const updated_at = row.updated_at.toISOString();
  return withRaw(
    { name, group, description, enforce_schema, deprecated, preset, created_at, updated_at },
    { schema, sample },
  );
}

/** An event type for the audit log. A sample may be of somebody's real data, which must not stay there: only its size. */
export function auditedEventType(row: EventTypeRow) {
  const { name, group_name: group, description, enforce_schema, deprecated, preset, schema, sample } = row;
  const shown = { name, group, description, enforce_schema, deprecated, preset };
  return {
    ...shown,
    schema: schema === null ? null : JSON.parse(schema),
    sample: sample === null ? null : hidden(sample, `(${Buffer.byteLength(sample)} bytes)`),
  };
}

export function showAvailableEvent(row: EventTypeRow): string {
  const { name, group_name: group, description, deprecated, sample } = row;
  return withRaw({ name, event_type: name, group, description, deprecated }, { sample });
}

export function showAvailableEventDetails(row: EventTypeRow): string {
  const { name, group_name: group, description, deprecated, enforce_schema, schema, sample } = row;
  return withRaw({ name, event_type: name, group, description, deprecated, enforce_schema }, { schema, sample });
}

/**
 * Sends JSON text as it is. The response schema of a route would write numbers anew and drop members that it does not
 * name, so a sample would not be what was given.
 */
export function sendJsonText(reply: FastifyReply, text: string): FastifyReply {
  return reply.type('application/json; charset=utf-8').send(text);
}

function withRaw(members: object, raw: Record<string, string | null>): string {
  const texts = Object.entries(raw).map(([name, text]) => `,"${name}":${text ?? 'null'}`);
  return `${JSON.stringify(members).slice(0, -1)}${texts.join('')}}`;
}
