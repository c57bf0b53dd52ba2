import { Type } from 'typebox';
import { AppError } from '../kernel/errors.ts';
import { parseRawJson } from '../kernel/raw-json.ts';
import type { ApiClient } from './api-client.ts';
import { CommandError } from './command-error.ts';
import { printable } from './safe-text.ts';

/** An event to publish from the command line. */
export interface OutgoingEvent {
  eventType: string;
  /** JSON text; reaches the server byte for byte. */
  data: Buffer;
  eventId?: string;
  idempotencyKey?: string;
  /** RFC 3339; without it, when it is published. */
  timestamp?: string;
}

const PublishAnswer = Type.Object({
  event_id: Type.String(),
  event_type: Type.String(),
  deliveries: Type.Integer(),
  duplicate: Type.Boolean(),
});

export type PublishAnswer = Type.Static<typeof PublishAnswer>;

/** @throws CommandError when the data is not JSON, and what `ApiClient.call` throws. */
export async function publishEvent(client: ApiClient, event: OutgoingEvent): Promise<PublishAnswer> {
  return await client.call(PublishAnswer, {
    method: 'POST',
    path: '/api/v1/events',
    body: eventBody(event),
    idempotencyKey: event.idempotencyKey,
  });
}

/**
 * The request's bytes. `data` is put in as it was given, so that numbers and keys keep their spelling; it is read
 * first, so that it can be nothing but one JSON value.
 */
export function eventBody(event: OutgoingEvent): Buffer {
  const head = JSON.stringify({ event_type: event.eventType, event_id: event.eventId, timestamp: event.timestamp });
  return Buffer.concat([Buffer.from(`${head.slice(0, -1)},"data":`), checkedJson(event.data), Buffer.from('}')]);
}

/** One line for the person who published. */
export function describePublished(answer: PublishAnswer): string {
  const what = `${printable(answer.event_type)} ${printable(answer.event_id)}`;
  if (answer.duplicate) return `${what} was published before; nothing was sent again.`;
  if (answer.deliveries === 0) return `Published ${what}. No webhook is subscribed to it.`;
  return `Published ${what}: ${answer.deliveries} ${answer.deliveries === 1 ? 'delivery' : 'deliveries'}.`;
}

function checkedJson(data: Buffer): Buffer {
  try {
    return parseRawJson(data, { maxDepth: Number.POSITIVE_INFINITY, enclosingLevels: 0 }).bytes;
  } catch (error) {
    if (error instanceof AppError) throw new CommandError(error.message.replace(/^The (body|JSON)/, 'The data'));
    throw error;
  }
}
