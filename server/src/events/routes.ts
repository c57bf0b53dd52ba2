import type { Selectable } from 'kysely';
import { Type } from 'typebox';
import { auditorOf } from '../audit/auditor.ts';
import type { AuditLog } from '../audit/log.ts';
import type { Database } from '../db/pool.ts';
import type { Tables } from '../db/tables.ts';
import { showDelivery } from '../delivery/show.ts';
import { DELIVERY_STATUSES } from '../delivery/shown.ts';
import { filterText, readTimeFilter } from '../http/filters.ts';
import { PageOf, PageQuery, readPage, toPage } from '../http/pagination.ts';
import type { HttpServer } from '../http/server.ts';
import type { Clock } from '../kernel/clock.ts';
import { invalidField, notFound } from '../kernel/errors.ts';
import { formatId, parseId, timeOfId } from '../kernel/ids.ts';
import type { Masker } from '../masking/masker.ts';
import { MASK } from '../masking/rules.ts';
import type { MaskerOf } from '../tenants/masker-of.ts';
import { NoContent } from '../tenants/route-parts.ts';
import { erasePayload } from './erase-payload.ts';
import { deliveriesOf, type EventRow, findEvent, findEventId, listEvents } from './queries.ts';

const nullableText = Type.Union([Type.String(), Type.Null()]);

const EventShown = Type.Object(
  {
    id: Type.String(),
    event_id: Type.String({ description: 'The publisher’s own id, else the same as `id`.' }),
    event_type: Type.String(),
    timestamp: Type.String(),
    ordering_key: nullableText,
    priority: Type.Integer(),
    deliver_at: nullableText,
    delivery_count: Type.Integer({ description: 'Webhooks it went to when it was accepted.' }),
    is_test: Type.Boolean(),
    created_at: Type.String(),
  },
  { $id: 'Event', title: 'Event' },
);

export interface EventRouteDeps {
  db: Database;
  clock: Clock;
  audit: AuditLog;
  maskerOf: MaskerOf;
}

/** Reading events, `GET /api/v1/events` and `/{id}`, and erasing what one carried. */
export function registerEventRoutes(app: HttpServer, deps: EventRouteDeps): void {
  const { db, clock, audit, maskerOf } = deps;
  app.addSchema(EventShown);
  const tags = ['Events'];

  app.get(
    '/api/v1/events',
    {
      config: { permission: 'read' },
      schema: {
        tags,
        summary: 'List events, newest first',
        querystring: Type.Object({
          ...PageQuery,
          event_type: filterText(),
          since: Type.Optional(Type.String({ format: 'date-time' })),
          until: Type.Optional(Type.String({ format: 'date-time' })),
          q: filterText(
            'Part of the type or of `event_id`; of the type alone where the tenant masks what is found in texts and ' +
              'the role does not see it.',
          ),
          webhook_id: Type.Optional(Type.String({ description: 'Only events with a delivery to this webhook.' })),
          status: Type.Optional(
            Type.Enum([...DELIVERY_STATUSES], { description: 'Only events with a delivery in this status.' }),
          ),
        }),
        response: { 200: PageOf(Type.Ref('Event')) },
      },
    },
    async ({ query, caller }) => {
      const page = readPage(query);
      const webhookId = query.webhook_id === undefined ? undefined : parseId('webhook', query.webhook_id);
      if (query.webhook_id !== undefined && webhookId === undefined) {
        throw invalidField('webhook_id', 'is not the id of a webhook');
      }
      const masker = await maskerOf(caller);
      const filter = {
        eventType: query.event_type,
        q: query.q,
        // Who could search in what is masked could guess it, a letter at a time.
        qInEventIds: !masker.changesText,
        webhookId,
        status: query.status,
        ...readTimeFilter(query),
      };
      const rows = await listEvents(db, caller, filter, page);
      return toPage(
        rows,
        page.limit,
        (row) => row.id,
        (row) => showEvent(row, masker),
      );
    },
  );

  app.get(
    '/api/v1/events/:id',
    {
      config: { permission: 'read', portal: 'read' },
      schema: {
        tags,
        summary: 'An event with its data and deliveries',
        description:
          '`data` and `metadata` are given as they were published, number spellings and key order included; null once ' +
          'erased. Roles without the permission `reveal` see them masked. For a portal token with an owner it is there if ' +
          'it went to a webhook of the owner, `deliveries` and `delivery_count` are of these webhooks, and `metadata` and ' +
          '`ordering_key` are null: they are the publisher’s.',
        params: Type.Object({ id: Type.String({ maxLength: 256, description: 'Either of the two ids.' }) }),
        response: {
          200: Type.Object({
            ...EventShown.properties,
            data: Type.Unknown(),
            metadata: Type.Unknown(),
            deliveries: Type.Array(Type.Ref('Delivery')),
          }),
        },
      },
    },
    async ({ params, caller }, reply) => {
      const id = await findEventId(db, caller, params.id);
      const row = id === undefined ? undefined : await findEvent(db, caller, id);
      if (row === undefined) throw notFound('event');
      const [deliveries, masker] = [await deliveriesOf(db, caller, row.id), await maskerOf(caller)];
      // A text is sent as it is: writing the data anew would change what was published.
      const shown = {
        ...showEvent(row, masker),
        deliveries: deliveries.map((delivery) => showDelivery(delivery, masker)),
      };
      const members = rawMembers(row, masker);
      const text =
        caller.owner === undefined
          ? withRawMembers(shown, members)
          : withRawMembers({ ...shown, ...asReceived(deliveries) }, { ...members, metadata: 'null' });
      return reply.type('application/json; charset=utf-8').send(text as never);
    },
  );

  app.delete(
    '/api/v1/events/:id/payload',
    {
      config: { permission: 'develop' },
      schema: {
        tags,
        summary: "Erase an event's data and metadata",
        description:
          'For good. Deliveries of it that wait or are held end as discarded, with the reason `payload_erased`; one ' +
          'that is under way, or next in line, may still be sent. What receivers answered is kept.',
        params: Type.Object({ id: Type.String({ maxLength: 256, description: 'Either of the two ids.' }) }),
        response: { 204: NoContent },
      },
    },
    async (request, reply) => {
      const { params, caller } = request;
      const id = await findEventId(db, caller, params.id);
      if (id === undefined) throw notFound('event');
      const erased = await erasePayload(db, caller, id, new Date(clock.now()), (trx, { discarded }) =>
        audit.record(trx, auditorOf(request), {
          action: 'event.payload_erased',
          resourceType: 'event',
          resourceId: formatId('event', id),
          details: { deliveries_discarded: discarded },
        }),
      );
      if (!erased) throw notFound('event');
      return reply.code(204).send();
    },
  );
}

/** What an event says of itself to those whose webhooks are only some of its receivers. */
function asReceived(deliveries: { webhook_id: string }[]) {
  return { delivery_count: new Set(deliveries.map(({ webhook_id }) => webhook_id)).size, ordering_key: null };
}

/** An event as one JSON text, its data and metadata spelled as they were published. */
export function showEventWithData(row: Selectable<Tables['events']>, masker: Masker): string {
  return withRawMembers(showEvent(row, masker), rawMembers(row, masker));
}

function rawMembers(row: Selectable<Tables['events']>, masker: Masker): Record<string, string> {
  const text = (bytes: Buffer | null) => (bytes === null ? 'null' : masker.json(bytes.toString('utf8')));
  return { data: text(row.data), metadata: text(row.metadata) };
}

function withRawMembers(shown: object, raw: Record<string, string>): string {
  const members = Object.entries(raw).map(([name, text]) => `,${JSON.stringify(name)}:${text}`);
  return `${JSON.stringify(shown).slice(0, -1)}${members.join('')}}`;
}

function showEvent(row: EventRow, masker: Masker) {
  const id = formatId('event', row.id);
  return {
    id,
    event_id: row.external_id === null ? id : masker.text(row.external_id),
    event_type: row.event_type,
    timestamp: row.occurred_at.toISOString(),
    ordering_key: row.ordering_key === null ? null : showOrderingKey(row.ordering_key, masker),
    priority: row.priority,
    deliver_at: row.deliver_at?.toISOString() ?? null,
    delivery_count: row.delivery_count,
    is_test: row.is_test,
    created_at: new Date(timeOfId(row.id)).toISOString(),
  };
}

/** Publishers often take it from the data, and nothing says from where. */
function showOrderingKey(key: string, masker: Masker): string {
  return masker.hidesByPlace ? MASK.slice(0, key.length) : masker.text(key);
}
