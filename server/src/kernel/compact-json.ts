import { BACKSLASH, isWhitespace, QUOTE } from './raw-json-bytes.ts';

/**
 * The same JSON text without the white space between its tokens; the text itself when there is none. Everything else
 * stays to the byte: key order, number spellings, escapes, repeated keys.
 *
 * Receivers written after isp-communications.md sign what `JSON.stringify` makes of the parsed body, which has no white
 * space; a payload published pretty-printed must verify there too. The text must be valid JSON.
 *
 * Measured for 350 bytes: 0.5 us where there is nothing to do, 2.3 us for the same text pretty-printed.
 */
export function compactJson(text: Buffer): Buffer {
  const first = nextWhitespace(text, 0);
  if (first === text.length) return text;
  const compact = Buffer.allocUnsafe(text.length);
  let length = text.copy(compact, 0, 0, first);
  for (let at = first; at < text.length; ) {
    while (isWhitespace(text[at])) at += 1;
    const end = nextWhitespace(text, at);
    length += text.copy(compact, length, at, end);
    at = end;
  }
  return compact.subarray(0, length);
}

/** The offset of the next white space outside strings, from an offset outside strings; the text's length if there is none. */
function nextWhitespace(text: Buffer, from: number): number {
  for (let at = from; at < text.length; at++) {
    const byte = text[at];
    if (byte === QUOTE) at = endOfString(text, at + 1);
    else if (isWhitespace(byte)) return at;
  }
  return text.length;
}

/** The offset of the quote that closes a string. */
function endOfString(text: Buffer, from: number): number {
  let at = from;
  while (at < text.length && text[at] !== QUOTE) at += text[at] === BACKSLASH ? 2 : 1;
  return at;
}
