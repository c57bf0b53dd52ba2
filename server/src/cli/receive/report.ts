import { indentJson } from '../indent-json.ts';
import { printable, printableLines } from '../safe-text.ts';
import type { ArrivedRequest } from './local-receiver.ts';
import type { Verdict } from './verdicts.ts';

/** Characters of a body that are shown. */
const BODY_SHOWN_MAX = 2048;

/**
 * A request as lines for a terminal: time, event, id and attempt, the answer, the verdicts, the body. All that came
 * with the request is made harmless.
 */
export function reportRequest(arrived: ArrivedRequest, answeredStatus: number, verdicts: readonly Verdict[]): string {
  const attempt = headerOf(arrived, 'x-webhook-attempt');
  const text = arrived.body.toString('utf8');
  const json = parseJson(text);
  const title = [
    clockTime(arrived.atMs),
    headerOf(arrived, 'x-webhook-event') ?? eventIn(json) ?? `${arrived.method} ${arrived.path}`,
    headerOf(arrived, 'webhook-id') ?? '(no webhook-id)',
    ...(attempt === undefined ? [] : [`attempt ${attempt}`]),
    `answered ${answeredStatus}`,
  ];
  return [
    title.map((part) => printable(part.slice(0, 200))).join('  '),
    ...verdicts.map((verdict) => `  signature ${verdict.text}`),
    ...showBody(text, json !== undefined).map((line) => `  ${line}`),
    '',
  ].join('\n');
}

function headerOf(arrived: ArrivedRequest, name: string): string | undefined {
  return arrived.headers[name]?.[0];
}

/** Local time, to the millisecond. */
function clockTime(atMs: number): string {
  const at = new Date(atMs);
  const two = (value: number) => String(value).padStart(2, '0');
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}.${String(at.getMilliseconds()).padStart(3, '0')}`;
}

/** The event's name in the envelopes that Posthorn sends. */
function eventIn(json: unknown): string | undefined {
  if (typeof json !== 'object' || json === null) return undefined;
  const { type, event, event_type } = json as Record<string, unknown>;
  return [type, event, event_type].find((name) => typeof name === 'string');
}

function showBody(text: string, isJson: boolean): string[] {
  if (text === '') return ['(no body)'];
  const laidOut = isJson ? indentJson(text, BODY_SHOWN_MAX) : text;
  const lines = printableLines(laidOut.slice(0, BODY_SHOWN_MAX)).split('\n');
  return laidOut.length > BODY_SHOWN_MAX
    ? [...lines, `... (cut; the body has ${Buffer.byteLength(text)} bytes)`]
    : lines;
}

/** Undefined when the text is not JSON. */
function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
