import { MASK } from './rules.ts';

/**
 * Masks credentials that stand in a text: `password=…`, `"token": "…"`, `Authorization: …`, `Bearer …`, the user of a
 * URL, and secrets and keys that this program made. `isSecret` says of a name whether its value is one.
 *
 * It looks for the separators and from there at most 64 characters back, so the time is linear in the text.
 */
export function maskSecretText(text: string, isSecret: (name: string) => boolean): string {
  const paired = maskPairs(text, isSecret);
  // Most texts have nothing of the kind, and these few characters are quickly looked for.
  return MARKS.test(paired)
    ? paired.replace(SCHEMES, `$1 ${MASK}`).replace(USERS, `//${MASK}@`).replace(OWN, `$1${MASK}`)
    : paired;
}

const MARKS = /:\/\/|bearer|basic|wh[ps]k_|whsec_|ph_/i;

/** RFC 6750 and RFC 7617. A word of prose behind `basic` or `bearer` is seldom as long. */
const SCHEMES = /(?<![A-Za-z0-9_])(bearer|basic) {1,4}[A-Za-z0-9+/=._~-]{8,8192}/gi;

/** RFC 3986, section 3.2.1. */
const USERS = /(?<=:)\/\/[^\s/@"'<>?#]{1,512}@/g;

/** Webhook secrets, private signing keys and API keys of this program and its like. */
const OWN = /(?<![A-Za-z0-9])(whsec_|whsk_|ph_[a-z]{3,4}_)[A-Za-z0-9+/=_-]{16,512}/g;

const SEPARATOR = /[:=]/g;
const NAME_LENGTH_MAX = 64;
const NAME_PART = /[\p{L}\p{N}_.-]/u;
/** The value of such a header has spaces and semicolons in it. */
const TO_LINE_END = /authorization|cookie/i;
const UNQUOTED = /[^\s"'&;,<>)}\]]+/y;
const LINE = /[^\r\n"<]+/y;

function maskPairs(text: string, isSecret: (name: string) => boolean): string {
  SEPARATOR.lastIndex = 0;
  let masked = '';
  let copied = 0;
  for (let match = SEPARATOR.exec(text); match !== null; match = SEPARATOR.exec(text)) {
    const name = nameBefore(text, match.index, copied);
    if (name === '' || !isSecret(name)) continue;
    const value = valueBehind(text, match.index + 1, name);
    if (value === undefined) continue;
    masked += text.slice(copied, value.from) + (value.to - value.from < MASK.length ? '*' : MASK);
    copied = value.to;
    SEPARATOR.lastIndex = value.to;
  }
  return copied === 0 ? text : masked + text.slice(copied);
}

/** The name that ends before a separator, its quotes and up to three spaces left out. */
function nameBefore(text: string, separator: number, from: number): string {
  let end = separator;
  while (end > from && end > separator - 3 && text[end - 1] === ' ') end -= 1;
  if (text[end - 1] === '"' || text[end - 1] === "'") end -= 1;
  // Of a JSON text within a JSON text.
  while (end > from && end > separator - 6 && text[end - 1] === '\\') end -= 1;
  let start = end;
  while (start > from && end - start < NAME_LENGTH_MAX && NAME_PART.test(text[start - 1] as string)) start -= 1;
  return text.slice(start, end);
}

function valueBehind(text: string, behind: number, name: string): { from: number; to: number } | undefined {
  let from = behind;
  while (from < behind + 4 && (text[from] === ' ' || text[from] === '\t')) from += 1;
  const opening = from;
  while (from < behind + 8 && text[from] === '\\') from += 1;
  const quote = text[from];
  if (quote === '"' || quote === "'") {
    const to = from > opening ? endInText(text, from + 1, quote) : endOfQuoted(text, from + 1, quote);
    return to > from + 1 ? { from: from + 1, to } : undefined;
  }
  const form = TO_LINE_END.test(name) ? LINE : UNQUOTED;
  form.lastIndex = from;
  const length = form.exec(text)?.[0].length ?? 0;
  return length > 0 ? { from, to: from + length } : undefined;
}

/** The place of the closing quote, or the end of the line or text. */
function endOfQuoted(text: string, from: number, quote: string): number {
  let to = from;
  while (to < text.length && text[to] !== quote && text[to] !== '\n') to += text[to] === '\\' ? 2 : 1;
  return Math.min(to, text.length);
}

/** The same in a JSON text within a JSON text, where the quotes that end a value have backslashes before them. */
function endInText(text: string, from: number, quote: string): number {
  let to = text.indexOf(quote, from);
  if (to < 0) return text.length;
  while (to > from && text[to - 1] === '\\') to -= 1;
  return to;
}
