import { setImmediate } from 'node:timers/promises';
import { Type } from 'typebox';
import { EVENT_TYPES_MAX } from '../catalog/change-catalog.ts';
import { listEventTypes } from '../catalog/queries.ts';
import { sendJsonText } from '../catalog/show.ts';
import type { Database } from '../db/pool.ts';
import type { Caller } from '../http/caller.ts';
import type { HttpServer } from '../http/server.ts';
import { environmentPreset } from '../tenants/environment-preset.ts';
import { resolveSettings } from '../webhooks/settings.ts';
import { asyncApiDocument } from './asyncapi-document.ts';
import { deliveryHeaders } from './delivery-headers.ts';
import { type DescribedEvent, describeEvent } from './described-event.ts';
import { type DocumentInfo, openApiDocument } from './openapi-document.ts';

/** Event types described without a pause: about 5 ms of work where schemas have 10 KB. */
const AT_ONCE = 50;

/** `/api/v1/event-types/openapi.json` and `asyncapi.json`: what a receiver of an environment's events has to expect. */
export function registerDocumentRoutes(app: HttpServer, deps: { db: Database; userAgent: string }): void {
  const { db, userAgent } = deps;
  const Document = Type.Object({}, { additionalProperties: true });

  const describe = async (caller: Caller) => {
    const settings = resolveSettings(PRESET_ONLY, await environmentPreset(db, caller));
    const rows = await listEventTypes(db, caller, { limit: EVENT_TYPES_MAX });
    const events: DescribedEvent[] = [];
    for (const [at, row] of rows.entries()) {
      if (at > 0 && at % AT_ONCE === 0) await setImmediate();
      events.push(describeEvent(row, settings));
    }
    const changedAt = rows.reduce((latest, { updated_at }) => Math.max(latest, updated_at.getTime()), 0);
    const info: DocumentInfo = {
      title: `Webhook events (${caller.environmentName})`,
      version: new Date(changedAt).toISOString(),
      description:
        'The events that webhooks can subscribe to, as they are sent unless a webhook chooses another envelope, ' +
        'method or signature. The version is the time of the last change.',
    };
    return { info, events, headers: deliveryHeaders(settings, userAgent) };
  };

  for (const [file, standard, write] of [
    ['openapi.json', 'OpenAPI 3.1', openApiDocument],
    ['asyncapi.json', 'AsyncAPI 3.0', asyncApiDocument],
  ] as const) {
    app.get(
      `/api/v1/event-types/${file}`,
      {
        config: { permission: 'read', portal: 'read' },
        schema: {
          tags: ['Event types'],
          summary: `The event types as an ${standard} document`,
          description: 'With the envelope and the headers that webhooks of the environment get by default.',
          response: { 200: Document },
        },
      },
      async (request, reply) => {
        const { info, events, headers } = await describe(request.caller);
        return sendJsonText(reply, JSON.stringify(write(info, events, headers)));
      },
    );
  }
}

/** A webhook that says nothing of itself. */
const PRESET_ONLY = { preset: null, envelope: null, signature: {}, retryPolicy: {}, timeoutSeconds: null };
