import { ProgramError, SHAPED_BYTES_MAX } from '../program.ts';
import { CLOSE, OPEN } from './compile-jinja.ts';

/**
 * Puts the values of a rendered text of JSON in their places. `valueAt` gives the JSON of a value that a path names,
 * undefined where there is none.
 *
 * Within a text of the JSON a value is text: a string as it is, a number or boolean as it is spelled, an object or array
 * as JSON, and null as nothing. Elsewhere it is the value itself.
 */
export function fillJson(rendered: string, valueAt: (number: number) => string | undefined): string {
  let filled = '';
  let inText = false;
  let at = 0;
  for (;;) {
    const open = rendered.indexOf(OPEN, at);
    const literal = open === -1 ? rendered.slice(at) : rendered.slice(at, open);
    filled += literal;
    if (open === -1) return filled;
    inText = endsInText(literal, inText);
    const close = rendered.indexOf(CLOSE, open + 1);
    const value = rendered.slice(open + 1, close === -1 ? rendered.length : close);
    const json = value[0] === '#' ? valueAt(Number(value.slice(1))) : withoutHtmlEscapes(value);
    filled += inText ? asText(json) : (json ?? 'null');
    refuseTooMuch(filled);
    at = close === -1 ? rendered.length : close + 1;
  }
}

/**
 * The same for a text that is no JSON, such as a header's value: of the paths `from` to `to`, each stands in it once, in
 * this order.
 *
 * @throws ProgramError where a value that was computed has the mark in it, and might pass for one of them.
 */
export function fillText(
  rendered: string,
  [from, to]: readonly [from: number, to: number],
  valueAt: (number: number) => string | undefined,
): string {
  if (from === to) return rendered;
  const [first = '', ...others] = rendered.split(OPEN, to - from + 2);
  let filled = first;
  for (const [at, text] of others.entries()) {
    const mark = `#${from + at}${CLOSE}`;
    if (others.length !== to - from || !text.startsWith(mark)) {
      throw new ProgramError({ kind: 'output', message: 'The template gives a text with U+0001 in it.' });
    }
    filled += plain(valueAt(from + at)) + text.slice(mark.length);
    refuseTooMuch(filled);
  }
  return filled;
}

/** Each value may be as large as the event, and a template may name it thousands of times. */
function refuseTooMuch(text: string): void {
  if (text.length <= SHAPED_BYTES_MAX) return;
  throw new ProgramError({ kind: 'limit', message: `It makes more than ${SHAPED_BYTES_MAX} bytes.` });
}

function plain(json: string | undefined): string {
  if (json === undefined || json === 'null') return '';
  return json[0] === '"' ? JSON.parse(json) : json;
}

function endsInText(literal: string, begins: boolean): boolean {
  let inText = begins;
  for (let at = 0; at < literal.length; at += 1) {
    const code = literal.charCodeAt(at);
    if (code === BACKSLASH && inText) at += 1;
    else if (code === QUOTE) inText = !inText;
  }
  return inText;
}

const BACKSLASH = 92;
const QUOTE = 34;

function asText(json: string | undefined): string {
  if (json === undefined || json === 'null') return '';
  if (json[0] === '"') return json.slice(1, -1);
  return json[0] === '{' || json[0] === '[' ? JSON.stringify(json).slice(1, -1) : json;
}

/** The engine's `tojson` escapes what HTML would mind. In a body of JSON a reader had rather see it. */
function withoutHtmlEscapes(json: string): string {
  if (!json.includes('\\u00')) return json;
  return json.replace(/\\\\|\\u00(3c|3e|26|27)/g, (whole, code: string | undefined) =>
    code === undefined ? whole : String.fromCharCode(Number.parseInt(code, 16)),
  );
}
