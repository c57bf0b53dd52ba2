import { sql } from 'kysely';
import { Type } from 'typebox';
import { auditorOf } from '../audit/auditor.ts';
import type { AuditLog, Recording } from '../audit/log.ts';
import type { Database } from '../db/pool.ts';
import { addReplays, holdPayloads } from '../delivery/recovery/add-replays.ts';
import type { Scope } from '../http/caller.ts';
import type { HttpServer } from '../http/server.ts';
import type { Clock } from '../kernel/clock.ts';
import { conflict, type FieldProblem, invalidFields, notFound } from '../kernel/errors.ts';
import { formatId, type IdSource, parseId } from '../kernel/ids.ts';
import { type Chosen, chooseTargets } from '../routing/filters/choose-targets.ts';
import { notify } from '../tenants/queries.ts';
import type { WebhookDirectory } from '../webhooks/directory.ts';
import { orNull } from '../webhooks/nullable.ts';
import type { WebhookTarget } from '../webhooks/target.ts';
import { addFiltered } from './filtered-tallies.ts';
import { filteredContent, findEvent, findEventId } from './queries.ts';

export interface EventReplayDeps {
  db: Database;
  clock: Clock;
  newId: IdSource;
  audit: AuditLog;
  webhooks: WebhookDirectory;
}

const WEBHOOKS_NAMED_MAX = 1_000;

/**
 * `POST /api/v1/events/{id}/replay`: new deliveries of an event that was published before. The event stays one event,
 * so `webhook-id` is the same as the first time.
 */
export function registerEventReplayRoute(app: HttpServer, deps: EventReplayDeps): void {
  app.post(
    '/api/v1/events/:id/replay',
    {
      config: { permission: 'develop' },
      schema: {
        tags: ['Events'],
        summary: 'Deliver an event again',
        description:
          'To the webhooks named, whatever they are subscribed to and whatever their filters are; without `webhook_ids` ' +
          'to all that are subscribed to its type now, as their filters are now. A webhook that is not active gets it once ' +
          'it is.',
        params: Type.Object({ id: Type.String({ maxLength: 256, description: 'Either of the two ids.' }) }),
        body: Type.Object(
          {
            webhook_ids: Type.Optional(
              orNull(Type.Array(Type.String(), { minItems: 1, maxItems: WEBHOOKS_NAMED_MAX })),
            ),
          },
          { additionalProperties: false },
        ),
        response: {
          202: Type.Object({
            event_id: Type.String(),
            deliveries: Type.Integer(),
            delivery_ids: Type.Array(Type.String()),
            filtered: Type.Optional(
              Type.Integer({ description: 'Webhooks whose filters kept it from them; only where there are some.' }),
            ),
          }),
        },
      },
    },
    async (request, reply) => {
      const { params, body, caller } = request;
      const event = await requireReplayable(deps.db, caller, params.id);
      const chosen =
        body.webhook_ids == null
          ? await chooseSubscribed(deps, caller, event)
          : { wanted: await findNamed(deps.webhooks, caller, body.webhook_ids), filtered: [] };
      const ids = await replayEvent(deps, caller, event, chosen, (trx, deliveries) =>
        deps.audit.record(trx, auditorOf(request), {
          action: 'event.replayed',
          resourceType: 'event',
          resourceId: formatId('event', event.id),
          details: { deliveries, webhook_ids: chosen.wanted.map(({ id }) => formatId('webhook', id)) },
        }),
      );
      return reply.code(202).send({
        event_id: event.external_id ?? formatId('event', event.id),
        deliveries: ids.length,
        delivery_ids: ids.map((id) => formatId('delivery', id)),
        ...(chosen.filtered.length > 0 && { filtered: chosen.filtered.length }),
      });
    },
  );
}

/** @throws AppError 404; 409 for a test, and once the payload is erased. */
async function requireReplayable(db: Database, scope: Scope, text: string) {
  const id = await findEventId(db, scope, text);
  if (id === undefined) throw notFound('event');
  const event = await db
    .selectFrom('events')
    .select(['id', 'external_id', 'event_type', 'priority', 'ordering_key', 'is_test'])
    .select(sql<boolean>`data IS NULL`.as('is_erased'))
    .where('tenant_id', '=', scope.tenantId)
    .where('environment_id', '=', scope.environmentId)
    .where('id', '=', id)
    .executeTakeFirst();
  if (event === undefined) throw notFound('event');
  if (event.is_test) throw conflict('test_event', 'A test is not replayed; send another one.');
  if (event.is_erased) throw payloadErased();
  return event;
}

function payloadErased() {
  return conflict('payload_erased', 'The payload of the event was erased; nothing can be sent.');
}

/** Those who are subscribed now, by their filters of now. The payload is read where one of them has a filter. */
async function chooseSubscribed(
  { db, webhooks }: EventReplayDeps,
  scope: Scope,
  event: Awaited<ReturnType<typeof requireReplayable>>,
): Promise<Chosen<WebhookTarget>> {
  const subscribed = await webhooks.match(scope, event.event_type);
  if (subscribed.every(({ filter }) => filter === null)) return { wanted: subscribed, filtered: [] };
  const row = await findEvent(db, scope, event.id);
  const content = row && filteredContent(row);
  if (content === undefined) throw payloadErased();
  return chooseTargets(subscribed, content);
}

/** The webhooks, each once. @throws AppError 422 that names those which are not the caller's. */
async function findNamed(webhooks: WebhookDirectory, scope: Scope, ids: string[]): Promise<WebhookTarget[]> {
  const found = new Map<string, WebhookTarget>();
  const unknown: FieldProblem[] = [];
  for (const [at, text] of ids.entries()) {
    const id = parseId('webhook', text);
    const target = id === undefined ? undefined : await webhooks.find(scope, id);
    if (target === undefined)
      unknown.push({ path: `webhook_ids.${at}`, message: 'is not a webhook of this environment' });
    else found.set(target.id, target);
  }
  if (unknown.length > 0) throw invalidFields(unknown);
  return [...found.values()];
}

/** Gives the UUIDs of the new deliveries. @throws AppError 409 when the payload was erased just now. */
async function replayEvent(
  { db, clock, newId }: EventReplayDeps,
  { tenantId, environmentId }: Scope,
  event: Awaited<ReturnType<typeof requireReplayable>>,
  { wanted, filtered }: Chosen<WebhookTarget>,
  onReplay: Recording<number>,
): Promise<string[]> {
  const replays = wanted.map((target) => ({
    id: newId(),
    eventId: event.id,
    webhookId: target.id,
    eventType: event.event_type,
    priority: event.priority,
    orderingKey: event.ordering_key,
    held: target.status !== 'active',
  }));
  await db.transaction().execute(async (trx) => {
    const payloads = await holdPayloads(trx, { tenantId, environmentId }, [event.id]);
    if (payloads.length === 0) throw payloadErased();
    await addReplays(trx, { tenantId, environmentId }, replays, new Date(clock.now()));
    await addFiltered(
      trx,
      tenantId,
      filtered.map(({ id }) => id),
    );
    if (replays.some(({ held }) => !held)) await notify(trx, { topic: 'deliveries_due', tenantId, environmentId });
    if (replays.length > 0) await onReplay(trx, replays.length);
  });
  return replays.map(({ id }) => id);
}
