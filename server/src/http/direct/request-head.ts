import { HOST } from '../request-rules.ts';

/** What the head of a request says that is read straight from its socket. */
export interface DirectHead {
  /** Names in lower case. */
  headers: Readonly<Record<string, string>>;
  bodyBytes: number;
}

/**
 * Reads the head of a JSON request, without the empty line that ends it. `requestLine` is the only one that is taken.
 *
 * Undefined for all that is not quite plain: what could be understood in two ways, what asks for something to be done
 * otherwise, and what is wrong. The HTTP server takes those, so being strict here costs no caller anything. What is
 * taken is what RFC 9112 allows and nothing more: no name comes twice, the length is one decimal number, values are
 * printable ASCII.
 */
export function readDirectHead(head: string, requestLine: string): DirectHead | undefined {
  const lines = head.split('\r\n');
  if (lines[0] !== requestLine) return undefined;
  const headers: Record<string, string> = Object.create(null);
  for (let at = 1; at < lines.length; at += 1) {
    const field = FIELD.exec(lines[at] as string);
    if (field === null) return undefined;
    const name = (field[1] as string).toLowerCase();
    if (name in headers || OTHERWISE.has(name)) return undefined;
    headers[name] = field[2] as string;
  }
  const { connection = 'keep-alive', 'content-length': length } = headers;
  if (length === undefined || !LENGTH.test(length) || !HOST.test(headers.host ?? '')) return undefined;
  if (connection.toLowerCase() !== 'keep-alive' || !JSON_TYPE.test(headers['content-type'] ?? '')) return undefined;
  return { headers, bodyBytes: Number(length) };
}

/** Name and value of a field line (RFC 9112, section 5): a value neither begins nor ends with white space. */
const FIELD = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*((?:[\x21-\x7e](?:[ \t\x21-\x7e]*[\x21-\x7e])?)?)[ \t]*$/;
const LENGTH = /^[1-9][0-9]{0,7}$/;
const JSON_TYPE = /^application\/json(?:; ?charset=utf-8)?$/i;

/** Headers that change how a request is read or what is done with it. */
const OTHERWISE: ReadonlySet<string> = new Set([
  'transfer-encoding',
  'content-encoding',
  'expect',
  'upgrade',
  'te',
  'trailer',
  'idempotency-key',
  'origin',
  // The body is the data of a CloudEvent alone.
  'ce-specversion',
]);
