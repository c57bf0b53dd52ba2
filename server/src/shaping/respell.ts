import { compactJson } from '../kernel/compact-json.ts';

/**
 * Writes a JSON text as `JSON.stringify(JSON.parse(text))` would: `2.0` becomes
 * `2`, `\u00e9` becomes `é`, names that are array indices go first, and of two members with one name the last one stays.
 *
 * Gives the text back as it is when a number in it would have another value after that: JavaScript has no integers
 * beyond 2^53, and reads `1e400` as infinite. What is delivered must not say something else than what was published.
 *
 * No name is taken from `JSON.parse`, which reads some wrongly (docs/decisions/0009). The text is valid and
 * nests no deeper than an event in its envelope.
 *
 * Measured: 2 us for 350 bytes and 26 us for 6 kB where there is nothing to do, 11 us and 150 us where there is.
 */
export function respell(body: Buffer): Buffer {
  const text = body.toString('utf8');
  // Nothing to do is the usual case, and V8 is the quickest to find it.
  if (JSON.stringify(JSON.parse(text)) === text) return body;
  const respelled = new Respelling(compactJson(body).toString('utf8')).value();
  return respelled === undefined ? body : Buffer.from(respelled);
}

/** Of a valid JSON text without white space between its tokens. */
class Respelling {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  /** The value that begins here, and the place moves behind it; undefined when it holds a number that would change. */
  value(): string | undefined {
    switch (this.#text[this.#at]) {
      case '{':
        return this.#object();
      case '[':
        return this.#array();
      case '"':
        return this.#string();
      case 't':
      case 'n':
        return this.#take(this.#at + 4);
      case 'f':
        return this.#take(this.#at + 5);
      default:
        return this.#number();
    }
  }

  #object(): string | undefined {
    // As in an object of JavaScript: a name that comes again has its first place and its last value.
    const members = new Map<string, string>();
    let hasIndices = false;
    for (this.#at += 1; this.#text[this.#at] !== '}'; this.#at += this.#text[this.#at] === ',' ? 1 : 0) {
      const name = this.#string();
      this.#at += 1;
      const value = this.value();
      if (value === undefined) return undefined;
      hasIndices ||= isIndex(name);
      members.set(name, value);
    }
    this.#at += 1;
    const entries = [...members];
    if (hasIndices) entries.sort(([a], [b]) => byIndex(a, b));
    return `{${entries.map(([name, value]) => `${name}:${value}`).join()}}`;
  }

  #array(): string | undefined {
    const elements: string[] = [];
    for (this.#at += 1; this.#text[this.#at] !== ']'; this.#at += this.#text[this.#at] === ',' ? 1 : 0) {
      const value = this.value();
      if (value === undefined) return undefined;
      elements.push(value);
    }
    this.#at += 1;
    return `[${elements.join()}]`;
  }

  #string(): string {
    const from = this.#at;
    const token = this.#take(this.#text.indexOf('"', from + 1) + 1);
    // Without escapes there is one spelling only.
    if (!token.includes('\\')) return token;
    return JSON.stringify(JSON.parse(this.#escapedString(from)));
  }

  #escapedString(from: number): string {
    let end = from + 1;
    while (this.#text[end] !== '"') end += this.#text[end] === '\\' ? 2 : 1;
    this.#at = from;
    return this.#take(end + 1);
  }

  #number(): string | undefined {
    NUMBER.lastIndex = this.#at;
    const token = NUMBER.exec(this.#text)?.[0] ?? '';
    this.#at += token.length;
    return respelledNumber(token);
  }

  #take(end: number): string {
    const token = this.#text.slice(this.#at, end);
    this.#at = end;
    return token;
  }
}

const NUMBER = /-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?/y;

/** Characters of a number: more than any that a double can be told by. Longer ones are not looked into. */
const NUMBER_LENGTH_MAX = 400;

/** As `JSON.stringify` writes a number; undefined when that is another one. */
function respelledNumber(token: string): string | undefined {
  if (token.length > NUMBER_LENGTH_MAX) return undefined;
  const value = Number(token);
  const isKept = isLargeInteger(value) ? digitsOf(token) === digitsOf(String(value)) : isClose(value, token);
  return isKept ? JSON.stringify(value) : undefined;
}

/** Beyond what a double counts by one: it is kept when none of its digits becomes another one. */
function isLargeInteger(value: number): boolean {
  return Number.isInteger(value) && Math.abs(value) >= 2 ** 53;
}

/** Digits by which every double can be told from every other. */
const DIGITS_MAX = 17;

/** Any other number is kept unless it has more digits than a double, or is too large or too small for one. */
function isClose(value: number, token: string): boolean {
  const digits = digitsOf(token);
  return Number.isFinite(value) && digits.length <= DIGITS_MAX && (value !== 0 || digits === '');
}

/** Of the number without sign, exponent, and zeros at its ends. */
function digitsOf(token: string): string {
  return (/^[^eE]*/.exec(token)?.[0] ?? '').replace(/[-.]/g, '').replace(/^0+/, '').replace(/0+$/, '');
}

const INDEX_MAX = 2 ** 32 - 2;

/** Whether a member is an array index to JavaScript. `name` has its quotes. */
function isIndex(name: string): boolean {
  return /^"(0|[1-9][0-9]{0,9})"$/.test(name) && Number(name.slice(1, -1)) <= INDEX_MAX;
}

/** Indices first and by size, all others as they came: the sort is stable. */
function byIndex(a: string, b: string): number {
  const [first, second] = [isIndex(a), isIndex(b)];
  if (first && second) return Number(a.slice(1, -1)) - Number(b.slice(1, -1));
  return Number(second) - Number(first);
}
