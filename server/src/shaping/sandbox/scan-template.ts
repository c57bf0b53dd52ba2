/** A piece of a Jinja template. `source` is the whole of it, as written. */
export type Piece =
  | { kind: 'text'; source: string }
  | {
      kind: 'expression';
      source: string;
      /** What stands between the braces. */
      inner: string;
      /** `-`, `+` or nothing beside the braces. */
      before: string;
      after: string;
    }
  | { kind: 'tag'; source: string; name: string; inner: string; before: string; after: string }
  /** `{% raw %}`, what is between it and its end, and that end. */
  | { kind: 'raw'; source: string; open: string; text: string; close: string }
  | { kind: 'comment'; source: string };

/**
 * Cuts a template into its pieces, as MiniJinja's lexer does. undefined: something in it does not end; the engine says
 * what.
 */
export function scanTemplate(source: string): Piece[] | undefined {
  const pieces: Piece[] = [];
  let at = 0;
  while (at < source.length) {
    const start = nextOpening(source, at);
    if (start > at) pieces.push({ kind: 'text', source: source.slice(at, start) });
    if (start === source.length) break;
    const piece = source[start + 1] === '#' ? comment(source, start) : block(source, start);
    if (piece === undefined) return undefined;
    pieces.push(piece);
    at = start + piece.source.length;
  }
  return pieces;
}

function nextOpening(source: string, from: number): number {
  for (let at = source.indexOf('{', from); at !== -1; at = source.indexOf('{', at + 1)) {
    const next = source[at + 1];
    if (next === '{' || next === '%' || next === '#') return at;
  }
  return source.length;
}

function comment(source: string, start: number): Piece | undefined {
  const end = source.indexOf('#}', start + 2);
  return end === -1 ? undefined : { kind: 'comment', source: source.slice(start, end + 2) };
}

function block(source: string, start: number): Piece | undefined {
  const close = source[start + 1] === '{' ? '}}' : '%}';
  const end = endOfBlock(source, start + 2, close);
  if (end === undefined) return undefined;
  const whole = source.slice(start, end);
  const before = /^[-+]/.exec(whole.slice(2))?.[0] ?? '';
  const after = /[-+]$/.exec(whole.slice(2 + before.length, -2))?.[0] ?? '';
  const inner = whole.slice(2 + before.length, whole.length - 2 - after.length);
  if (close === '}}') return { kind: 'expression', source: whole, inner, before, after };
  const name = /^\s*([A-Za-z_]\w*)/.exec(inner)?.[1] ?? '';
  if (name !== 'raw') return { kind: 'tag', source: whole, name, inner, before, after };
  END_RAW.lastIndex = end;
  const closing = END_RAW.exec(source);
  if (closing === null) return undefined;
  const text = source.slice(end, closing.index);
  return { kind: 'raw', source: whole + text + closing[0], open: whole, text, close: closing[0] };
}

const END_RAW = /\{%[-+]?\s*endraw\s*[-+]?%\}/g;

/** The index behind `close`, past texts in quotes and whatever is in brackets. */
function endOfBlock(source: string, from: number, close: string): number | undefined {
  let depth = 0;
  for (let at = from; at < source.length; at += 1) {
    const char = source[at] as string;
    if (char === '"' || char === "'") {
      const end = endOfQuoted(source, at, char);
      if (end === undefined) return undefined;
      at = end;
    } else if (depth === 0 && source.startsWith(close, at)) return at + 2;
    else if ('([{'.includes(char)) depth += 1;
    else if (')]}'.includes(char) && depth > 0) depth -= 1;
  }
  return undefined;
}

function endOfQuoted(source: string, from: number, quote: string): number | undefined {
  for (let at = from + 1; at < source.length; at += 1) {
    if (source[at] === '\\') at += 1;
    else if (source[at] === quote) return at;
  }
  return undefined;
}
