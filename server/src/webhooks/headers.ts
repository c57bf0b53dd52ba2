import type { FieldProblem } from '../kernel/errors.ts';
import { MASK } from '../masking/rules.ts';
import { isSecretHeader } from '../masking/secret-names.ts';

/** A webhook's own request headers: name and value in turn, names as they were written, each once. */
export type HeaderList = readonly string[];

export const HEADERS_MAX = 50;
const HEADER_VALUE_MAX = 4_096;

/**
 * The headers after a change. Names are compared without regard to case; null removes a header, and the mask keeps a
 * value that is there, so that what an answer showed can be sent back.
 */
export function changeHeaders(
  current: HeaderList,
  change: Readonly<Record<string, string | null>>,
): { ok: true; headers: HeaderList } | { ok: false; problems: FieldProblem[] } {
  const headers = new Map<string, readonly [name: string, value: string]>();
  for (const [name, value] of pairs(current)) headers.set(name.toLowerCase(), [name, value]);
  const problems: FieldProblem[] = [];
  const seen = new Set<string>();
  for (const [name, value] of Object.entries(change)) {
    const key = name.toLowerCase();
    const kept = value === MASK && isSecretHeader(name) ? headers.get(key)?.[1] : value;
    const problem = seen.has(key) ? 'is given twice, in different case' : headerProblem(name, kept);
    seen.add(key);
    if (problem !== undefined) problems.push({ path: `headers.${name.slice(0, 100)}`, message: problem });
    else if (typeof kept === 'string') headers.set(key, [name, kept]);
    else headers.delete(key);
  }
  if (headers.size > HEADERS_MAX) problems.push({ path: 'headers', message: `must be at most ${HEADERS_MAX}` });
  return problems.length > 0 ? { ok: false, problems } : { ok: true, headers: [...headers.values()].flat() };
}

/** The list with the values of sensitive names masked. */
export function maskHeaders(headers: HeaderList): HeaderList {
  return pairs(headers).flatMap(([name, value]) => [name, isSecretHeader(name) ? MASK : value]);
}

export function pairs(headers: HeaderList): [name: string, value: string][] {
  const list: [string, string][] = [];
  for (let at = 0; at < headers.length; at += 2) list.push([headers[at] ?? '', headers[at + 1] ?? '']);
  return list;
}

/**
 * Names that a webhook cannot set: those that frame the message or steer the connection (RFC 9110, sections 6.6 and
 * 7.6; RFC 9112, section 6), those that describe the body, which Posthorn writes, and those that Posthorn sets itself.
 * `User-Agent` is not among them: a webhook's own takes the place of the preset's.
 */
export function isReservedHeader(name: string): boolean {
  const key = name.toLowerCase();
  return RESERVED.has(key) || key.startsWith('proxy-') || key.startsWith('webhook-');
}

const RESERVED: ReadonlySet<string> = new Set([
  'connection',
  'content-encoding',
  'content-length',
  'content-type',
  'expect',
  'host',
  'http2-settings',
  'keep-alive',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'x-webhook-attempt',
  'x-webhook-batch-size',
  'x-webhook-delivery',
  'x-webhook-event',
  'x-webhook-event-ids',
  'x-webhook-signature',
]);

/** RFC 9110, section 5.6.2. */
const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,200}$/;

export const SET_BY_POSTHORN = 'is a header that Posthorn sets itself';

/** What is wrong with a header; `value` null: it is removed, undefined: none is known. */
export function headerProblem(name: string, value: string | null | undefined): string | undefined {
  if (!TOKEN.test(name)) return "is not a header name: letters, digits and !#$%&'*+.^_`|~- are allowed";
  // Removing a header that cannot be there is harmless, but means that something else was meant.
  if (isReservedHeader(name)) return SET_BY_POSTHORN;
  if (value === undefined) return `is not set, so ${MASK} stands for nothing here; give the value itself`;
  if (value === null) return undefined;
  if (value.length > HEADER_VALUE_MAX) return `must be at most ${HEADER_VALUE_MAX} characters`;
  if (!/^[\t\x20-\x7e]*$/.test(value)) return 'must be of visible ASCII characters, spaces and tabs';
  return undefined;
}
