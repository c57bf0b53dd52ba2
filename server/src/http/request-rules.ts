import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { AppError, malformed } from '../kernel/errors.ts';

/** A name or an address with a port, as a Host header has it (RFC 9110, section 7.2). */
export const HOST = /^(?:[0-9A-Za-z._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?$/;

/**
 * Refuses what Node's parser lets pass and others may read differently, before anything else is looked at.
 *
 * @throws AppError 400 for a version of HTTP that is not spoken, for a Host that is missing, repeated or none (RFC 9112,
 * section 3.2), and for a transfer coding other than `chunked`, or in HTTP/1.0. The connection ends with it.
 */
export function refuseAmbiguity(request: FastifyRequest, reply: FastifyReply): void {
  const { socket } = request.raw;
  const ambiguity = ENDING.has(socket) ? 'The connection ends with the answer before.' : findAmbiguity(request.raw);
  if (ambiguity === undefined) return;
  ENDING.add(socket);
  reply.header('connection', 'close');
  throw malformed(ambiguity);
}

/** Requests on one connection that may wait behind one that is not answered yet. */
const WAITING_MAX = 16;

/** How many of them wait now; only connections are in it on which one does. */
const WAITING = new WeakMap<Socket, number>();

/**
 * Node hands on every request of a packet at once and keeps their answers: a packet has room for 1,500 requests for half
 * a megabyte each.
 *
 * @throws AppError 400 for the 17th request that waits on a connection. The connection ends with it.
 */
export function refuseCrowd(request: FastifyRequest, reply: FastifyReply): void {
  // One whose turn it is has the socket.
  if (reply.raw.socket !== null) return;
  const { socket } = request.raw;
  const waiting = (WAITING.get(socket) ?? 0) + 1;
  if (waiting > WAITING_MAX) {
    ENDING.add(socket);
    reply.header('connection', 'close');
    throw malformed(`At most ${WAITING_MAX} requests may wait on a connection for the answer to one before them.`);
  }
  WAITING.set(socket, waiting);
  reply.raw.once('close', () => WAITING.set(socket, (WAITING.get(socket) ?? 1) - 1));
}

/**
 * A body is JSON in UTF-8, as it is: a compressed one is never opened, for nobody can say what it becomes.
 *
 * @throws AppError 415 before anything of the body is read.
 */
export function refuseCoding({ headers }: FastifyRequest, reply: FastifyReply): void {
  const coding = headers['content-encoding'];
  if (coding !== undefined && coding.toLowerCase() !== 'identity') {
    // RFC 9110, section 15.5.16: it says what would be taken.
    reply.header('accept-encoding', 'identity');
    throw unsupported('Send the body uncompressed: no Content-Encoding is taken.');
  }
  const charset = CHARSET.exec(headers['content-type'] ?? '')?.[1]?.toLowerCase();
  if (charset !== undefined && charset !== 'utf-8' && charset !== 'us-ascii') {
    throw unsupported('Send the body in UTF-8: no other charset is taken.');
  }
}

const CHARSET = /;[ \t]*charset[ \t]*=[ \t]*"?([^\s";]*)/i;

function unsupported(message: string): AppError {
  return new AppError({ code: 'unsupported_media_type', message });
}

/**
 * Connections on which a request was refused that could be read in two ways. Node hands on what it reads behind it, and
 * that may be a request to nobody but Node (RFC 9112, section 9.6: nothing is done any more after `close`).
 */
const ENDING = new WeakSet<Socket>();

function findAmbiguity({ headers, rawHeaders, httpVersion }: IncomingMessage): string | undefined {
  const isOld = httpVersion === '1.0';
  if (httpVersion !== '1.1' && !isOld) return 'HTTP/1.1 is spoken here, and HTTP/1.0.';
  let hosts = 0;
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at] as string;
    if (name.length === 4 && name.toLowerCase() === 'host') hosts += 1;
  }
  // HTTP/1.0 knows no Host.
  const isAbsent = hosts === 0 && isOld;
  if (!isAbsent && (hosts !== 1 || !HOST.test(headers.host ?? ''))) {
    return 'The request needs one Host header with a host name or an address.';
  }
  const transferCoding = headers['transfer-encoding'];
  if (transferCoding !== undefined && (isOld || transferCoding.toLowerCase() !== 'chunked')) {
    return 'Of the transfer codings, only "chunked" is understood, and that in HTTP/1.1.';
  }
  return undefined;
}
