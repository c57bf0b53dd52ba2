import { hash } from 'node:crypto';
import swagger from '@fastify/swagger';
import reference from '@scalar/fastify-api-reference';
import { notFound } from '../kernel/errors.ts';
import type { Permission, PortalAccess } from './permissions.ts';
import { pageHeaders } from './security-headers.ts';
import type { HttpServer } from './server.ts';

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Schemas of bodies that the route takes beside its own JSON, by media type. It turns them into that by itself. */
    otherBodies?: Readonly<Record<string, object>>;
  }
}

/**
 * The OpenAPI 3.1 document, made from the routes' schemas: `GET /openapi.json`, and `GET /docs` to read it in a
 * browser, where `/` leads to. It must be registered before the routes it describes.
 */
export async function registerOpenApi(app: HttpServer, version: string): Promise<void> {
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'Posthorn',
        description: 'Webhook and notification delivery: publish events, and every subscribed webhook receives them.',
        version,
        license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
      },
      components: {
        securitySchemes: {
          bearer: { type: 'http', scheme: 'bearer', description: 'An API key, a portal token or the operator key.' },
          jwt: {
            type: 'http',
            scheme: 'bearer',
            bearerFormat: 'JWT',
            description:
              'A token of an issuer that the operator has set up (`/api/v1/jwt-issuers`): HS256, RS256, ES256 or EdDSA.',
          },
          apiKey: { type: 'apiKey', in: 'header', name: 'X-API-Key' },
        },
      },
      security: [{ bearer: [] }, { jwt: [] }, { apiKey: [] }],
      // In the order in which a reader needs them.
      tags: [
        'Events',
        'Webhooks',
        'Deliveries',
        'Event types',
        'Tenants',
        'API keys',
        'JWT issuers',
        'Portal tokens',
        'Operations',
        'Compatible paths',
      ].map((name) => ({ name })),
    },
    transform: ({ schema, url, route }) => ({
      schema: {
        ...schema,
        ...bodiesOf(schema?.body, route.config?.otherBodies),
        ...accessOf(route.config?.permission, route.config?.portal),
      },
      url,
    }),
    refResolver: {
      buildLocalReference: (json, _base, _fragment, at) => (typeof json.$id === 'string' ? json.$id : `def-${at}`),
    },
  });
  app.get('/openapi.json', { config: { permission: 'public' }, schema: { hide: true } }, () => openApiDocument(app));
  app.get('/', { config: { permission: 'public' }, schema: { hide: true } }, (_request, reply) =>
    reply.redirect('/docs/'),
  );
  await app.register(async (docs) => {
    docs.addHook('onRoute', (route) => {
      route.config = { ...route.config, permission: 'public' };
    });
    // The library makes a URL of what the client says, and that may be none.
    docs.addHook('onRequest', (request, _reply, done) => {
      if (URL.canParse(request.url, `http://${request.host}`)) done();
      else done(notFound('path'));
    });
    docs.addHook('onSend', (_request, reply, payload, done) => {
      const type = String(reply.getHeader('content-type'));
      if (type.startsWith('text/html')) reply.headers(pageHeaders(inlineScriptHashes(String(payload))));
      // Five megabytes, the same for everybody.
      else if (type.startsWith('application/javascript')) reply.header('cache-control', 'public, max-age=3600');
      done(null, payload);
    });
    await docs.register(reference, {
      routePrefix: '/docs',
      // The page stays on this server: nothing is asked of, shown from or offered by another one.
      configuration: {
        pageTitle: 'Posthorn API',
        url: '/openapi.json',
        telemetry: false,
        withDefaultFonts: false,
        showDeveloperTools: 'never',
        agent: { disabled: true },
        hideClientButton: true,
      },
    });
  });
}

/** Of the scripts that stand in a page, as its Content-Security-Policy names them. */
function inlineScriptHashes(html: string): string[] {
  return Array.from(html.matchAll(/<script type="text\/javascript">([\s\S]*?)<\/script>/g), ([, script = '']) => {
    return `sha256-${hash('sha256', script, 'base64')}`;
  });
}

function bodiesOf(body: unknown, others: Readonly<Record<string, object>> | undefined): object {
  if (others === undefined) return {};
  const bodies = Object.entries({ 'application/json': body, ...others });
  return { body: { content: Object.fromEntries(bodies.map(([type, schema]) => [type, { schema }])) } };
}

/**
 * What the document says of who may call a route: `x-permission` is the one that the caller's role must have, and
 * `x-portal` the access that a portal token must have; without it portal tokens are refused.
 */
function accessOf(permission: Permission | undefined, portal: PortalAccess | undefined): object {
  return {
    ...(permission === 'public' && { security: [] }),
    'x-permission': permission,
    ...(portal !== undefined && { 'x-portal': portal }),
  };
}

/** The document of all routes registered so far. */
export function openApiDocument(app: HttpServer): OpenApiDocument {
  // The library's types know nothing of what a route may add.
  return app.swagger() as unknown as OpenApiDocument;
}

/** The part of the document that tells who may call what. */
export interface OpenApiDocument {
  paths: Record<string, Record<string, { 'x-permission': Permission; 'x-portal'?: PortalAccess }>>;
}
