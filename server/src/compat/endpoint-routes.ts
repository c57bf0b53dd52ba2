import type { FastifyReply, FastifyRequest, RouteOptions } from 'fastify';
import { Type } from 'typebox';
import type { Database } from '../db/pool.ts';
import { BODY_DEPTH_MAX, type HttpServer } from '../http/server.ts';
import { notFound } from '../kernel/errors.ts';
import { formatId } from '../kernel/ids.ts';
import { parseRawJson } from '../kernel/raw-json.ts';
import { listWebhooks } from '../webhooks/rows.ts';
import { WEBHOOK_STATUSES } from '../webhooks/settings.ts';
import { type CanonicalRoutes, documented, sameRoute } from './canonical-routes.ts';
import { CALL_CENTER, inWords } from './words.ts';

const StatusBody = Type.Object(
  {
    status: Type.Optional(
      Type.Enum([...WEBHOOK_STATUSES, 'inactive'], { description: '`inactive` is another name of `disabled`.' }),
    ),
    is_active: Type.Optional(Type.Boolean({ description: 'Short for `status`.' })),
  },
  { additionalProperties: false, minProperties: 1 },
);

/**
 * The two paths of call-center.md that the canonical API has no equal of: `PUT /endpoints/{id}/status`, which is a
 * change of the webhook, and `POST /endpoints/test`, as its example calls it, which is a test of the newest one.
 */
export function registerEndpointRoutes(app: HttpServer, canonical: CanonicalRoutes, db: Database): void {
  const change = canonicalRoute(canonical, 'PUT /api/v1/webhooks/:id');
  app.route(
    sameRoute(change, {
      method: 'PUT',
      url: '/endpoints/:id/status',
      schema: {
        ...schemaOf(canonical, 'PUT /endpoints/:id'),
        ...documented('PUT', change),
        summary: 'Change the status of an endpoint',
        body: StatusBody,
      },
      preHandler: (request, _reply, done) => {
        const body = request.body as { status?: string };
        if (body.status === 'inactive') body.status = 'disabled';
        done();
      },
      preSerialization,
    }),
  );

  const test = canonicalRoute(canonical, 'POST /api/v1/webhooks/:id/test');
  const { params: _, ...schema } = schemaOf(canonical, 'POST /endpoints/:id/test');
  app.route(
    sameRoute(test, {
      method: 'POST',
      url: '/endpoints/test',
      schema: {
        ...schema,
        ...documented('POST', test),
        summary: 'Send a test to the newest active endpoint',
        body: Type.Object(
          {},
          { additionalProperties: true, description: 'Is the payload; without it a sample is sent.' },
        ),
      },
      preHandler: (request) => aimAtNewest(request, db),
      preSerialization,
    }),
  );
}

/** Makes of a request without an id one for the newest active webhook that the caller has, and of its body the payload. */
async function aimAtNewest(request: FastifyRequest, db: Database): Promise<void> {
  const [newest] = await listWebhooks(db, request.caller, { active_only: true }, { limit: 0, beforeId: undefined });
  if (newest === undefined) throw notFound('active endpoint');
  request.params = { id: formatId('webhook', newest.id) };
  request.body = {};
  if (request.rawJson === undefined) return;
  const payload = Buffer.concat([Buffer.from('{"payload":'), request.rawJson.bytes, Buffer.from('}')]);
  request.rawJson = parseRawJson(payload, { maxDepth: BODY_DEPTH_MAX });
}

function preSerialization(
  _request: FastifyRequest,
  _reply: FastifyReply,
  payload: unknown,
  done: (error: null, payload: unknown) => void,
): void {
  done(null, inWords(CALL_CENTER, payload));
}

function canonicalRoute(canonical: CanonicalRoutes, name: string): RouteOptions {
  const route = canonical.get(name);
  if (route === undefined) throw new Error(`There is no route ${name}.`);
  return route;
}

function schemaOf(routes: CanonicalRoutes, name: string): NonNullable<RouteOptions['schema']> {
  return canonicalRoute(routes, name).schema ?? {};
}
