import type { FastifyRequest, RouteOptions } from 'fastify';
import type { Database } from '../db/pool.ts';
import type { HttpServer } from '../http/server.ts';
import { invalidField } from '../kernel/errors.ts';
import { type CanonicalRoutes, documented, sameRoute } from './canonical-routes.ts';
import { registerEndpointRoutes } from './endpoint-routes.ts';
import { MOUNTS, type Mount } from './mounts.ts';
import { type AnswerSchema, inWords, schemaInWords, type Words } from './words.ts';

/** Rows that `skip` may leave out: each is read and thrown away, so a list is not walked through by it. */
const SKIP_MAX = 10_000;

/** What the requirement documents page by. */
const SKIP_AND_LIMIT = {
  skip: {
    type: 'integer',
    minimum: 0,
    maximum: SKIP_MAX,
    default: 0,
    description: 'Rows to leave out at the beginning. `cursor` reaches beyond, and does not shift when rows come in.',
  },
  limit: { type: 'integer', minimum: 1, maximum: 250, default: 100, description: 'Rows a page.' },
};

/**
 * Registers the paths of the requirement documents, when all routes of the canonical API are there.
 *
 * @throws Error when a path of `MOUNTS` has no canonical route.
 */
export function registerDocumentPaths(app: HttpServer, canonical: CanonicalRoutes, deps: { db: Database }): void {
  // What is mounted is itself remembered, and none of it is to be mounted again.
  const routes = new Map(canonical);
  for (const mount of MOUNTS) {
    const below = mountedRoutes(routes, mount);
    if (below.length === 0) throw new Error(`Nothing answers at ${mount.canonical}, which ${mount.path} stands for.`);
    for (const { method, rest, route } of below) app.route(mounted(app, mount, method, rest, route));
  }
  // By now the mounted ones are remembered too.
  registerEndpointRoutes(app, canonical, deps.db);
}

interface MountedRoute {
  method: string;
  /** The path below the mount. */
  rest: string;
  route: RouteOptions;
}

function mountedRoutes(routes: CanonicalRoutes, { canonical, methods, below, except = [] }: Mount): MountedRoute[] {
  const found: MountedRoute[] = [];
  for (const [name, route] of routes) {
    const [method = '', url = ''] = name.split(' ');
    if (method === 'HEAD' || methods?.includes(method) === false || !url.startsWith(canonical)) continue;
    const rest = url.slice(canonical.length);
    if (rest !== '' && (below !== true || !rest.startsWith('/'))) continue;
    if (except.some((each) => rest === each || rest.startsWith(`${each}/`))) continue;
    found.push({ method, rest, route });
  }
  return found;
}

function mounted(app: HttpServer, mount: Mount, method: string, rest: string, route: RouteOptions): RouteOptions {
  const { words } = mount;
  const schema = {
    ...(route.schema as DocumentedSchema),
    ...documented(method, route),
    ...(mount.skips?.includes(rest) && { querystring: withParameters(route.schema?.querystring, SKIP_AND_LIMIT) }),
  };
  const url = mount.path + rest;
  const preValidation = readingBooleans(schema.querystring);
  if (words === undefined) return sameRoute(route, { method, url, schema, ...preValidation });
  const response = Object.entries(schema.response ?? {}).map(([status, each]) => [
    status,
    status === 'default' ? each : schemaInWords(words, each as AnswerSchema, app),
  ]);
  const { querystring, parameters } = queryInWords(words, schema.querystring);
  return sameRoute(route, {
    method,
    url,
    ...preValidation,
    schema: {
      ...schema,
      ...(querystring !== undefined && { querystring }),
      ...(schema.response !== undefined && { response: Object.fromEntries(response) }),
    },
    ...(parameters.length > 0 && {
      preHandler: (request, _reply, done) => {
        readInWords(request, parameters);
        done();
      },
    }),
    preSerialization: (_request, _reply, payload, done) => done(null, inWords(words, payload)),
  });
}

/** What FastAPI, which three of the documents' systems are written with, takes for a boolean, in whatever case. */
const BOOLEANS: ReadonlyMap<unknown, string> = new Map([
  ...['true', 't', 'yes', 'y', 'on', '1'].map((text) => [text, 'true'] as const),
  ...['false', 'f', 'no', 'n', 'off', '0'].map((text) => [text, 'false'] as const),
]);

/** Has booleans understood as the documents' systems did, `True` and `1` among them: their clients send these. */
function readingBooleans(querystring: unknown): Pick<RouteOptions, 'preValidation'> {
  const { properties = {} } = (querystring ?? {}) as QuerySchema;
  const names = Object.keys(properties).filter((name) => (properties[name] as { type?: string }).type === 'boolean');
  if (names.length === 0) return {};
  return {
    preValidation: (request, _reply, done) => {
      const query = request.query as Record<string, unknown>;
      for (const name of names) {
        const given = query[name];
        if (typeof given === 'string') query[name] = BOOLEANS.get(given.toLowerCase()) ?? given;
      }
      done();
    },
  };
}

interface DocumentedSchema {
  querystring?: unknown;
  response?: Record<string, unknown>;
}

interface QuerySchema {
  properties?: Record<string, object>;
}

function withParameters(querystring: unknown, parameters: Record<string, object>): QuerySchema {
  const schema = (querystring ?? { type: 'object' }) as QuerySchema;
  return { ...schema, properties: { ...schema.properties, ...parameters } };
}

/** The query with the document's names beside the canonical ones, and those names with what they stand for. */
function queryInWords(words: Words, querystring: unknown) {
  const { properties = {} } = (querystring ?? {}) as QuerySchema;
  const parameters = Object.entries(words.parameters).filter(([, canonical]) => properties[canonical] !== undefined);
  const more = parameters.map(([name, canonical]) => [
    name,
    { ...properties[canonical], description: `The same as \`${canonical}\`.` },
  ]);
  if (more.length === 0) return { querystring, parameters };
  return { querystring: withParameters(querystring, Object.fromEntries(more)), parameters };
}

function readInWords(request: FastifyRequest, parameters: [name: string, canonical: string][]): void {
  const query = request.query as Record<string, unknown>;
  for (const [name, canonical] of parameters) {
    if (query[name] === undefined) continue;
    if (query[canonical] !== undefined && query[canonical] !== query[name]) {
      throw invalidField(name, `is another name of "${canonical}"; give one of them`);
    }
    query[canonical] = query[name];
  }
}
