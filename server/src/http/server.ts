import { randomBytes } from 'node:crypto';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
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
import { type Authenticate, type Caller, requireAccess } from './caller.ts';
import { answerProblem, ProblemSchema } from './problem.ts';
import { compileBody, compileText } from './validation.ts';

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

/**
 * The HTTP server with its rules: bodies keep their bytes, every route declares a permission, a caller is known before
 * a handler runs, and every error has one shape.
 */
export function createHttpServer(options: {
  logger: Logger;
  authenticate: Authenticate;
  /** Why the database is away, when it is and that is known. */
  databaseOutage?: () => DatabaseOutage | undefined;
  /** Called for each request that is refused because of who is asking: 401 and 403. */
  onDenied?: (request: FastifyRequest, error: AppError) => void;
}): HttpServer {
  const app = fastify({
    loggerInstance: options.logger as FastifyBaseLogger,
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: BODY_BYTES_MAX,
    genReqId: newRequestId,
    // The lines that are logged for a request name its id themselves; a logger a request would cost more than it tells.
    childLoggerFactory: (logger) => logger,
    routerOptions: { ignoreTrailingSlash: true, maxParamLength: 300 },
    // A client gets this long to send its request; a slow one holds a socket, nothing else.
    requestTimeout: 30_000,
    keepAliveTimeout: 65_000,
    forceCloseConnections: 'idle',
    // Paths that no route can be found for, because they cannot be decoded or are too long.
    frameworkErrors: (error, request, reply) => {
      reply.header('x-request-id', request.id);
      answerProblem(error, request, reply);
    },
    clientErrorHandler: answerUnreadable,
  }).withTypeProvider<TypeBoxTypeProvider>();

  app.setValidatorCompiler<FastifySchema>(({ schema, httpPart }) =>
    httpPart === 'body' ? compileBody(schema) : compileText(schema),
  );

  app.addSchema(ProblemSchema);
  app.setErrorHandler((error, request, reply) => {
    if (error instanceof AppError && (error.status === 401 || error.status === 403)) options.onDenied?.(request, error);
    answerProblem(error, request, reply, options.databaseOutage?.());
  });
  app.setNotFoundHandler(() => {
    throw notFound('path');
  });

  app.decorateRequest('caller', null as unknown as Caller);
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
  // Hooks with a callback: a promise a hook and request is what they would cost otherwise, and a known key needs none.
  app.addHook('onRequest', (request, reply, done) => {
    reply.header('x-request-id', request.id);
    const { permission, portal } = request.routeOptions.config;
    if (permission === 'public' || request.is404) {
      done();
      return;
    }
    const admit = (caller: Caller) => {
      request.caller = caller;
      requireAccess(caller, { permission: permission ?? 'operate', portal });
    };
    const caller = options.authenticate(request);
    if (caller instanceof Promise) {
      caller.then(admit).then(() => done(), done);
      return;
    }
    admit(caller);
    done();
  });
  closeAfterLastAnswer(app);
  return app;
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

/** What is not HTTP, or has headers over Node's limit, never becomes a request; the answer is written to the socket. */
function answerUnreadable(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === 'ECONNRESET' || socket.destroyed) return;
  const tooLarge = error.code === 'HPE_HEADER_OVERFLOW';
  const body = JSON.stringify({
    error: {
      code: tooLarge ? 'headers_too_large' : 'malformed_request',
      message: tooLarge ? 'The request headers are too large.' : 'The request is not readable as HTTP.',
      request_id: newRequestId(),
    },
  });
  const status = tooLarge ? '431 Request Header Fields Too Large' : '400 Bad Request';
  const head = `HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Type: application/json; charset=utf-8`;
  socket.end(`${head}\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`);
}

const REQUEST_PREFIX = `req_${randomBytes(8).toString('hex')}`;
let requests = 0;

/** Unique among all processes by its random half, and within this one by its count. */
export function newRequestId(): string {
  requests += 1;
  return REQUEST_PREFIX + requests.toString(16).padStart(16, '0');
}
