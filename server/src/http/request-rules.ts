import type { FastifyRequest } from 'fastify';
import { AppError, malformed } from '../kernel/errors.ts';

/** A name or an address with a port, as a Host header has it (RFC 9110, section 7.2). */
export const HOST = /^(?:[0-9A-Za-z._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?$/;

/**
 * Refuses what Node's parser lets pass and others may read differently, before anything else is looked at.
 *
 * @throws AppError 400 for a Host that is missing, repeated or none (RFC 9112, section 3.2), and for a transfer coding
 * other than `chunked`; 415 for a body with a content coding. A compressed body is never opened: nobody can say what it
 * becomes.
 */
export function judgeHead(request: FastifyRequest): void {
  const { headers, rawHeaders, httpVersion } = request.raw;
  let hosts = 0;
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at] as string;
    if (name.length === 4 && name.toLowerCase() === 'host') hosts += 1;
  }
  // HTTP/1.0 knows no Host.
  const absent = hosts === 0 && httpVersion === '1.0';
  if (!absent && (hosts !== 1 || !HOST.test(headers.host ?? ''))) {
    throw malformed('The request needs one Host header with a host name or an address.');
  }
  const transferCoding = headers['transfer-encoding'];
  if (transferCoding !== undefined && transferCoding.toLowerCase() !== 'chunked') {
    throw malformed('Of the transfer codings, only "chunked" is understood.');
  }
  const contentCoding = headers['content-encoding'];
  if (contentCoding !== undefined && contentCoding.toLowerCase() !== 'identity') {
    throw new AppError({
      code: 'unsupported_media_type',
      status: 415,
      message: 'Send the body uncompressed: no Content-Encoding is taken.',
    });
  }
}
