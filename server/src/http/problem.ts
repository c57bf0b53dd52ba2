import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify';
import { type Static, Type } from 'typebox';
import type { DatabaseOutage } from '../db/embedded-keeper.ts';
import { errorCode, isDatabaseGone } from '../db/pool.ts';
import { systemClock } from '../kernel/clock.ts';
import { ERROR_CODES } from '../kernel/error-codes.ts';
import { AppError, conflict, invalidFields, unavailable } from '../kernel/errors.ts';
import type { Logger } from '../kernel/logger.ts';
import { fieldProblems } from './field-problems.ts';

/** The one shape of every error answer. */
export const ProblemSchema = Type.Object(
  {
    error: Type.Object({
      code: Type.Enum(Object.keys(ERROR_CODES), { description: 'docs/errors.md says what each means.' }),
      message: Type.String(),
      details: Type.Record(Type.String(), Type.Unknown(), {
        description: 'By the code; of a 422, `fields` has the `path` and the `message` of each problem.',
      }),
      request_id: Type.String(),
      retry_after: Type.Optional(Type.String({ description: 'When another try makes sense, RFC 3339.' })),
    }),
  },
  { $id: 'Problem', title: 'Problem' },
);

/** An error as an answer. */
export interface Problem {
  status: number;
  headers: Record<string, string>;
  body: Static<typeof ProblemSchema>;
}

export interface ProblemContext {
  requestId: string;
  /** Takes the reasons of faults, which are not told. */
  logger: Pick<Logger, 'error'>;
  /** Why the database is away, when that is known: a full disk is named. */
  outage: DatabaseOutage | undefined;
}

/**
 * Turns anything thrown in a request into its answer. What is not expected becomes a 500 that says nothing of the inside.
 */
export function problemOf(thrown: unknown, { requestId, logger, outage }: ProblemContext): Problem {
  const error = nameFullDisk(toAppError(thrown), outage);
  if (error.status >= 500) {
    const cause = error.cause ?? error;
    logger.error({ request_id: requestId, code: error.code, fault: describeFault(cause) }, 'request failed');
  }
  const { retryAfterSeconds } = error;
  return {
    status: error.status,
    headers: {
      ...error.headers,
      ...(retryAfterSeconds !== undefined && { 'retry-after': String(retryAfterSeconds) }),
      // RFC 9110, section 11.6.1: a 401 names what would be accepted.
      ...(error.status === 401 && { 'www-authenticate': 'Bearer realm="posthorn"' }),
    },
    body: {
      error: {
        code: error.code,
        message: error.message,
        details: error.details ?? {},
        request_id: requestId,
        ...(retryAfterSeconds !== undefined && {
          retry_after: new Date(systemClock.now() + retryAfterSeconds * 1000).toISOString(),
        }),
      },
    },
  };
}

/** Answers a request with what was thrown in it. */
export function answerProblem(
  thrown: unknown,
  request: FastifyRequest,
  reply: FastifyReply,
  outage?: DatabaseOutage,
): void {
  const { status, headers, body } = problemOf(thrown, { requestId: request.id, logger: request.log, outage });
  if (isMuchUnread(request)) reply.header('connection', 'close');
  reply.headers(headers).code(status).type('application/json; charset=utf-8').serializer(JSON.stringify).send(body);
}

/** Bytes of a refused body that are read to its end and dropped, so that the connection can be used again. */
const DROPPED_BYTES_MAX = 65_536;

function isMuchUnread({ raw }: FastifyRequest): boolean {
  if (raw.complete) return false;
  return (
    raw.headers['transfer-encoding'] !== undefined || Number(raw.headers['content-length'] ?? 0) > DROPPED_BYTES_MAX
  );
}

/** Frames of a fault's stack that are logged. */
const FRAMES_MAX = 10;

/**
 * Name, code and stack of a fault, without its message: messages of drivers and parsers quote values. Lines of a message
 * stand before the stack, so they are cut off with it.
 */
function describeFault(cause: unknown): { name: string; code: string; stack: string[] } {
  const error = cause instanceof Error ? cause : new Error('a value that is no Error was thrown');
  const text = error.stack ?? '';
  const messageAt = text.indexOf(error.message);
  const frames = messageAt === -1 ? '' : text.slice(messageAt + error.message.length);
  const stack = frames.split('\n').filter((line) => line.startsWith('    at '));
  return { name: error.name, code: errorCode(error), stack: stack.slice(0, FRAMES_MAX).map((line) => line.trim()) };
}

function toAppError(thrown: unknown): AppError {
  if (thrown instanceof AppError) return thrown;
  if (isFastifyError(thrown)) return fromFastify(thrown);
  if (isDatabaseGone(thrown)) return unavailable('The database is out of reach.', 2, thrown);
  return (
    fromDatabase(thrown) ??
    new AppError({
      code: 'internal_error',
      message: 'An internal fault; it was logged.',
      cause: thrown,
    })
  );
}

/** What PostgreSQL refuses without anybody being at fault; undefined for all else. */
function fromDatabase(thrown: unknown): AppError | undefined {
  switch (errorCode(thrown)) {
    // The statement timeout of db/pool.ts.
    case '57014':
      return new AppError({
        code: 'query_timeout',
        message:
          'This takes the database too long; nothing was done. Ask for less: a shorter time, or fewer conditions.',
        retryAfterSeconds: 10,
        cause: thrown,
      });
    // A deadlock, and what could not go side by side.
    case '40P01':
    case '40001':
      return unavailable('Another request was in the way of this one; nothing was done.', 1, thrown);
    // A tenant, an environment or a webhook: rows are stored only where these are there.
    case '23503':
      return conflict('deleted_meanwhile', 'What this belongs to was deleted meanwhile; nothing was done.');
    default:
      return undefined;
  }
}

const DISK_FULL = '53100';

/** The caller cannot help it, but who reads the answer may be the one who can. */
function nameFullDisk(error: AppError, outage: DatabaseOutage | undefined): AppError {
  const { cause } = error;
  const full = errorCode(cause) === DISK_FULL || (outage === 'storage_full' && isDatabaseGone(cause));
  if (error.status !== 503 || !full) return error;
  return new AppError({
    code: 'storage_full',
    message: 'The disk of the database is full; nothing was accepted. It goes on by itself when there is room.',
    retryAfterSeconds: 10,
    cause,
  });
}

function isFastifyError(thrown: unknown): thrown is FastifyError {
  return thrown instanceof Error && 'code' in thrown && 'statusCode' in thrown && typeof thrown.statusCode === 'number';
}

function fromFastify(error: FastifyError): AppError {
  if (error.validation !== undefined) return fromValidation(error);
  const status = error.statusCode ?? 500;
  switch (error.code) {
    case 'FST_ERR_CTP_BODY_TOO_LARGE':
      return new AppError({
        code: 'payload_too_large',
        message: 'The request body is larger than this path takes.',
      });
    case 'FST_ERR_CTP_INVALID_MEDIA_TYPE':
      return new AppError({
        code: 'unsupported_media_type',
        message: 'Send the body as application/json.',
      });
    case 'FST_ERR_MAX_PARAM_LENGTH':
      return new AppError({ code: 'uri_too_long', message: 'A part of the path is longer than any id or name.' });
    case 'FST_ERR_CTP_INVALID_CONTENT_LENGTH':
    case 'FST_ERR_CTP_EMPTY_JSON_BODY':
      return new AppError({
        code: 'malformed_request',
        message: 'The body and its Content-Length do not agree.',
      });
    default:
      return status >= 500
        ? new AppError({
            code: 'internal_error',
            message: 'An internal fault; it was logged.',
            cause: error,
          })
        : new AppError({ code: 'malformed_request', message: 'The request cannot be read.' });
  }
}

const FIELDS_REPORTED_MAX = 20;

function fromValidation(error: FastifyError): AppError {
  const { validation = [], validationContext = 'body' } = error;
  return invalidFields(fieldProblems(validation, validationContext).slice(0, FIELDS_REPORTED_MAX));
}
