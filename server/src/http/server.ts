import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import {
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyRequest,
  type FastifySchema,
  fastify,
  LogController,
  type RouteOptions,
} from 'fastify';
import type { DatabaseOutage } from '../db/embedded-keeper.ts';
import { AppError, malformed, notFound } from '../kernel/errors.ts';
import type { Logger } from '../kernel/logger.ts';
import { parseRawJson, type RawJson } from '../kernel/raw-json.ts';
import { type Admit, type Authenticate, type Caller, type Grant, requireAccess } from './caller.ts';
import { createClientAddress } from './client-address.ts';
import { registerCors } from './cors.ts';
import { answerProblem, ProblemSchema } from './problem.ts';
import { newRequestId } from './request-id.ts';
import { refuseAmbiguity, refuseCoding, refuseCrowd } from './request-rules.ts';
import { ANSWER_HEADERS } from './security-headers.ts';
import { answerUnreadable, refuseExpectation, refuseTunnel } from './unreadable-request.ts';
import { compileBodyProblems, compileTextProblems } from './validation.ts';

export type HttpServer = FastifyInstance<
  Server,
  IncomingMessage,
  ServerResponse,
  FastifyBaseLogger,
  TypeBoxTypeProvider
>;

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Levels of the request itself around what it carries (1): not counted against the depth limit. */
    enclosingLevels?: number;
  }
  interface FastifyRequest {
    /** The JSON body with the exact bytes of its members; undefined for a request without a body. */
    rawJson: RawJson | undefined;
  }
}

/** Bytes of a request body, unless the route says otherwise: a published event (1 MB) with its envelope. */
export const BODY_BYTES_MAX = 1_048_576 + 65_536;

/** Levels that what a body carries may nest. */
export const BODY_DEPTH_MAX = 64;

/** What a client may take of the server's time and memory, in milliseconds and connections. */
export interface HttpBounds {
  /** To send a whole request; a slow one holds a socket, nothing else. */
  requestMs: number;
  /** How often is looked for requests that took longer. */
  checkMs: number;
  /** Without a byte in either direction; a client that does not read its answer is cut then. More than any route takes. */
  silenceMs: number;
  /**
   * Open at once; what comes beyond is closed unheard. They bound the memory: measured with 2,000, one with an unfinished
   * head takes 10 kB. One connection may carry any number of requests: a new one would cost both sides more.
   */
  connections: number;
}

const BOUNDS: HttpBounds = { requestMs: 30_000, checkMs: 5_000, silenceMs: 120_000, connections: 10_000 };

/**
 * The HTTP server with its rules: bodies keep their bytes, every route declares a permission, a caller is known before
 * a handler runs, and every error has one shape.
 */
export function createHttpServer(options: {
  logger: Logger;
  authenticate: Authenticate;
  /** Limits what a caller may ask; without it nothing does. */
  admit?: Admit;
  /** CIDRs of proxies whose `X-Forwarded-For` counts (none). */
  trustedProxies?: readonly string[];
  /** Why the database is away, when it is and that is known. */
  databaseOutage?: () => DatabaseOutage | undefined;
  /** Origins whose pages may read answers (none). */
  corsOrigins?: readonly string[];
  bounds?: Partial<HttpBounds>;
  /** Called for each request that is refused because of who is asking: 401, 403, and 429 `too_many_failed_attempts`. */
  onDenied?: (request: FastifyRequest, error: AppError) => void;
}): HttpServer {
  const bounds = { ...BOUNDS, ...options.bounds };
  const app = fastify({
    loggerInstance: options.logger as FastifyBaseLogger,
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: BODY_BYTES_MAX,
    genReqId: newRequestId,
    // The lines that are logged for a request name its id themselves; a logger a request would cost more than it tells.
    childLoggerFactory: (logger) => logger,
    routerOptions: { ignoreTrailingSlash: true, maxParamLength: 300 },
    requestTimeout: bounds.requestMs,
    connectionTimeout: bounds.silenceMs,
    keepAliveTimeout: 65_000,
    forceCloseConnections: 'idle',
    http: {
      // Node takes the larger of the two for the whole request, and the headers' would be a minute.
      requestTimeout: bounds.requestMs,
      headersTimeout: bounds.requestMs,
      connectionsCheckingInterval: bounds.checkMs,
      // A request without a Host is refused with all the others that have a wrong one.
      requireHostHeader: false,
    },
    // Paths that no route can be found for, because they cannot be decoded or are too long.
    frameworkErrors: (error, request, reply) => {
      reply.headers(ANSWER_HEADERS).header('x-request-id', request.id);
      answerProblem(error, request, reply);
    },
    clientErrorHandler: answerUnreadable,
  }).withTypeProvider<TypeBoxTypeProvider>();
  app.server.maxConnections = bounds.connections;
  app.server.on('connect', (_request, socket) => refuseTunnel(socket));
  app.server.on('checkExpectation', (_request, response) => refuseExpectation(response));

  app.setValidatorCompiler<FastifySchema>(({ schema, httpPart }) => {
    const problemsOf = httpPart === 'body' ? compileBodyProblems(schema) : compileTextProblems(schema);
    return (data) => {
      const error = problemsOf(data);
      return error === undefined ? true : { error };
    };
  });

  app.addSchema(ProblemSchema);
  app.setErrorHandler((error, request, reply) => {
    if (error instanceof AppError && isDenial(error)) options.onDenied?.(request, error);
    answerProblem(error, request, reply, options.databaseOutage?.());
  });
  app.setNotFoundHandler(() => {
    throw notFound('path');
  });

  app.decorateRequest('caller', null as unknown as Caller);
  app.decorateRequest('grant', undefined);
  app.decorateRequest('rawJson', undefined);
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, readJsonBody);
  app.addContentTypeParser(/^application\/[a-z0-9.-]+\+json/, { parseAs: 'buffer' }, readJsonBody);

  // A request without a body is judged as an empty object: what is missing is then named field by field.
  app.addHook('preValidation', (request, _reply, done) => {
    if (request.rawJson === undefined && request.routeOptions.schema?.body !== undefined) request.body = {};
    done();
  });

  const routes: RouteOptions[] = [];
  app.addHook('onRoute', (route) => {
    routes.push(route);
    // Every route can fail, and all failures look the same.
    const responses = route.schema?.response as Record<string, unknown> | undefined;
    if (responses !== undefined) responses.default ??= { $ref: 'Problem#' };
  });
  app.addHook('onReady', () => {
    const open = routes.find(({ config }) => config?.permission === undefined);
    if (open !== undefined) throw new Error(`Route ${String(open.method)} ${open.url} declares no permission.`);
  });
  const { admit, trustedProxies = [] } = options;
  const clientAddress = createClientAddress(trustedProxies);
  // Hooks with a callback: a promise a hook and request is what they would cost otherwise, and a known key needs none.
  app.addHook('onRequest', (request, reply, done) => {
    if (trustedProxies.length > 0) {
      const ip = clientAddress(request.ip, request.headers['x-forwarded-for']);
      Object.defineProperty(request, 'ip', { value: ip });
    }
    reply.headers(ANSWER_HEADERS).header('x-request-id', request.id);
    refuseAmbiguity(request, reply);
    refuseCrowd(request, reply);
    done();
  });
  registerCors(app, options.corsOrigins ?? []);
  app.addHook('onRequest', (request, reply, done) => {
    refuseCoding(request, reply);
    // Nobody's body is read for a path that is not there.
    if (request.is404) throw notFound('path');
    const { permission = 'operate', portal, sends } = request.routeOptions.config;
    if (permission === 'public') {
      done();
      return;
    }
    const proceed = (grant: Grant | undefined) => {
      if (grant !== undefined) {
        request.grant = grant;
        reply.headers(grant.headers);
      }
      requireAccess(request.caller, { permission, portal });
    };
    const enter = (caller: Caller): void | Promise<void> => {
      request.caller = caller;
      const grant = admit?.(caller, sends === true || permission === 'publish');
      return grant instanceof Promise ? grant.then(proceed) : proceed(grant);
    };
    const caller = options.authenticate(request);
    const entered = caller instanceof Promise ? caller.then(enter) : enter(caller);
    if (entered instanceof Promise) entered.then(() => done(), done);
    else done();
  });
  closeAfterLastAnswer(app);
  return app;
}

function isDenial({ status, code }: AppError): boolean {
  return status === 401 || status === 403 || code === 'too_many_failed_attempts';
}

/**
 * A stop answers what is under way, and closes each connection then: a caller who keeps his open would hold the stop
 * until the keep-alive timeout.
 */
function closeAfterLastAnswer(app: HttpServer): void {
  let closing = false;
  app.addHook('preClose', (done) => {
    closing = true;
    done();
  });
  app.addHook('onResponse', (_request, _reply, done) => {
    // The connection counts as idle once this answer's events are through.
    if (closing) setImmediate(() => app.server.closeIdleConnections());
    done();
  });
}

function readJsonBody(
  request: FastifyRequest,
  body: Buffer,
  done: (error: Error | null, value?: unknown) => void,
): void {
  // A POST that needs no body may still announce JSON.
  if (body.length === 0) {
    done(null, undefined);
    return;
  }
  try {
    request.rawJson = parseRawJson(body, {
      maxDepth: BODY_DEPTH_MAX,
      enclosingLevels: request.routeOptions.config.enclosingLevels ?? 1,
    });
    done(null, request.rawJson.value);
  } catch (error) {
    done(error instanceof Error ? error : malformed('The body is not JSON.'));
  }
}
