import { ERROR_CODES, type ErrorCode, type ErrorCodeOf } from './error-codes.ts';

/** One thing wrong with one field of a request; `path` is dotted, e.g. `retry_policy.max_attempts`. */
export interface FieldProblem {
  path: string;
  message: string;
  /** Where in a text that is the field's value, from 1. */
  line?: number;
  column?: number;
}

export interface AppErrorOptions {
  code: ErrorCode;
  /** Public text: says what is wrong and what would be right, and holds no secret. */
  message: string;
  details?: Record<string, unknown>;
  /** Whole seconds after which another try makes sense; sent as `Retry-After`. */
  retryAfterSeconds?: number;
  /** Of the answer, names in lower case. */
  headers?: Readonly<Record<string, string>>;
  /** The internal reason; it is logged, never sent. */
  cause?: unknown;
}

/** An expected failure with a public face. Anything else that is thrown is a fault of the program: 500, no detail. */
export class AppError extends Error {
  readonly code: ErrorCode;
  /** HTTP status that this error becomes at the API. */
  readonly status: number;
  readonly details: Record<string, unknown> | undefined;
  readonly retryAfterSeconds: number | undefined;
  readonly headers: Readonly<Record<string, string>> | undefined;

  constructor(options: AppErrorOptions) {
    super(options.message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'AppError';
    this.code = options.code;
    this.status = ERROR_CODES[options.code].status;
    this.details = options.details;
    this.retryAfterSeconds = options.retryAfterSeconds;
    this.headers = options.headers;
  }
}

/** 400: the request cannot be read at all. */
export function malformed(message: string, code: ErrorCodeOf<400> = 'malformed_request'): AppError {
  return new AppError({ code, message });
}

/** 422: the request was read, and these fields are wrong. */
export function invalidFields(fields: FieldProblem[]): AppError {
  const first = fields[0];
  const message = first === undefined ? 'The request is not valid.' : `${first.path}: ${first.message}`;
  return new AppError({ code: 'validation_failed', message, details: { fields } });
}

/** 422 for a single field. */
export function invalidField(path: string, message: string): AppError {
  return invalidFields([{ path, message }]);
}

/** 404. The same body for an id that never was and for another tenant's, so that nothing can be probed. */
export function notFound(what: string): AppError {
  return new AppError({ code: 'not_found', message: `No such ${what}.` });
}

export function conflict(code: ErrorCodeOf<409>, message: string, details?: Record<string, unknown>): AppError {
  return new AppError({ code, message, ...(details && { details }) });
}

export function unauthorized(): AppError {
  return new AppError({
    code: 'unauthorized',
    message: 'A valid key is needed: send "Authorization: Bearer <key>" or "X-API-Key: <key>".',
  });
}

export function forbidden(message: string): AppError {
  return new AppError({ code: 'forbidden', message });
}

export function unavailable(message: string, retryAfterSeconds: number, cause?: unknown): AppError {
  return new AppError({ code: 'unavailable', message, retryAfterSeconds, cause });
}
