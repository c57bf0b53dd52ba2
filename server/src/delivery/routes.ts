import { type Static, Type } from 'typebox';
import { auditorOf } from '../audit/auditor.ts';
import type { AuditLog, Recording } from '../audit/log.ts';
import type { Database } from '../db/pool.ts';
import type { Caller, Scope } from '../http/caller.ts';
import { filterText, readTimeFilter } from '../http/filters.ts';
import { onlyPage, PageOf, PageQuery, readPage, toPage } from '../http/pagination.ts';
import type { HttpServer } from '../http/server.ts';
import type { Clock } from '../kernel/clock.ts';
import { conflict, invalidField, notFound } from '../kernel/errors.ts';
import { formatId, type IdKind, parseId } from '../kernel/ids.ts';
import type { MaskerOf } from '../tenants/masker-of.ts';
import type { WebhookDirectory } from '../webhooks/directory.ts';
import { findWithin } from '../webhooks/owner.ts';
import {
  attemptsOf,
  type DeliveryFilter,
  type DeliveryRow,
  findDelivery,
  listAttempts,
  listDeliveries,
  payloadIsErased,
  retryNow,
} from './queries.ts';
import { cancelDelivery } from './recovery/cancel.ts';
import { eventId, partOfType, responseStatus } from './recovery/filter.ts';
import { showDelivery } from './show.ts';
import { showAttempts } from './show-attempt.ts';
import { AttemptShown, DELIVERY_STATUSES, DeliveryShown } from './shown.ts';

export interface DeliveryRouteDeps {
  db: Database;
  clock: Clock;
  audit: AuditLog;
  webhooks: WebhookDirectory;
  maskerOf: MaskerOf;
  /** UUID of an event by its TypeID or the publisher's own id. */
  findEventId: (scope: Scope, id: string) => Promise<string | undefined>;
  /** In the transaction that cancels a delivery. */
  onCancelled: Recording<DeliveryRow>;
}

/** Characters of a body that a list shows, and that a single delivery's page shows. */
const BODY_IN_LIST_MAX = 4_096;
const BODY_SHOWN_MAX = 65_536;

const time = Type.Optional(Type.String({ format: 'date-time' }));
const idParam = Type.Object({ id: Type.String() });

const filters = {
  status: Type.Optional(Type.Enum([...DELIVERY_STATUSES])),
  event_id: eventId,
  event_type: filterText(),
  response_status: Type.Optional(responseStatus),
  since: time,
  until: time,
  q: partOfType,
};
const OfWebhookQuery = Type.Object({ ...PageQuery, ...filters });
const DeliveryQuery = Type.Object({ ...OfWebhookQuery.properties, webhook_id: Type.Optional(Type.String()) });

/** Deliveries and attempts; and the retry and the end by hand. */
export function registerDeliveryRoutes(app: HttpServer, deps: DeliveryRouteDeps): void {
  const { db, clock, audit, webhooks, maskerOf } = deps;
  app.addSchema(DeliveryShown);
  app.addSchema(AttemptShown);
  const tags = ['Deliveries'];

  /** @throws AppError 404 for a webhook that is not the caller's. */
  const requireWebhook = async (caller: Caller, text: string): Promise<string> => {
    const id = parseId('webhook', text);
    if (id === undefined || (await findWithin(deps, caller, id)) === undefined) throw notFound('webhook');
    return id;
  };

  const pageOfDeliveries = async (
    caller: Caller,
    query: Static<typeof OfWebhookQuery>,
    webhookId: string | undefined,
  ) => {
    const page = readPage(query);
    const eventId = query.event_id === undefined ? undefined : await deps.findEventId(caller, query.event_id);
    if (query.event_id !== undefined && eventId === undefined) return onlyPage([]);
    const filter: DeliveryFilter = {
      status: query.status,
      webhookId,
      eventId,
      eventType: query.event_type,
      responseStatus: query.response_status,
      ...readTimeFilter(query),
      q: query.q,
    };
    const [rows, masker] = [await listDeliveries(db, caller, filter, page), await maskerOf(caller)];
    return toPage(
      rows,
      page.limit,
      (row) => row.id,
      (row) => showDelivery(row, masker),
    );
  };

  for (const url of ['/api/v1/deliveries', '/api/v1/webhooks/deliveries']) {
    app.get(
      url,
      {
        config: { permission: 'read', portal: 'read' },
        schema: {
          tags,
          summary: 'List deliveries, newest first',
          querystring: DeliveryQuery,
          response: { 200: PageOf(Type.Ref('Delivery')) },
        },
      },
      async ({ query, caller }) => {
        const { webhook_id: webhookId } = query;
        return pageOfDeliveries(
          caller,
          query,
          webhookId === undefined ? undefined : idOf('webhook', webhookId, 'webhook_id'),
        );
      },
    );
  }

  app.get(
    '/api/v1/webhooks/:id/deliveries',
    {
      config: { permission: 'read', portal: 'read' },
      schema: {
        tags,
        summary: "List a webhook's deliveries, newest first",
        params: idParam,
        querystring: OfWebhookQuery,
        response: { 200: PageOf(Type.Ref('Delivery')) },
      },
    },
    async ({ params, query, caller }) => pageOfDeliveries(caller, query, await requireWebhook(caller, params.id)),
  );

  app.get(
    '/api/v1/deliveries/:id',
    {
      config: { permission: 'read', portal: 'read' },
      schema: {
        tags,
        summary: 'A delivery with its attempts',
        params: idParam,
        response: {
          200: Type.Object({ ...DeliveryShown.properties, attempts: Type.Array(Type.Ref('Attempt')) }),
        },
      },
    },
    async ({ params, caller }) => {
      const id = parseId('delivery', params.id);
      const row = id === undefined ? undefined : await findDelivery(db, caller, id);
      if (row === undefined) throw notFound('delivery');
      const [attempts, masker] = [await attemptsOf(db, caller, row.id), await maskerOf(caller)];
      return {
        ...showDelivery(row, masker),
        attempts: await showAttempts(attempts, BODY_SHOWN_MAX, masker),
      };
    },
  );

  app.post(
    '/api/v1/deliveries/:id/retry',
    {
      config: { permission: 'develop', portal: 'manage' },
      schema: {
        tags,
        summary: 'Try a delivery again now',
        description: 'One attempt at once. If it fails, a delivery whose retries are not used up goes on with them.',
        params: idParam,
        response: { 202: Type.Ref('Delivery') },
      },
    },
    async (request, reply) => {
      const { params, caller } = request;
      const id = parseId('delivery', params.id);
      const before = id === undefined ? undefined : await findDelivery(db, caller, id);
      if (before === undefined) throw notFound('delivery');
      const target = await webhooks.find(caller, before.webhook_id);
      if (target === undefined) throw conflict('webhook_deleted', 'The webhook of this delivery was deleted.');
      if (target.status !== 'active') {
        throw conflict(
          'webhook_not_active',
          `The webhook is ${target.status}; its deliveries go on when it is active again.`,
        );
      }
      if (await payloadIsErased(db, caller, before.event_id)) {
        throw conflict('payload_erased', 'The payload of the event was erased; nothing can be sent.');
      }
      const row = await retryNow(db, caller, before.id, clock.now(), (trx, after) =>
        audit.record(trx, auditorOf(request), {
          action: 'delivery.retried',
          resourceType: 'delivery',
          resourceId: formatId('delivery', after.id),
          after: { status: after.status, attempt_count: after.attempt_count },
        }),
      );
      if (row === undefined) throw cannotRetry(await findDelivery(db, caller, before.id));
      return reply.code(202).send(showDelivery(row, await maskerOf(caller)));
    },
  );

  app.post(
    '/api/v1/deliveries/:id/cancel',
    {
      config: { permission: 'develop', portal: 'manage' },
      schema: {
        tags,
        summary: 'Cancel a delivery',
        description:
          'No attempt is made any more. A request that is under way ends and is recorded; the delivery stays cancelled.',
        params: idParam,
        response: { 200: Type.Ref('Delivery') },
      },
    },
    async (request) => {
      const id = parseId('delivery', request.params.id);
      const row = await cancelDelivery(
        db,
        request.caller,
        id,
        new Date(clock.now()),
        async (trx, { before, after }) => {
          await deps.onCancelled(trx, after);
          await audit.record(trx, auditorOf(request), {
            action: 'delivery.cancelled',
            resourceType: 'delivery',
            resourceId: formatId('delivery', after.id),
            before: { status: before.status },
            after: { status: after.status },
          });
        },
      );
      return showDelivery(row, await maskerOf(request.caller));
    },
  );

  app.get(
    '/api/v1/webhooks/:id/logs',
    {
      config: { permission: 'read', portal: 'read' },
      schema: {
        tags,
        summary: "A webhook's attempts with request and response, newest first",
        params: idParam,
        querystring: Type.Object({ ...PageQuery, success_only: Type.Optional(Type.Boolean()) }),
        response: { 200: PageOf(Type.Ref('Attempt')) },
      },
    },
    async ({ params, query, caller }) => {
      const webhookId = await requireWebhook(caller, params.id);
      const page = readPage(query);
      // "success_only: filter by success status": false asks for the failures, absent for both.
      const rows = await listAttempts(db, caller, { webhookId, success: query.success_only }, page);
      const shown = toPage(
        rows,
        page.limit,
        (row) => row.id,
        (row) => row,
      );
      return { ...shown, data: await showAttempts(shown.data, BODY_IN_LIST_MAX, await maskerOf(caller)) };
    },
  );
}

function cannotRetry(row: { status: string } | undefined) {
  switch (row?.status) {
    case undefined:
      return notFound('delivery');
    case 'delivered':
      return conflict('already_delivered', 'The delivery has succeeded; there is nothing to try again.');
    case 'discarded':
      return conflict('delivery_discarded', 'The delivery was discarded and cannot be tried again.');
    case 'held':
      return conflict('webhook_not_active', 'The webhook is not active; its deliveries go on when it is active again.');
    default:
      return conflict('delivery_in_progress', 'An attempt of this delivery is under way.');
  }
}

function idOf(kind: IdKind, text: string, path: string): string {
  const id = parseId(kind, text);
  if (id === undefined) throw invalidField(path, 'is not an id of this kind');
  return id;
}
