import type {} from '@fastify/swagger';
import { Type } from 'typebox';
import { PageOf } from '../http/pagination.ts';
import type { HttpServer } from '../http/server.ts';
import { EVENT_TYPES_MAX } from './change-catalog.ts';
import { EventTypeQuery, eventTypePage } from './event-type-page.ts';
import { type CatalogRouteDeps, readEventType } from './route-parts.ts';
import {
  AvailableEventDetailsSchema,
  AvailableEventSchema,
  sendJsonText,
  showAvailableEvent,
  showAvailableEventDetails,
} from './show.ts';

/**
 * `/api/v1/webhooks/events`: what a webhook can subscribe to. The documents of the ISP framework and the WhatsApp CRM
 * have both paths, and clients of theirs expect all events in one answer.
 */
export function registerAvailableEventRoutes(app: HttpServer, deps: CatalogRouteDeps): void {
  const tags = ['Event types'];
  const config = { permission: 'read', portal: 'read' } as const;

  app.get(
    '/api/v1/webhooks/events',
    {
      config,
      schema: {
        tags,
        summary: 'List the events that webhooks can subscribe to',
        querystring: Type.Object({
          ...EventTypeQuery,
          limit: Type.Integer({ minimum: 1, maximum: EVENT_TYPES_MAX, default: EVENT_TYPES_MAX }),
        }),
        response: { 200: PageOf(AvailableEventSchema) },
      },
    },
    async (request, reply) => {
      const page = await eventTypePage(deps.db, request.caller, request.query, showAvailableEvent);
      return sendJsonText(reply, page);
    },
  );

  app.get(
    '/api/v1/webhooks/events/:type',
    {
      config,
      schema: {
        tags,
        summary: 'Read an event with its schema and sample',
        params: Type.Object({ type: Type.String() }),
        response: { 200: AvailableEventDetailsSchema },
      },
    },
    async (request, reply) => {
      const row = await readEventType(deps.db, request.caller, request.params.type);
      return sendJsonText(reply, showAvailableEventDetails(row));
    },
  );
}
