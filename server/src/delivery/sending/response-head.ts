/** What the headers of an answer say of its body and its connection. */
export interface Framing {
  /** Of `Content-Length`; undefined: until the end of the chunks or the connection. */
  length: number | undefined;
  chunked: boolean;
  /** The connection is not kept after this answer. */
  closes: boolean;
  keepAliveSeconds: number | undefined;
}

/** Header name and value in turn, of the lines behind the status line; undefined: one of them is no header. */
export function readFields(lines: readonly string[]): string[] | undefined {
  const headers: string[] = [];
  for (let at = 1; at < lines.length; at += 1) {
    const line = lines[at] as string;
    const colon = line.indexOf(':');
    const name = line.slice(0, Math.max(0, colon));
    const value = withoutSpaceAround(line, colon + 1);
    if (!TOKEN.test(name) || NO_FIELD_VALUE.test(value)) return undefined;
    headers.push(name, value);
  }
  return headers;
}

/** Optional white space is spaces and tabs (RFC 9110, section 5.6.3), so `trim` takes too much. */
function withoutSpaceAround(line: string, from: number): string {
  let start = from;
  let end = line.length;
  while (start < end && isWhitespace(line.charCodeAt(start))) start += 1;
  while (end > start && isWhitespace(line.charCodeAt(end - 1))) end -= 1;
  return line.slice(start, end);
}

function isWhitespace(code: number): boolean {
  return code === 0x20 || code === 0x09;
}

/** How long the body is (RFC 9112, section 6.3); undefined: the headers contradict each other. */
export function readFraming(headers: readonly string[]): Framing | undefined {
  const framing: Framing = { length: undefined, chunked: false, closes: false, keepAliveSeconds: undefined };
  let codings: string | undefined;
  for (let at = 0; at < headers.length; at += 2) {
    const value = headers[at + 1] as string;
    switch ((headers[at] as string).toLowerCase()) {
      case 'content-length':
        if (framing.length !== undefined || !LENGTH.test(value)) return undefined;
        framing.length = Number(value);
        break;
      case 'transfer-encoding':
        codings = codings === undefined ? value : `${codings},${value}`;
        break;
      case 'connection':
        if (CLOSE.test(value)) framing.closes = true;
        break;
      case 'keep-alive':
        framing.keepAliveSeconds = Number(KEEP_ALIVE.exec(value)?.[1] ?? Number.NaN);
        if (Number.isNaN(framing.keepAliveSeconds)) framing.keepAliveSeconds = undefined;
        break;
    }
  }
  if (codings === undefined) return framing;
  if (framing.length !== undefined) return undefined;
  const names = codings.split(',').map((name) => name.trim().toLowerCase());
  framing.chunked = names.at(-1) === 'chunked';
  // Chunked within chunked, or something around it, has no end that all agree on.
  return names.indexOf('chunked') < names.length - 1 && names.includes('chunked') ? undefined : framing;
}

const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const NO_FIELD_VALUE = /[^\t\x20-\x7e\x80-\xff]/;
const LENGTH = /^[0-9]{1,15}$/;
const CLOSE = /(?:^|,)[\t ]*close[\t ]*(?:,|$)/i;
const KEEP_ALIVE = /(?:^|[,; ])timeout=([0-9]{1,6})(?:[,; ]|$)/i;
