/**
 * The texts of the scalars at a path of a valid JSON text, in their order. A segment names a member of an object. Of an
 * array every element counts, also at the end of the path; a segment of digits names an element as well. Members of the
 * same name all count: `JSON.parse` would hide all but the last. Linear in the text; nothing is parsed beside the path.
 */
export function scalarsAt(text: string, path: readonly string[]): string[] {
  const found: string[] = [];
  walk(text, skipSpace(text, 0), path, 0, found);
  return found;
}

/**
 * Whether two scalars of JSON are the same value, however they are spelled: escapes in texts, `1.0`, `1` and `10e-1`.
 * Numbers are compared as decimals, so 2^53 and 2^53 + 1 are two.
 */
export function isSameScalar(one: string, other: string): boolean {
  if (one === other) return true;
  if (one.startsWith('"') || other.startsWith('"')) {
    return one.startsWith('"') && other.startsWith('"') && JSON.parse(one) === JSON.parse(other);
  }
  const number = canonicalNumber(one);
  return number !== undefined && number === canonicalNumber(other);
}

/** Digits without zeros at their ends, and the exponent; undefined for what is no number. */
function canonicalNumber(text: string): string | undefined {
  const parts = /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/.exec(text);
  if (parts === null) return undefined;
  const [, sign = '', whole = '', fraction = '', exponent = '0'] = parts;
  const digits = `${whole}${fraction}`.replace(/^0+/, '');
  let end = digits.length;
  while (end > 0 && digits[end - 1] === '0') end -= 1;
  if (end === 0) return '0';
  const power = BigInt(exponent) - BigInt(fraction.length) + BigInt(digits.length - end);
  return `${sign}${digits.slice(0, end)}e${power}`;
}

/** Looks at the value that begins at `from`, and gives the place behind it. */
function walk(text: string, from: number, path: readonly string[], depth: number, found: string[]): number {
  switch (text[from]) {
    case '{':
      return walkObject(text, from, path, depth, found);
    case '[':
      return walkArray(text, from, path, depth, found);
    default: {
      const end = endOfScalar(text, from);
      if (depth === path.length) found.push(text.slice(from, end));
      return end;
    }
  }
}

function walkObject(text: string, from: number, path: readonly string[], depth: number, found: string[]): number {
  let at = skipSpace(text, from + 1);
  while (text[at] !== '}') {
    const nameEnd = endOfScalar(text, at);
    const isOnPath = depth < path.length && nameIs(text.slice(at, nameEnd), path[depth] as string);
    // Behind the name come a colon and the value.
    at = skipSpace(text, skipSpace(text, nameEnd) + 1);
    at = isOnPath ? walk(text, at, path, depth + 1, found) : skipValue(text, at);
    at = skipSeparator(text, at);
  }
  return at + 1;
}

function walkArray(text: string, from: number, path: readonly string[], depth: number, found: string[]): number {
  let at = skipSpace(text, from + 1);
  for (let index = 0; text[at] !== ']'; index += 1) {
    const end = walk(text, at, path, depth, found);
    if (depth < path.length && path[depth] === String(index)) walk(text, at, path, depth + 1, found);
    at = skipSeparator(text, end);
  }
  return at + 1;
}

function nameIs(written: string, name: string): boolean {
  return written.includes('\\') ? JSON.parse(written) === name : written.slice(1, -1) === name;
}

function skipValue(text: string, from: number): number {
  let depth = 0;
  let at = from;
  do {
    const character = text[at];
    if (character === '"') {
      at = endOfScalar(text, at);
      continue;
    }
    if (character === '{' || character === '[') depth += 1;
    else if (character === '}' || character === ']') depth -= 1;
    else if (depth === 0) return endOfScalar(text, at);
    at += 1;
  } while (depth > 0);
  return at;
}

/** Behind a text, a number, or one of the three words. */
function endOfScalar(text: string, from: number): number {
  let at = from;
  if (text[at] !== '"') {
    while (at < text.length && !ENDS_WORD.includes(text[at] as string)) at += 1;
    return at;
  }
  for (at += 1; text[at] !== '"'; at += 1) {
    if (text[at] === '\\') at += 1;
  }
  return at + 1;
}

const ENDS_WORD = ',]} \t\r\n';

function skipSeparator(text: string, from: number): number {
  const at = skipSpace(text, from);
  return text[at] === ',' ? skipSpace(text, at + 1) : at;
}

function skipSpace(text: string, from: number): number {
  let at = from;
  while (text[at] === ' ' || text[at] === '\n' || text[at] === '\t' || text[at] === '\r') at += 1;
  return at;
}
