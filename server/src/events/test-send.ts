import { Type } from 'typebox';
import { auditorOf } from '../audit/auditor.ts';
import type { AuditLog } from '../audit/log.ts';
import type { EventTypeDirectory } from '../catalog/directory.ts';
import type { Database } from '../db/pool.ts';
import type { DeliveryEngine } from '../delivery/engine.ts';
import { attemptsOf } from '../delivery/queries.ts';
import { EVENT_SOURCE } from '../delivery/rows.ts';
import { showAttempt } from '../delivery/show-attempt.ts';
import { AttemptShown } from '../delivery/shown.ts';
import type { DeliveryTask, EventInHand } from '../delivery/task.ts';
import type { Scope } from '../http/caller.ts';
import type { HttpServer } from '../http/server.ts';
import type { Clock } from '../kernel/clock.ts';
import { compactJson } from '../kernel/compact-json.ts';
import { AppError, notFound } from '../kernel/errors.ts';
import { formatId, type IdSource, parseId } from '../kernel/ids.ts';
import { FilteredEvent } from '../routing/filters/filtered-event.ts';
import type { MaskerOf } from '../tenants/masker-of.ts';
import type { WebhookDirectory } from '../webhooks/directory.ts';
import { orNull } from '../webhooks/nullable.ts';
import { findWithin } from '../webhooks/owner.ts';
import type { WebhookTarget } from '../webhooks/target.ts';
import type { EventWriter } from './event-writer.ts';
import { DATA_BYTES_MAX, EventTypeName } from './publish-request.ts';

export interface TestSendDeps {
  db: Database;
  eventTypes: EventTypeDirectory;
  webhooks: WebhookDirectory;
  maskerOf: MaskerOf;
  engine: DeliveryEngine;
  writer: EventWriter;
  clock: Clock;
  newId: IdSource;
  audit: AuditLog;
}

/** Sent where a webhook is subscribed to nothing that has a sample. */
const FALLBACK = { type: 'webhook.test', data: Buffer.from('{"message":"This is a test delivery from Posthorn."}') };

const BODY_SHOWN_MAX = 65_536;

/**
 * `POST /api/v1/webhooks/{id}/test`: sends one event to one webhook at once, whatever its status and subscriptions are,
 * and answers with the attempt. The test is recorded like any other attempt, and never retried.
 */
export function registerTestRoute(app: HttpServer, deps: TestSendDeps): void {
  app.post(
    '/api/v1/webhooks/:id/test',
    {
      config: { permission: 'develop', portal: 'manage', sends: true },
      schema: {
        tags: ['Webhooks'],
        summary: 'Send a test',
        description:
          "Sends the event type's sample, or `payload`, and answers with the attempt, also when it failed. " +
          'Without `event_type` the first type that the webhook is subscribed to is taken. Filters do not hold it up; ' +
          '`filters_match` says what they say of it.',
        params: Type.Object({ id: Type.String() }),
        body: Type.Object(
          {
            event_type: Type.Optional(orNull(Type.String(EventTypeName))),
            payload: Type.Optional(Type.Unknown()),
          },
          { additionalProperties: false },
        ),
        response: {
          200: Type.Object({
            ...AttemptShown.properties,
            filters_match: Type.Boolean({ description: 'Whether the webhook would get such an event.' }),
          }),
        },
      },
    },
    async (request) => {
      const { caller } = request;
      const id = parseId('webhook', request.params.id);
      const target = id === undefined ? undefined : await findWithin(deps, caller, id);
      if (target === undefined) throw notFound('webhook');
      const payload = request.rawJson?.member('payload');
      if (payload !== undefined && payload.length > DATA_BYTES_MAX) {
        throw new AppError({
          code: 'payload_too_large',
          message: `payload may have ${DATA_BYTES_MAX} bytes at most.`,
        });
      }
      const type = request.body.event_type ?? undefined;
      const content = await contentOf(deps, caller, target, type, payload);
      // A test is stored by a commit that is shared with others: the entry is there before it.
      await deps.db.transaction().execute((trx) =>
        deps.audit.record(trx, auditorOf(request), {
          action: 'webhook.tested',
          resourceType: 'webhook',
          resourceId: formatId('webhook', target.id),
          details: { event_type: content.type, payload_given: payload !== undefined },
        }),
      );
      const deliveryId = await sendTest(deps, caller, target, content);
      const [row] = await attemptsOf(deps.db, caller, deliveryId);
      if (row === undefined) throw new Error('A test was recorded without an attempt.');
      const filters_match = filtersMatch(target, content, deps.clock.now());
      return { ...showAttempt(row, BODY_SHOWN_MAX, await deps.maskerOf(caller)), filters_match };
    },
  );
}

interface Content {
  type: string;
  data: Buffer;
}

async function contentOf(
  deps: TestSendDeps,
  scope: Scope,
  target: WebhookTarget,
  type: string | undefined,
  payload: Buffer | undefined,
): Promise<Content> {
  if (type !== undefined) {
    const entry = await deps.eventTypes.lookup(scope, type);
    const sample = entry === 'unknown' ? undefined : entry.sample;
    if (payload !== undefined) return { type, data: compactJson(payload) };
    if (sample != null) return { type, data: compactJson(sample) };
    if (entry === 'unknown') throw await deps.eventTypes.unknownEventType(scope, type, 'event_type');
    return { type, data: FALLBACK.data };
  }
  const subscribed = await deps.eventTypes.firstMatching(scope, target.events);
  return {
    type: subscribed?.name ?? FALLBACK.type,
    data: compactJson(payload ?? subscribed?.sample ?? FALLBACK.data),
  };
}

function filtersMatch({ filter }: WebhookTarget, { type, data }: Content, occurredAtMs: number): boolean {
  return (
    filter === null || filter.matches(new FilteredEvent({ type, data, occurredAtMs, eventId: null, metadata: null }))
  );
}

/** Stores and sends it; gives the delivery's UUID once its attempt is recorded. */
async function sendTest(deps: TestSendDeps, scope: Scope, target: WebhookTarget, content: Content): Promise<string> {
  const { engine, writer, clock, newId } = deps;
  const nowMs = clock.now();
  const uuid = newId();
  const id = formatId('event', uuid);
  const event: EventInHand = {
    uuid,
    id,
    publicId: id,
    type: content.type,
    timestamp: new Date(nowMs).toISOString(),
    data: content.data,
    metadata: null,
    source: EVENT_SOURCE,
  };
  const { tenantId, environmentId } = scope;
  const task: DeliveryTask = {
    tenantId,
    environmentId,
    id: newId(),
    webhookId: target.id,
    event,
    attemptCount: 0,
    trigger: 'test',
    priority: 0,
    late: false,
    claimed: false,
    orderingKey: null,
    orderNumber: null,
  };
  await writer.store([
    {
      tenantId,
      environmentId,
      event,
      externalId: null,
      occurredAtMs: nowMs,
      orderingKey: null,
      priority: 0,
      deliverAtMs: null,
      isTest: true,
      keys: [],
      deliveries: [{ task, place: 'test', dueAtMs: null, ordered: false }],
      filtered: [],
    },
  ]);
  await engine.sendTest(task, target);
  return task.id;
}
