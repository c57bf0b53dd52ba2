import { createHash } from 'node:crypto';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import type { HttpServer } from '../http/server.ts';
import type { Clock } from '../kernel/clock.ts';
import { malformed } from '../kernel/errors.ts';
import { CLOUD_EVENT_BODY, CLOUD_EVENTS_BODY, readCloudEvent, readCloudEvents } from './cloud-event-bodies.ts';
import { BATCH_EVENTS_MAX, PublishBody, type PublishRequest, readPublishRequest } from './publish-request.ts';
import {
  giveBackDuplicates,
  giveBackRefused,
  sizesOf,
  type TakeEvents,
  tightestHeaders,
} from './publish-within-limits.ts';
import type { IdempotencyKey, Publisher, PublishResult } from './publisher.ts';

const PublishAnswer = Type.Object({
  event_id: Type.String({ description: 'Your `event_id`, else the id given by Posthorn.' }),
  id: Type.String(),
  event_type: Type.String(),
  status: Type.Enum(['accepted', 'scheduled', 'no_subscribers'], {
    description:
      '`no_subscribers`: the event is kept, and goes to no webhook: none is subscribed to its type, or filters keep it ' +
      'from those that are.',
  }),
  deliveries: Type.Integer({ description: 'Webhooks it goes to.' }),
  filtered: Type.Optional(
    Type.Integer({ description: 'Webhooks whose filters kept it from them; only where there are some.' }),
  ),
  duplicate: Type.Boolean({ description: 'It was published before; nothing is delivered again.' }),
});

/** Bytes of a batch's body. */
const BATCH_BYTES_MAX = 16 * 1024 * 1024;

/** `POST /api/v1/events` and `/batch`. The 202 is sent after the commit, never before. */
export function registerPublishRoutes(
  app: HttpServer,
  deps: { publisher: Publisher; clock: Clock; takeEvents: TakeEvents },
): void {
  const { publisher, clock } = deps;

  const publish = async (
    request: FastifyRequest,
    reply: FastifyReply,
    events: PublishRequest[],
    idempotencyKey?: IdempotencyKey,
  ): Promise<PublishResult[]> => {
    const grant = await deps.takeEvents(request.caller, sizesOf(events));
    reply.headers(tightestHeaders(request.grant, grant) ?? {});
    try {
      const results = await publisher.publish(request.caller, events, idempotencyKey);
      giveBackDuplicates(grant, results);
      return results;
    } catch (error) {
      giveBackRefused(grant, error, events.length);
      throw error;
    }
  };

  app.post(
    '/api/v1/events',
    {
      config: { permission: 'publish', idempotency: 'own', otherBodies: CLOUD_EVENT_BODY },
      preValidation: readCloudEvent,
      schema: {
        tags: ['Events'],
        summary: 'Publish an event',
        description:
          'Takes CloudEvents 1.0 as well, in the structured mode and, with `ce-` headers, in the binary mode. ' +
          'docs/event-types.md has the rules.',
        body: PublishBody,
        response: { 202: PublishAnswer },
      },
    },
    async (request, reply) => {
      const raw = request.rawJson;
      if (raw === undefined) throw malformed('The body is empty; an event is needed.');
      const event = readPublishRequest(request.body, raw, clock.now());
      const [result] = await publish(request, reply, [event], idempotencyKeyOf(request, raw.bytes));
      if (result === undefined) throw new Error('An event was published without a result.');
      return reply.code(202).send(result);
    },
  );

  app.post(
    '/api/v1/events/batch',
    {
      config: { permission: 'publish', enclosingLevels: 3, otherBodies: CLOUD_EVENTS_BODY },
      preValidation: readCloudEvents,
      bodyLimit: BATCH_BYTES_MAX,
      schema: {
        tags: ['Events'],
        summary: 'Publish up to 1,000 events, all or none',
        body: Type.Object(
          { events: Type.Array(PublishBody, { minItems: 1, maxItems: BATCH_EVENTS_MAX }) },
          { additionalProperties: false },
        ),
        response: { 202: Type.Object({ data: Type.Array(PublishAnswer) }) },
      },
    },
    async (request, reply) => {
      const now = clock.now();
      const raws = request.rawJson?.elements('events') ?? [];
      const events = request.body.events.map((body, at) => {
        const raw = raws[at];
        if (raw === undefined) throw new Error('A batch and its raw text have different lengths.');
        return readPublishRequest(body, raw, now, `events.${at}.`);
      });
      return reply.code(202).send({ data: await publish(request, reply, events) });
    },
  );
}

/** @throws AppError 400 for a key that is empty, too long or not plain ASCII. */
function idempotencyKeyOf(request: FastifyRequest, body: Buffer): IdempotencyKey | undefined {
  const key = request.headers['idempotency-key'];
  if (key === undefined) return undefined;
  if (typeof key !== 'string' || !/^[\x21-\x7e]{1,255}$/.test(key)) {
    throw malformed('Idempotency-Key must be 1 to 255 visible ASCII characters.', 'invalid_idempotency_key');
  }
  return { key, contentHash: createHash('sha256').update(body).digest() };
}
