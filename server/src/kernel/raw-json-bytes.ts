/** The bytes that RFC 8259 gives a meaning. */
export const QUOTE = 0x22;
export const PLUS = 0x2b;
export const COMMA = 0x2c;
export const MINUS = 0x2d;
export const POINT = 0x2e;
export const COLON = 0x3a;
export const OPEN_BRACKET = 0x5b;
export const BACKSLASH = 0x5c;
export const CLOSE_BRACKET = 0x5d;
export const OPEN_BRACE = 0x7b;
export const CLOSE_BRACE = 0x7d;

const TAB = 0x09;
const LINE_FEED = 0x0a;
const CARRIAGE_RETURN = 0x0d;
const SPACE = 0x20;

/** RFC 8259, section 2: other kinds of white space are no part of JSON. */
export function isWhitespace(byte: number | undefined): boolean {
  return byte === SPACE || byte === LINE_FEED || byte === CARRIAGE_RETURN || byte === TAB;
}

/** The offset of the first byte from `from` on that is not white space; the text's length when there is none. */
export function skipWhitespace(text: Buffer, from: number): number {
  let at = from;
  while (at < text.length && isWhitespace(text[at])) at += 1;
  return at;
}
