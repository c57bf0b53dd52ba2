import cors, { type FastifyCorsOptions } from '@fastify/cors';
import type { FastifyRequest } from 'fastify';
import type { HttpServer } from './server.ts';

/**
 * Lets pages of exactly these origins (`https://app.example.com`) read answers. For all others, and for everybody when
 * there are none, no answer says a word about it, and a browser keeps it from them.
 *
 * Browsers send no key by themselves, so `Access-Control-Allow-Credentials` is never sent: a page must have a key to
 * get anything. Called before the hook that asks for one, because preflights carry none, and refusals are to be read too.
 */
export function registerCors(app: HttpServer, origins: readonly string[]): void {
  if (origins.length === 0) return;
  const allowed = new Set(origins);
  // The path that answers preflights, which the library adds.
  app.addHook('onRoute', (route) => {
    if (route.method === 'OPTIONS' && route.url === '*') route.config = { ...route.config, permission: 'public' };
  });
  const delegator = (request: FastifyRequest, done: (error: Error | null, options: FastifyCorsOptions) => void) => {
    const { origin, 'access-control-request-method': method } = request.headers;
    if (origin === undefined || !allowed.has(origin)) done(null, { origin: false });
    else done(null, { ...GRANT, origin: [origin], preflight: method !== undefined });
  };
  // A plugin is a function. Registered, its hook would come behind those that are added without waiting for it.
  cors(app, { delegator }, () => {});
}

const GRANT: FastifyCorsOptions = {
  methods: ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'],
  allowedHeaders: [
    'Authorization',
    'Content-Type',
    'Idempotency-Key',
    'Last-Event-ID',
    'X-API-Key',
    'X-Environment',
    'X-Tenant-Id',
  ],
  exposedHeaders: [
    'Idempotent-Replayed',
    'RateLimit-Limit',
    'RateLimit-Policy',
    'RateLimit-Remaining',
    'RateLimit-Reset',
    'Retry-After',
    'X-Request-Id',
  ],
  credentials: false,
  // Seconds for which a browser does not ask again.
  maxAge: 600,
};
