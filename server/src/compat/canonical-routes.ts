import type { RouteOptions } from 'fastify';
import type { HttpServer } from '../http/server.ts';

/** The routes of the canonical API, by method and path: `GET /api/v1/webhooks/:id`. */
export type CanonicalRoutes = ReadonlyMap<string, RouteOptions>;

/** Remembers every route that is registered from now on. */
export function rememberRoutes(app: HttpServer): CanonicalRoutes {
  const routes = new Map<string, RouteOptions>();
  app.addHook('onRoute', (route) => {
    for (const method of [route.method].flat()) routes.set(`${method} ${route.url}`, route);
  });
  return routes;
}

/** What the reference says of a route that is another one once more. */
export function documented(method: string, route: RouteOptions): object {
  const { description } = (route.schema ?? {}) as { description?: string };
  const path = route.url.replaceAll(/:([a-z]+)/g, '{$1}');
  return {
    tags: ['Compatible paths'],
    description: `The same as \`${method} ${path}\`.${description === undefined ? '' : ` ${description}`}`,
  };
}

/** The route at another path: with the same handler, and under the same rules. */
export function sameRoute(
  { handler, config, bodyLimit, preValidation }: RouteOptions,
  changes: Pick<RouteOptions, 'method' | 'url' | 'schema' | 'preValidation' | 'preHandler' | 'preSerialization'>,
): RouteOptions {
  const readings = [preValidation ?? [], changes.preValidation ?? []].flat();
  return {
    handler,
    config: { ...config },
    ...(bodyLimit !== undefined && { bodyLimit }),
    ...changes,
    ...(readings.length > 0 && { preValidation: readings }),
  };
}
