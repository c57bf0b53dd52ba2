import { type ServerResponse, STATUS_CODES } from 'node:http';
import type { Duplex } from 'node:stream';
import { systemClock } from '../kernel/clock.ts';
import { ERROR_CODES, type ErrorCode } from '../kernel/error-codes.ts';
import { newRequestId } from './request-id.ts';
import { ANSWER_HEADER_LINES, ANSWER_HEADERS } from './security-headers.ts';

/**
 * What is not HTTP, has headers over Node's limit or does not come in time never becomes a whole request; the answer is
 * written to the socket, which is closed. It comes behind those to earlier requests, and into none.
 */
export function answerUnreadable(error: NodeJS.ErrnoException, socket: Duplex): void {
  if (error.code === 'ECONNRESET' || !socket.writable) return;
  const pending = (socket as SocketOfServer)._httpMessage;
  if (pending?.req.complete) pending.once('finish', () => answerUnreadable(error, socket));
  else if (pending?.headersSent) socket.destroy();
  else writeRefusal(socket, REFUSALS[error.code ?? ''] ?? UNREADABLE);
}

/** As the handler that Node has itself, this one has to know which answer is being written. */
interface SocketOfServer extends Duplex {
  _httpMessage?: ServerResponse | null;
}

/** `CONNECT` asks for a tunnel, which is nothing that a route could answer. */
export function refuseTunnel(socket: Duplex): void {
  // The server is through with it: nobody else reads it, or hears that it is gone.
  socket.on('error', () => socket.destroy());
  socket.resume();
  writeRefusal(socket, { code: 'method_not_allowed', message: 'This is no proxy.' });
}

/** An `Expect` other than `100-continue` (RFC 9110, section 10.1.1). */
export function refuseExpectation(response: ServerResponse): void {
  const { status, body } = written({
    code: 'expectation_failed',
    message: 'Of the expectations, only "100-continue" is understood.',
  });
  response.writeHead(status, {
    ...ANSWER_HEADERS,
    connection: 'close',
    'content-type': 'application/json; charset=utf-8',
    'content-length': Buffer.byteLength(body),
  });
  response.end(body);
}

/**
 * How long what else comes is read and dropped: a socket that is closed with bytes unread is reset, and the answer may be
 * lost with it (RFC 9112, section 9.6). A caller that does not close his side is cut then.
 */
const LINGER_MS = 1_000;

interface Refusal {
  code: ErrorCode;
  message: string;
}

const UNREADABLE: Refusal = {
  code: 'malformed_request',
  message: 'The request is not readable as HTTP.',
};

const REFUSALS: Readonly<Record<string, Refusal>> = {
  HPE_HEADER_OVERFLOW: { code: 'headers_too_large', message: 'The request headers are too large.' },
  HPE_CHUNK_EXTENSIONS_OVERFLOW: {
    code: 'payload_too_large',
    message: 'The extensions of the chunks are too large.',
  },
  ERR_HTTP_REQUEST_TIMEOUT: { code: 'request_timeout', message: 'The request did not come in time.' },
};

function writeRefusal(socket: Duplex, refusal: Refusal): void {
  const { status, body } = written(refusal);
  const head = `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nConnection: close\r\n${ANSWER_HEADER_LINES}`;
  const content = `Content-Type: application/json; charset=utf-8\r\nContent-Length: ${Buffer.byteLength(body)}`;
  socket.end(`${head}${content}\r\n\r\n${body}`);
  systemClock.after(LINGER_MS, () => socket.destroy());
}

function written({ code, message }: Refusal): { status: number; body: string } {
  return {
    status: ERROR_CODES[code].status,
    body: JSON.stringify({ error: { code, message, details: {}, request_id: newRequestId() } }),
  };
}
