import type { FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import { EVENT_TYPE_NAME_LENGTH_MAX, EVENT_TYPE_NAME_PATTERN } from '../catalog/event-type-name.ts';
import { BODY_DEPTH_MAX } from '../http/server.ts';
import { AppError, invalidField, malformed } from '../kernel/errors.ts';
import { parseRawJson } from '../kernel/raw-json.ts';
import { publishOfBinary, publishOfStructured } from './cloud-event.ts';
import { BATCH_EVENTS_MAX } from './publish-request.ts';

const STRUCTURED = 'application/cloudevents+json';
const BATCH = 'application/cloudevents-batch+json';

/** A CloudEvent as the reference shows it. `cloud-event.ts` judges them. */
const CloudEventSchema = Type.Object(
  {
    specversion: Type.Literal('1.0'),
    id: Type.String({ pattern: '^[\\x21-\\x7e]{1,256}$', description: 'Is the `event_id`.' }),
    source: Type.String({ minLength: 1, format: 'uri-reference' }),
    type: Type.String({ maxLength: EVENT_TYPE_NAME_LENGTH_MAX, pattern: EVENT_TYPE_NAME_PATTERN }),
    time: Type.Optional(Type.String({ format: 'date-time' })),
    subject: Type.Optional(Type.String({ minLength: 1 })),
    dataschema: Type.Optional(Type.String({ minLength: 1, format: 'uri' })),
    datacontenttype: Type.Optional(
      Type.String({ description: 'JSON: `application/json`, or one that ends in `+json`.' }),
    ),
    data: Type.Optional(Type.Unknown()),
    data_base64: Type.Optional(Type.String({ description: 'JSON as Base64, in place of `data`.' })),
  },
  {
    additionalProperties: Type.Unsafe({ type: ['string', 'integer', 'boolean', 'null'] }),
    description:
      'CloudEvents 1.0. All attributes but `id` and `type` become members of `metadata`, and webhooks with the envelope ' +
      '`cloudevents` or `cloudevents_binary` get all of them as they were published.',
  },
);

/** What `POST /api/v1/events` takes beside its own JSON, by media type. */
export const CLOUD_EVENT_BODY = { [STRUCTURED]: CloudEventSchema };

/** What `POST /api/v1/events/batch` takes beside its own JSON, by media type. */
export const CLOUD_EVENTS_BODY = { [BATCH]: Type.Array(CloudEventSchema) };

/**
 * Makes a plain publish of a request that is a CloudEvent: one of the structured mode by its media type, or one of the
 * binary mode by its `ce-specversion`. It comes before the body is judged; all other requests pass as they are.
 *
 * @throws AppError 400, 415, 422
 */
export async function readCloudEvent(request: FastifyRequest): Promise<void> {
  switch (mediaType(request)) {
    case STRUCTURED:
      if (request.rawJson === undefined) throw malformed('The body is empty; a CloudEvent is needed.');
      replaceBody(request, publishOfStructured(request.rawJson), 1);
      return;
    case BATCH:
      throw unsupported('A batch of CloudEvents goes to POST /api/v1/events/batch.');
    default:
      if (request.headers['ce-specversion'] === undefined) return;
      replaceBody(request, publishOfBinary(request.headers, request.rawJson?.bytes), 1);
  }
}

/**
 * The same for a batch of them. Whatever the batch is of, it is counted first: of the millions of elements that a body
 * has room for each would be read, or complained of, for seconds in which nobody else is answered.
 *
 * @throws AppError 400, 415, 422
 */
export async function readCloudEvents(request: FastifyRequest): Promise<void> {
  refuseTooMany(request.rawJson?.value);
  switch (mediaType(request)) {
    case BATCH: {
      if (request.rawJson === undefined) throw malformed('The body is empty; a list of CloudEvents is needed.');
      const events = request.rawJson.elements();
      if (events === undefined) throw invalidField('body', 'must be a list of CloudEvents');
      const publishes = events.map((event, at) => publishOfStructured(event, `events.${at}.`));
      const text = publishes.flatMap((publish, at) => (at === 0 ? [publish] : [COMMA, publish]));
      replaceBody(request, Buffer.concat([BATCH_OPENS, ...text, BATCH_CLOSES]), 3);
      return;
    }
    case STRUCTURED:
      throw unsupported('A single CloudEvent goes to POST /api/v1/events.');
  }
}

function refuseTooMany(value: unknown): void {
  const events = Array.isArray(value) ? value : (value as { events?: unknown } | null | undefined)?.events;
  if (!Array.isArray(events) || events.length <= BATCH_EVENTS_MAX) return;
  throw invalidField('events', `must NOT have more than ${BATCH_EVENTS_MAX} items`);
}

const BATCH_OPENS = Buffer.from('{"events":[');
const COMMA = Buffer.from(',');
const BATCH_CLOSES = Buffer.from(']}');

function mediaType({ headers }: FastifyRequest): string | undefined {
  return headers['content-type']?.split(';', 1)[0]?.trim().toLowerCase();
}

function replaceBody(request: FastifyRequest, text: Buffer, enclosingLevels: number): void {
  request.rawJson = parseRawJson(text, { maxDepth: BODY_DEPTH_MAX, enclosingLevels });
  request.body = request.rawJson.value;
}

function unsupported(message: string): AppError {
  return new AppError({ code: 'unsupported_media_type', message });
}
