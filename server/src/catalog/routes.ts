import type {} from '@fastify/swagger';
import { Type } from 'typebox';
import { auditorOf } from '../audit/auditor.ts';
import { PageOf } from '../http/pagination.ts';
import type { HttpServer } from '../http/server.ts';
import { conflict, invalidField } from '../kernel/errors.ts';
import { NoContent } from '../tenants/route-parts.ts';
import { registerAvailableEventRoutes } from './available-event-routes.ts';
import { changeCatalog, refuseTooMuch } from './change-catalog.ts';
import {
  EVENT_TYPE_BODY_BYTES_MAX,
  EventTypeBody,
  EventTypeChangeBody,
  mergeFields,
  newEventTypeName,
  readEventTypeChange,
} from './event-type-body.ts';
import { EventTypeQuery, eventTypePage } from './event-type-page.ts';
import { registerPresetRoutes } from './preset-routes.ts';
import { deleteEventType, insertEventType, updateEventType } from './queries.ts';
import { type CatalogRouteDeps, readEventType } from './route-parts.ts';
import { auditedEventType, EventTypeSchema, sendJsonText, showEventType } from './show.ts';

/** `/api/v1/event-types`, its presets, and the same event types for subscribers at `/api/v1/webhooks/events`. */
export function registerEventTypeRoutes(app: HttpServer, deps: CatalogRouteDeps): void {
  const { db, clock } = deps;
  const tags = ['Event types'];
  const read = { permission: 'read', portal: 'read' } as const;
  const develop = { permission: 'develop' } as const;
  const params = Type.Object({ name: Type.String() });
  const bodyLimit = EVENT_TYPE_BODY_BYTES_MAX;

  registerPresetRoutes(app, deps);
  registerAvailableEventRoutes(app, deps);

  app.get(
    '/api/v1/event-types',
    {
      config: read,
      schema: {
        tags,
        summary: 'List event types by name',
        querystring: Type.Object({
          ...EventTypeQuery,
          preset: Type.Optional(
            Type.String({ maxLength: 64, pattern: '^[a-z-]*$', description: 'Only what it brought.' }),
          ),
        }),
        response: { 200: PageOf(EventTypeSchema) },
      },
    },
    async (request, reply) => {
      const page = await eventTypePage(db, request.caller, request.query, showEventType);
      return sendJsonText(reply, page);
    },
  );

  app.post(
    '/api/v1/event-types',
    {
      config: develop,
      bodyLimit,
      schema: { tags, summary: 'Create an event type', body: EventTypeBody, response: { 201: EventTypeSchema } },
    },
    async (request, reply) => {
      const name = newEventTypeName(request.body.name);
      const fields = mergeFields(name, undefined, readEventTypeChange(request.body, request.rawJson));
      const row = await changeCatalog(deps, auditorOf(request), async (trx) => {
        const made = await insertEventType(trx, request.caller, name, fields, new Date(clock.now()));
        if (made === undefined) throw conflict('event_type_exists', `There already is an event type ${name}.`);
        await refuseTooMuch(trx, request.caller);
        return {
          result: made,
          done: { action: 'event_type.created', ...audited(name), after: auditedEventType(made) },
        };
      });
      return sendJsonText(reply.code(201), showEventType(row));
    },
  );

  app.get(
    '/api/v1/event-types/:name',
    { config: read, schema: { tags, summary: 'Read an event type', params, response: { 200: EventTypeSchema } } },
    async (request, reply) => {
      const row = await readEventType(db, request.caller, request.params.name);
      return sendJsonText(reply, showEventType(row));
    },
  );

  app.route({
    method: ['PUT', 'PATCH'],
    url: '/api/v1/event-types/:name',
    config: develop,
    bodyLimit,
    schema: {
      tags,
      summary: 'Change an event type; absent fields stay, null clears',
      params,
      body: EventTypeChangeBody,
      response: { 200: EventTypeSchema },
    },
    handler: async (request, reply) => {
      const { caller, body } = request;
      const { name } = request.params;
      if (body.name !== undefined && body.name !== name) {
        throw invalidField('name', 'never changes; create another event type in its place');
      }
      const change = readEventTypeChange(body, request.rawJson);
      const row = await changeCatalog(deps, auditorOf(request), async (trx) => {
        const current = await readEventType(trx, caller, name);
        const fields = mergeFields(name, current, change);
        const changed = await updateEventType(trx, caller, name, fields, new Date(clock.now()));
        await refuseTooMuch(trx, caller);
        const states = { before: auditedEventType(current), after: auditedEventType(changed) };
        return { result: changed, done: { action: 'event_type.updated', ...audited(name), ...states } };
      });
      return sendJsonText(reply, showEventType(row));
    },
  });

  app.delete(
    '/api/v1/event-types/:name',
    {
      config: develop,
      schema: {
        tags,
        summary: 'Delete an event type; events of it that were published stay',
        params,
        response: { 204: NoContent },
      },
    },
    async (request, reply) => {
      const { name } = request.params;
      await changeCatalog(deps, auditorOf(request), async (trx) => {
        const current = await readEventType(trx, request.caller, name);
        await deleteEventType(trx, request.caller, name);
        const done = { action: 'event_type.deleted', ...audited(name), before: auditedEventType(current) } as const;
        return { result: undefined, done };
      });
      return reply.code(204).send();
    },
  );
}

function audited(name: string) {
  return { resourceType: 'event_type', resourceId: name };
}
