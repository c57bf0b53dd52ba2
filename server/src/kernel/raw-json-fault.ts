import {
  BACKSLASH,
  CLOSE_BRACE,
  COLON,
  COMMA,
  MINUS,
  OPEN_BRACE,
  OPEN_BRACKET,
  PLUS,
  POINT,
  QUOTE,
  skipWhitespace,
} from './raw-json-bytes.ts';

/**
 * Where a text stops being JSON (RFC 8259): the offset of the first byte that no valid JSON text could have after the
 * bytes before it, or the text's length when it ends too early; undefined when it is valid. Reads from `start`.
 *
 * It exists for the error message only. The engine's own message quotes the text, and names the position for some
 * faults and not for others.
 */
export function findJsonFault(text: Buffer, start = 0): number | undefined {
  const closers: number[] = [];
  let at = skipWhitespace(text, start);
  let next: 'value' | 'first-value' | 'name' | 'first-name' | 'separator' = 'value';
  for (;;) {
    const byte = text[at];
    if (next === 'separator') {
      const closer = closers.at(-1);
      if (closer === undefined) return at < text.length ? at : undefined;
      if (byte === closer) closers.pop();
      else if (byte === COMMA) next = closer === CLOSE_BRACE ? 'name' : 'value';
      else return at;
      at += 1;
    } else if ((next === 'first-value' || next === 'first-name') && byte === closers.at(-1)) {
      closers.pop();
      next = 'separator';
      at += 1;
    } else if (next === 'name' || next === 'first-name') {
      if (byte !== QUOTE) return at;
      const end = skipString(text, at);
      if (end < 0) return ~end;
      at = skipWhitespace(text, end);
      if (text[at] !== COLON) return at;
      next = 'value';
      at += 1;
    } else if (byte === OPEN_BRACE || byte === OPEN_BRACKET) {
      // A closing bracket is two places behind its opening one in ASCII.
      closers.push(byte + 2);
      next = byte === OPEN_BRACE ? 'first-name' : 'first-value';
      at += 1;
    } else {
      const end = skipScalar(text, at);
      if (end < 0) return ~end;
      next = 'separator';
      at = end;
    }
    at = skipWhitespace(text, at);
  }
}

const ZERO = 0x30;
const NINE = 0x39;
const LOWER_E = 0x65;
const LOWER_U = 0x75;

const SIMPLE_ESCAPES = Buffer.from('"\\/bfnrt');
const LITERALS = ['true', 'false', 'null'].map((word) => Buffer.from(word));

/** The three below return the offset behind what they read, or the complement (`~`) of the offset of the fault. */
function skipScalar(text: Buffer, from: number): number {
  const first = text[from];
  if (first === QUOTE) return skipString(text, from);
  const literal = LITERALS.find((word) => word[0] === first);
  if (literal === undefined) return skipNumber(text, from);
  for (let at = 0; at < literal.length; at += 1) {
    if (text[from + at] !== literal[at]) return ~(from + at);
  }
  return from + literal.length;
}

function skipString(text: Buffer, from: number): number {
  for (let at = from + 1; at < text.length; at += 1) {
    const byte = text[at] as number;
    if (byte === QUOTE) return at + 1;
    if (byte < 0x20) return ~at;
    if (byte !== BACKSLASH) continue;
    at += 1;
    const escaped = text[at];
    if (escaped === LOWER_U) {
      const end = at + 4;
      while (at < end) {
        at += 1;
        if (!isHexDigit(text[at])) return ~at;
      }
    } else if (escaped === undefined || !SIMPLE_ESCAPES.includes(escaped)) return ~at;
  }
  return ~text.length;
}

function skipNumber(text: Buffer, from: number): number {
  let at = text[from] === MINUS ? from + 1 : from;
  const whole = at;
  at = skipDigits(text, at);
  if (at === whole) return ~at;
  if (text[whole] === ZERO && at > whole + 1) return ~(whole + 1);
  if (text[at] === POINT) {
    const fraction = at + 1;
    at = skipDigits(text, fraction);
    if (at === fraction) return ~at;
  }
  if (((text[at] ?? 0) | 0x20) === LOWER_E) {
    at += 1;
    if (text[at] === PLUS || text[at] === MINUS) at += 1;
    const exponent = at;
    at = skipDigits(text, exponent);
    if (at === exponent) return ~at;
  }
  return at;
}

function skipDigits(text: Buffer, from: number): number {
  let at = from;
  while (isDigit(text[at])) at += 1;
  return at;
}

function isDigit(byte: number | undefined): boolean {
  return byte !== undefined && byte >= ZERO && byte <= NINE;
}

function isHexDigit(byte: number | undefined): boolean {
  return isDigit(byte) || (byte !== undefined && (byte | 0x20) >= 0x61 && (byte | 0x20) <= 0x66);
}
