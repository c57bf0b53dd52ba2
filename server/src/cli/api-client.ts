import type { Static, TSchema } from 'typebox';
import { Value } from 'typebox/value';
import { request } from 'undici';
import { CommandError } from './command-error.ts';
import type { Connection } from './connection.ts';
import { printable } from './safe-text.ts';

interface ApiRequest {
  method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** Below the server's URL, e.g. `/api/v1/events`; put together with `apiPath`. */
  path: string;
  /** An object is sent as JSON, a Buffer as it is. */
  body?: Record<string, unknown> | Buffer;
  idempotencyKey?: string;
  /** Ends the request early; the call then throws the signal's reason. */
  signal?: AbortSignal;
}

/** Talks to the HTTP API of a running Posthorn as one caller. */
export interface ApiClient {
  readonly url: string;
  /** @throws ApiError for an error answer; CommandError when there is no server or it is not Posthorn. */
  call<Schema extends TSchema>(answer: Schema, request: ApiRequest): Promise<Static<Schema>>;
  /** The bytes of a JSON answer, for what must not be parsed and written anew. Throws as `call` does. */
  callRaw(request: ApiRequest): Promise<Buffer>;
}

/** An error answer of the API. The message is complete, with every field that is wrong. */
export class ApiError extends CommandError {
  override name = 'ApiError';
  readonly status: number;
  /** `error.code` of the answer; empty when it had none. */
  readonly code: string;

  constructor(status: number, code: string, message: string) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** No server answers there. */
export class UnreachableError extends CommandError {
  override name = 'UnreachableError';
}

/** Opens nothing yet; a connection is made by the first call and does not keep the process alive. */
export function createApiClient(connection: Connection): ApiClient {
  return {
    url: connection.url,
    callRaw: async (apiRequest) => (await send(connection, apiRequest)).bytes,
    call: async (schema, apiRequest) => {
      const { status, bytes } = await send(connection, apiRequest);
      const body = parseJson(bytes);
      if (!Value.Check(schema, body)) throw notPosthorn(connection.url, status);
      return body;
    },
  };
}

/** Puts a path together: the parts that come from outside are encoded. `apiPath('/api/v1/api-keys', id)`. */
export function apiPath(prefix: string, ...segments: string[]): string {
  for (const segment of segments) {
    if (segment === '' || segment === '.' || segment === '..') throw new CommandError(`"${segment}" cannot be an id.`);
  }
  return [prefix, ...segments.map(encodeURIComponent)].join('/');
}

const ANSWER_TIMEOUT_MS = 30_000;

interface Answer {
  status: number;
  bytes: Buffer;
}

async function send(connection: Connection, apiRequest: ApiRequest): Promise<Answer> {
  const { method, path, body, idempotencyKey, signal } = apiRequest;
  const answer = await exchange(connection.url, () =>
    request(connection.url + path, {
      method,
      headers: {
        authorization: `Bearer ${connection.key}`,
        ...(connection.tenant !== undefined && { 'x-tenant-id': connection.tenant }),
        ...(connection.environment !== undefined && { 'x-environment': connection.environment }),
        ...(idempotencyKey !== undefined && { 'idempotency-key': idempotencyKey }),
        ...(body !== undefined && { 'content-type': 'application/json' }),
      },
      body: body === undefined || Buffer.isBuffer(body) ? body : JSON.stringify(body),
      headersTimeout: ANSWER_TIMEOUT_MS,
      bodyTimeout: ANSWER_TIMEOUT_MS,
      signal,
    }),
  );
  if (answer.status >= 400) throw toApiError(answer, connection);
  if (answer.status >= 300) throw notPosthorn(connection.url, answer.status);
  return answer;
}

/**
 * GET `/health/ready`, which needs no key.
 *
 * @throws UnreachableError when nothing answers.
 */
export async function fetchReadiness(
  url: string,
): Promise<{ ready: boolean; status: number; date: string | undefined }> {
  let date: string | undefined;
  const { status } = await exchange(url, async () => {
    const response = await request(`${url}/health/ready`, { headersTimeout: 5_000, bodyTimeout: 5_000 });
    date = response.headers.date?.toString();
    return response;
  });
  return { ready: status === 200, status, date };
}

async function exchange(url: string, start: () => ReturnType<typeof request>): Promise<Answer> {
  try {
    const response = await start();
    return { status: response.statusCode, bytes: Buffer.from(await response.body.arrayBuffer()) };
  } catch (error) {
    throw explainFailure(url, error);
  }
}

function explainFailure(url: string, error: unknown): unknown {
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  switch (code) {
    case 'UND_ERR_ABORTED':
      return error;
    case 'UND_ERR_HEADERS_TIMEOUT':
    case 'UND_ERR_BODY_TIMEOUT':
      return new UnreachableError(`${url} took the request and does not answer.`);
    case 'UND_ERR_INVALID_ARG':
      return new CommandError(`The request cannot be sent: ${printable((error as Error).message)}.`);
    case '':
      return error;
    default:
      return code.startsWith('HPE_')
        ? notPosthorn(url, undefined)
        : new UnreachableError(
            `No Posthorn answers at ${url} (${code}): start it with "npx posthorn dev", or name another with --url.`,
          );
  }
}

function notPosthorn(url: string, status: number | undefined): CommandError {
  const answered = status === undefined ? 'answered' : `answered ${status}`;
  return new CommandError(
    `${url} ${answered} with something that is not this Posthorn's API: is it the right address?`,
  );
}

function toApiError(answer: Answer, connection: Connection): CommandError {
  const body = parseJson(answer.bytes) as { error?: Record<string, unknown> } | null | undefined;
  const error = body?.error;
  if (typeof error?.code !== 'string' || typeof error.message !== 'string') {
    return notPosthorn(connection.url, answer.status);
  }
  const notes = [
    ...fieldLines(error.details),
    ...(answer.status === 401 ? [`The key came from ${connection.keySource}.`] : []),
    ...(typeof error.retry_after === 'string' ? [`Try again after ${error.retry_after}.`] : []),
    ...(answer.status >= 500 && typeof error.request_id === 'string' ? [`Request ${error.request_id}.`] : []),
  ];
  const first = `${error.message} (${answer.status} ${error.code})`;
  return new ApiError(
    answer.status,
    error.code,
    [first, ...notes.map((note) => `  ${note}`)].map(printable).join('\n'),
  );
}

/** One line a field; none for a single one, which is in the message already. */
function fieldLines(details: unknown): string[] {
  const fields = (details as { fields?: unknown } | null | undefined)?.fields;
  if (!Array.isArray(fields) || fields.length < 2) return [];
  return fields.map((field) => `${field?.path}: ${field?.message}`);
}

function parseJson(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString('utf8'));
  } catch {
    return undefined;
  }
}
