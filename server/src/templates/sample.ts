import { type Static, Type } from 'typebox';
import { compileBody } from '../http/validation.ts';
import { parseRawJson } from '../kernel/raw-json.ts';

/** A whole event, as call-center.md prints its payload: a sample of this form is more than an event's data. */
const SampleEvent = Type.Object(
  {
    event_type: Type.String({ minLength: 1, maxLength: 200, pattern: '^[^\\u0000]*$' }),
    event_id: Type.Optional(Type.String({ minLength: 1, maxLength: 200 })),
    timestamp: Type.Optional(Type.String({ format: 'date-time' })),
    data: Type.Unknown(),
    metadata: Type.Optional(Type.Unsafe<object>({ type: 'object', additionalProperties: true })),
  },
  { additionalProperties: false },
);

/** What a sample says of an event, its values as JSON texts. */
export interface Sample {
  data: string;
  eventType?: string;
  eventId?: string;
  timestamp?: string;
  metadata?: string;
}

const isSampleEvent = compileBody<Static<typeof SampleEvent>>(SampleEvent);

/**
 * Reads a sample: an event's data, or an event with `event_type` and `data` and nothing that events do not have.
 *
 * @param bytes a JSON text that was read before, with its depth.
 */
export function readSample(bytes: Buffer): Sample {
  // What it is part of was not too deep.
  const raw = parseRawJson(bytes, { maxDepth: Number.MAX_SAFE_INTEGER });
  const { value } = raw;
  const whole = { data: bytes.toString() };
  if (!isSampleEvent(value)) return whole;
  const atMs = value.timestamp === undefined ? undefined : Date.parse(value.timestamp);
  const [data, metadata] = [raw.member('data'), raw.member('metadata')];
  if (data === undefined || Number.isNaN(atMs)) return whole;
  return {
    data: data.toString(),
    eventType: value.event_type,
    ...(value.event_id !== undefined && { eventId: value.event_id }),
    ...(atMs !== undefined && { timestamp: new Date(atMs).toISOString() }),
    ...(metadata !== undefined && { metadata: metadata.toString() }),
  };
}
