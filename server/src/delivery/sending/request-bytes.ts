import type { OutgoingRequest } from '../sender.ts';
import type { Destination } from './destination.ts';

/**
 * A request as it goes over the wire (RFC 9112, section 3): head and body in one buffer, so that one write sends it.
 *
 * @throws RangeError for a header that would end early or say something else than was meant, by a line break, a control
 * character or a character beyond Latin-1. Webhooks are checked when they are written; this is the last look.
 */
export function requestBytes(request: OutgoingRequest, destination: Destination): Buffer {
  const { method, headers, fixedHeaders, body } = request;
  let head = `${method} ${destination.path} HTTP/1.1\r\nhost: ${destination.authority}\r\nconnection: keep-alive\r\n`;
  head += fieldLines(headers);
  if (fixedHeaders !== undefined) head += fixedLines(fixedHeaders);
  if (body === null) {
    return Buffer.from(method === 'GET' ? `${head}\r\n` : `${head}content-length: 0\r\n\r\n`, 'latin1');
  }
  head += `content-length: ${body.length}\r\n\r\n`;
  const bytes = Buffer.allocUnsafe(head.length + body.length);
  bytes.write(head, 'latin1');
  bytes.set(body, head.length);
  return bytes;
}

const linesOf = new WeakMap<readonly string[], string>();

function fixedLines(headers: readonly string[]): string {
  let lines = linesOf.get(headers);
  if (lines === undefined) {
    lines = fieldLines(headers);
    linesOf.set(headers, lines);
  }
  return lines;
}

function fieldLines(headers: readonly string[]): string {
  let lines = '';
  for (let at = 0; at < headers.length; at += 2) {
    const name = headers[at] as string;
    const value = headers[at + 1] as string;
    if (!TOKEN.test(name) || NO_FIELD_VALUE.test(value)) throw new RangeError('A header of the request is not valid.');
    lines += `${name}: ${value}\r\n`;
  }
  return lines;
}

const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const NO_FIELD_VALUE = /[^\t\x20-\x7e\x80-\xff]/;
