import { BACKSLASH, CLOSE_BRACE, CLOSE_BRACKET, COMMA, QUOTE } from '../../kernel/raw-json-bytes.ts';

/** A member of an object, or the element of an array, of a parsed JSON text. */
export interface Member {
  holder: object;
  /** Its name; of an element, its place. */
  key: string;
}

/**
 * The texts of members as they were written, by the objects that hold them: one of each. `value` is what `JSON.parse` made
 * of `json`, and holders are objects within it, the same and not only equal. One pass, linear in the text, and no deeper
 * than it nests. Where members have the same name, the last one counts, as it does in `value`.
 */
export function memberTexts(json: string, value: unknown, members: readonly Member[]): Map<object, string> {
  const texts = new Map<object, string>();
  if (members.length > 0)
    new Walk(json, new Map(members.map(({ holder, key }) => [holder, key])), texts).value(0, value);
  return texts;
}

class Walk {
  readonly #json: string;
  readonly #keys: ReadonlyMap<object, string>;
  readonly #texts: Map<object, string>;

  constructor(json: string, keys: ReadonlyMap<object, string>, texts: Map<object, string>) {
    this.#json = json;
    this.#keys = keys;
    this.#texts = texts;
  }

  /**
   * Goes over what is written at `from`, and gives the place behind it. Of members with the same name, `value` is what the
   * last one became: it may be something else, and what is found with it then is found once more, in the last one.
   */
  value(from: number, value: unknown): number {
    const at = this.#skipSpace(from);
    const opens = this.#json[at];
    if (opens !== '{' && opens !== '[') return this.#endOfScalar(at);
    const closes = opens === '{' ? '}' : ']';
    const holder = typeof value === 'object' && value !== null ? value : undefined;
    const wanted = holder === undefined ? undefined : this.#keys.get(holder);
    let next = this.#skipSpace(at + 1);
    for (let place = 0; this.#json[next] !== closes; place += 1) {
      let key = String(place);
      if (opens === '{') {
        const end = this.#endOfScalar(next);
        key = this.#name(next, end);
        // Behind the name come a colon and the value.
        next = this.#skipSpace(this.#skipSpace(end) + 1);
      }
      const has = holder !== undefined && Object.hasOwn(holder, key);
      const end = this.value(next, has ? (holder as Record<string, unknown>)[key] : undefined);
      if (has && key === wanted) this.#texts.set(holder, this.#json.slice(next, end));
      next = this.#skipSpace(end);
      if (this.#json[next] === ',') next = this.#skipSpace(next + 1);
    }
    return next + 1;
  }

  #name(from: number, end: number): string {
    const written = this.#json.slice(from, end);
    return written.includes('\\') ? JSON.parse(written) : written.slice(1, -1);
  }

  /** Behind a text, a number, or one of the three words. */
  #endOfScalar(from: number): number {
    let at = from;
    if (this.#json[at] !== '"') {
      while (at < this.#json.length && !ENDS_WORD.has(this.#json.charCodeAt(at))) at += 1;
      return at;
    }
    for (at += 1; this.#json.charCodeAt(at) !== QUOTE; at += 1) {
      if (this.#json.charCodeAt(at) === BACKSLASH) at += 1;
    }
    return at + 1;
  }

  #skipSpace(from: number): number {
    let at = from;
    while (SPACE.has(this.#json.charCodeAt(at))) at += 1;
    return at;
  }
}

const SPACE: ReadonlySet<number> = new Set([0x20, 0x0a, 0x0d, 0x09]);
const ENDS_WORD: ReadonlySet<number> = new Set([COMMA, CLOSE_BRACE, CLOSE_BRACKET, ...SPACE]);
