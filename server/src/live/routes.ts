import { Type } from 'typebox';
import type { Database } from '../db/pool.ts';
import { filterText } from '../http/filters.ts';
import type { HttpServer } from '../http/server.ts';
import { malformed, notFound } from '../kernel/errors.ts';
import { parseId } from '../kernel/ids.ts';
import type { WebhookDirectory } from '../webhooks/directory.ts';
import { findWithin } from '../webhooks/owner.ts';
import { readFilter } from './filter.ts';
import { type LiveHub, STREAM_ACCESS } from './hub.ts';

/** `GET /api/v1/stream`: what becomes of deliveries, and alerts, as they happen. */
export function registerStreamRoute(
  app: HttpServer,
  deps: { db: Database; webhooks: WebhookDirectory; hub: LiveHub },
): void {
  const { hub } = deps;
  app.addHook('preClose', (done) => {
    hub.stop();
    done();
  });
  app.get(
    '/api/v1/stream',
    {
      config: STREAM_ACCESS,
      // A HEAD would be answered with a stream.
      exposeHeadRoute: false,
      schema: {
        tags: ['Deliveries'],
        summary: 'Follow deliveries and alerts as they happen',
        description:
          'Server-sent events: `delivery.delivered`, `delivery.failed`, `delivery.dead`, `delivery.cancelled`, ' +
          '`delivery.held`, `delivery.discarded`, `alert.fired`, `alert.acknowledged`, `alert.resolved`; beside them `ready` at the beginning, `gap` where ' +
          'something is missing, and `end`. No payload is shown. With `Last-Event-ID` it goes on after that message, ' +
          'up to a day back. Who does not read is cut off.',
        querystring: Type.Object({
          types: filterText('Names of messages, separated by commas; `delivery` and `alert` for all of a kind.'),
          webhook_id: Type.Optional(Type.String()),
          event_type: filterText('Of deliveries: a name, or the beginning of names such as `order.*`.'),
          status: filterText(
            'Of deliveries, separated by commas: `delivered`, `failed`, `dead`, `cancelled`, `held`, `discarded`.',
          ),
          last_event_id: filterText('For clients that cannot send the header `Last-Event-ID`.'),
        }),
        response: {
          200: {
            description: 'A stream that ends when the client goes, its key is revoked or the server stops.',
            content: { 'text/event-stream': { schema: Type.String() } },
          },
        },
      },
    },
    async (request, reply) => {
      const { query, caller, headers } = request;
      const last = readLast(headers['last-event-id'] ?? query.last_event_id);
      let webhookId: string | undefined;
      if (query.webhook_id !== undefined) {
        webhookId = parseId('webhook', query.webhook_id);
        if (webhookId === undefined || (await findWithin(deps, caller, webhookId)) === undefined) {
          throw notFound('webhook');
        }
      }
      hub.open(request, reply, readFilter(query, webhookId, caller.owner), last);
    },
  );
}

/** @throws AppError 400 for a text that no stream has given. */
function readLast(text: string | string[] | undefined): string | undefined {
  if (text === undefined || text === '') return undefined;
  const last = String(text).toLowerCase();
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(last)) {
    throw malformed(
      'Last-Event-ID is not an id that this stream gave; start again without it.',
      'invalid_last_event_id',
    );
  }
  return last;
}
