import type { PathMatcher, Places, Step } from './path-matcher.ts';
import { MASK, maskOf } from './rules.ts';

/** What is to be masked in a JSON text, and how much of the text is wanted. */
export interface JsonMasking {
  paths: PathMatcher;
  /**
   * Where a path may begin: at the `top`; in an `envelope` also at its data and metadata; or `anywhere`, in the answer of
   * a receiver, who may wrap what it got in whatever it likes.
   */
  pathsBegin: 'top' | 'envelope' | 'anywhere';
  isSecret: (name: string) => boolean;
  /** Masks a text value; `name`: of the member that it is, `''` for an element. */
  text: (value: string, name: string) => string;
  /** Masks a number, given as it is written; undefined leaves it. */
  number: (digits: string, name: string) => string | undefined;
  /** Masks what is not JSON. */
  rest: (text: string) => string;
  /** Is told each value that is hidden whole. */
  hidden?: (value: string) => void;
  /** Characters wanted (all): what is behind them is not looked at. */
  charactersMax?: number;
}

/** JSON within strings within JSON is read as JSON so many times. */
const NESTED_MAX = 3;

/** What nests deeper is hidden whole. Payloads are bounded to less. */
const DEPTH_MAX = 100;

interface Frame {
  kind: 'object' | 'array';
  /** Of the values in it. */
  places: Places;
  index: number;
}

/**
 * The same JSON text with values masked. What is not masked stays as it is, to the character: key order, number
 * spellings, escapes, repeated members. A text that is cut off is read as far as it goes; where one stops being JSON,
 * the rest is masked as text. The time is linear in the text, and nothing recurses but for JSON within strings.
 */
export function maskJson(text: string, masking: JsonMasking): { text: string; complete: boolean } {
  if (masking.paths.hidesAll) return { text: text === 'null' || text === '' ? text : `"${MASK}"`, complete: true };
  const scan = new Scan(text, masking, masking.paths.start, 0);
  return { text: scan.run(), complete: scan.complete };
}

type Expected = 'value' | 'first value' | 'first name' | 'name' | 'behind value' | 'next document';

class Scan {
  complete = true;
  readonly #text: string;
  readonly #masking: JsonMasking;
  readonly #level: number;
  readonly #frames: Frame[] = [];
  #at = 0;
  #copied = 0;
  #masked = '';
  #lastValue = 0;
  /** An object or array was met: it is JSON up to where it is not. */
  #isOpened = false;
  /** Of the value that comes next. */
  #places: Places;
  #name = '';
  #hides = false;

  constructor(text: string, masking: JsonMasking, places: Places, level: number) {
    this.#text = text;
    this.#masking = masking;
    this.#places = places;
    this.#level = level;
  }

  run(): string {
    const { charactersMax = Number.POSITIVE_INFINITY } = this.#masking;
    let expected: Expected | undefined = 'value';
    while (expected !== undefined) {
      this.#skipWhitespace();
      if (this.#at >= this.#text.length) return this.#masked + this.#text.slice(this.#copied);
      if (this.#masked.length + this.#at - this.#copied >= charactersMax) {
        this.complete = false;
        return this.#masked + this.#text.slice(this.#copied, this.#at);
      }
      expected = this.#step(expected);
    }
    if (!this.#isOpened) return this.#masking.rest(this.#text);
    // What looked like a value may have been the start of something else: `[4111 1111 …`.
    const end = Math.max(this.#copied, Math.min(this.#lastValue, this.#at));
    const json = this.#masked + this.#text.slice(this.#copied, end);
    const rest = this.#text.slice(end);
    return json + (this.#hides ? maskOf(rest.length) : this.#masking.rest(rest));
  }

  /** Reads one token; gives what may come behind it, undefined where this is no JSON. */
  #step(expected: Expected): Expected | undefined {
    const character = this.#text[this.#at] as string;
    switch (expected) {
      case 'first value':
        return character === ']' ? this.#close() : this.#value(character);
      case 'value':
        return this.#value(character);
      case 'first name':
        return character === '}' ? this.#close() : this.#memberName(character);
      case 'name':
        return this.#memberName(character);
      case 'behind value':
        return this.#behindValue(character);
      case 'next document':
        // Line after line, as logs are written.
        return character === '{' || character === '[' ? this.#value(character) : undefined;
    }
  }

  #value(character: string): Expected | undefined {
    if (character === '{' || character === '[') return this.#open(character);
    const from = this.#at;
    this.#lastValue = from;
    if (character === '"') {
      const to = endOfString(this.#text, from);
      const value = decoded(this.#text, from, to);
      if (value === undefined) return undefined;
      this.#at = to;
      const masked = this.#hides ? this.#hide(value) : this.#maskText(value);
      if (masked !== value) this.#replace(from, JSON.stringify(masked));
      return this.#afterValue();
    }
    NUMBER.lastIndex = from;
    const digits = NUMBER.exec(this.#text)?.[0];
    if (digits !== undefined) {
      this.#at = from + digits.length;
      const masked = this.#hides ? this.#hide(digits) : this.#masking.number(digits, this.#name);
      if (masked !== undefined) this.#replace(from, JSON.stringify(masked));
      return this.#afterValue();
    }
    const word = WORDS.find((each) => each[0] === character);
    const rest = this.#text.length - from;
    if (word === undefined || !this.#text.startsWith(word.slice(0, rest), from)) return undefined;
    this.#at = from + Math.min(word.length, rest);
    // That there is nothing is no secret.
    if (this.#hides && word !== 'null') this.#replace(from, `"${MASK}"`);
    return this.#afterValue();
  }

  #open(character: '{' | '['): Expected {
    const kind = character === '{' ? 'object' : 'array';
    this.#isOpened = true;
    if (this.#hides || this.#frames.length >= DEPTH_MAX) {
      this.#hideContainer();
      return this.#afterValue();
    }
    this.#frames.push({ kind, places: this.#places, index: 0 });
    this.#at += 1;
    this.#lastValue = this.#at;
    if (kind === 'object') return 'first name';
    this.#enterElement();
    return 'first value';
  }

  #close(): Expected {
    this.#frames.pop();
    this.#at += 1;
    this.#lastValue = this.#at;
    return this.#afterValue();
  }

  #memberName(character: string): Expected | undefined {
    if (character !== '"') return undefined;
    const from = this.#at;
    const to = endOfString(this.#text, from);
    const name = decoded(this.#text, from, to);
    if (name === undefined) return undefined;
    const frame = this.#frames.at(-1) as Frame;
    this.#name = name;
    this.#hides = this.#masking.paths.hides(frame.places, name) || this.#masking.isSecret(name);
    this.#at = to;
    this.#skipWhitespace();
    if (this.#at < this.#text.length) {
      if (this.#text[this.#at] !== ':') return undefined;
      this.#at += 1;
    }
    if (CONTAINER.test(this.#firstOfValue())) this.#places = this.#placesBehind(frame, name);
    const masked = this.#masking.text(name, '');
    if (masked !== name) this.#replaceUpTo(from, to, JSON.stringify(masked));
    return 'value';
  }

  #behindValue(character: string): Expected | undefined {
    const frame = this.#frames.at(-1) as Frame;
    if (character === (frame.kind === 'object' ? '}' : ']')) return this.#close();
    if (character !== ',') return undefined;
    this.#at += 1;
    if (frame.kind === 'object') return 'name';
    frame.index += 1;
    this.#enterElement();
    return 'value';
  }

  #enterElement(): void {
    const frame = this.#frames.at(-1) as Frame;
    this.#name = '';
    this.#hides = this.#masking.paths.hides(frame.places, frame.index);
    this.#places = this.#placesBehind(frame, frame.index);
  }

  #placesBehind(frame: Frame, step: Step): Places {
    const { paths, pathsBegin } = this.#masking;
    const isCarried = this.#frames.length === 1 && this.#level === 0 && (step === 'data' || step === 'metadata');
    return paths.next(frame.places, step, pathsBegin === 'anywhere' || (pathsBegin === 'envelope' && isCarried));
  }

  #afterValue(): Expected {
    this.#hides = false;
    if (this.#frames.length > 0) return 'behind value';
    this.#places = this.#masking.paths.start;
    return 'next document';
  }

  #maskText(value: string): string {
    if (this.#level < NESTED_MAX && /^\s{0,100}[{[]/.test(value)) {
      const masking = { ...this.#masking, charactersMax: Number.POSITIVE_INFINITY };
      return new Scan(value, masking, this.#places, this.#level + 1).run();
    }
    return this.#masking.text(value, this.#name);
  }

  #hide(value: string): string {
    this.#masking.hidden?.(value);
    return maskOf(value.length);
  }

  /** Skips an object or array and puts the mask in its place; one that is empty stays. */
  #hideContainer(): void {
    const from = this.#at;
    let depth = 0;
    let values = 0;
    do {
      const character = this.#text[this.#at];
      if (character === '"') {
        const start = this.#at;
        this.#at = endOfString(this.#text, start);
        values += 1;
        if (this.#masking.hidden !== undefined) this.#tellHidden(start);
        continue;
      }
      if (character === '{' || character === '[') depth += 1;
      else if (character === '}' || character === ']') depth -= 1;
      else if (/[\dtf-]/.test(character ?? '')) {
        NUMBER.lastIndex = this.#at;
        const digits = NUMBER.exec(this.#text)?.[0];
        values += 1;
        if (digits !== undefined) {
          this.#masking.hidden?.(digits);
          this.#at += digits.length;
          continue;
        }
      }
      this.#at += 1;
    } while (depth > 0 && this.#at < this.#text.length);
    if (values > 0) this.#replace(from, `"${MASK}"`);
  }

  /** A string that is no member's name. */
  #tellHidden(from: number): void {
    const value = decoded(this.#text, from, this.#at);
    let behind = this.#at;
    while (isWhitespace(this.#text[behind])) behind += 1;
    if (value !== undefined && this.#text[behind] !== ':') this.#masking.hidden?.(value);
  }

  #replace(from: number, mask: string): void {
    this.#replaceUpTo(from, this.#at, mask);
  }

  #replaceUpTo(from: number, to: number, mask: string): void {
    this.#masked += this.#text.slice(this.#copied, from) + mask;
    this.#copied = to;
  }

  #firstOfValue(): string {
    let at = this.#at;
    while (isWhitespace(this.#text[at])) at += 1;
    return this.#text[at] ?? '';
  }

  #skipWhitespace(): void {
    while (isWhitespace(this.#text[this.#at])) this.#at += 1;
  }
}

/** What can hold further steps: a text too, when it is JSON. */
const CONTAINER = /[{["]/;
const WORDS = ['null', 'true', 'false'];
const NUMBER = /-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/y;

function isWhitespace(character: string | undefined): boolean {
  return character === ' ' || character === '\n' || character === '\r' || character === '\t';
}

/** The offset behind the quote that closes the string, or the text's end. */
function endOfString(text: string, from: number): number {
  for (let at = from + 1; ; at += 1) {
    at = text.indexOf('"', at);
    if (at < 0) return text.length;
    let backslashes = 0;
    while (text[at - 1 - backslashes] === '\\') backslashes += 1;
    if (backslashes % 2 === 0) return at + 1;
  }
}

/** What a string means; as it stands when it is cut off; undefined when it is no JSON string. */
function decoded(text: string, from: number, to: number): string | undefined {
  // At the very end of the text, the quote may be one that a backslash makes a part of the string.
  const isWhole = to - from >= 2 && text[to - 1] === '"' && (to < text.length || endOfString(`${text}x`, from) === to);
  if (!isWhole) return text.slice(from + 1, to);
  const inner = text.slice(from + 1, to - 1);
  if (!inner.includes('\\')) return inner;
  try {
    return JSON.parse(text.slice(from, to)) as string;
  } catch {
    return undefined;
  }
}
