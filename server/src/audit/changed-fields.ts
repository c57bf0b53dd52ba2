/** Characters of a field, as JSON, and of all fields of one side of an entry. */
const FIELD_CHARACTERS_MAX = 2_000;
const ALL_CHARACTERS_MAX = 16_000;

const MASK = '***';

/** A value that is compared and never written: another text stands for it. */
class Hidden {
  readonly value: string;
  readonly #shown: string;

  constructor(value: string, shown: string) {
    this.value = value;
    this.#shown = shown;
  }

  toJSON(): string {
    return this.#shown;
  }
}

/** Hides a value, so that an entry says that it changed and not what it is. `shown`: what is written in its place. */
export function hidden(value: string, shown: string = MASK): object {
  return new Hidden(value, shown);
}

/** A URL without what may be a credential in it: its user, its query and its fragment. A change of these is noticed. */
export function hiddenUrl(url: string | null): object | null {
  if (url === null) return null;
  if (!URL.canParse(url)) return hidden(url);
  const { origin, pathname, search } = new URL(url);
  return hidden(url, origin + pathname + (search === '' ? '' : `?${MASK}`));
}

/**
 * What differs between two states of a row, as JSON texts: only the fields that changed, of objects in them only the
 * members that did. Of a row that came or went it is all of it. null: nothing.
 */
export function changedFields(
  before: object | undefined,
  after: object | undefined,
): { before: string | null; after: string | null } {
  if (before === undefined || after === undefined) return { before: textOf(before), after: textOf(after) };
  const [was, is] = difference(before, after);
  return { before: textOf(was as object | undefined), after: textOf(is as object | undefined) };
}

/** JSON of an object as an entry keeps it: bounded, and with values masked whose names say that they are credentials. */
export function jsonOf(fields: object): string {
  let left = ALL_CHARACTERS_MAX;
  const members = Object.entries(fields).flatMap(([name, value]) => {
    const text = JSON.stringify(masked(name, value));
    if (text === undefined) return [];
    const kept = bounded(text, Math.min(FIELD_CHARACTERS_MAX, left));
    left = Math.max(0, left - kept.length);
    return [`${JSON.stringify(name)}:${kept}`];
  });
  return `{${members.join(',')}}`;
}

function textOf(fields: object | undefined): string | null {
  return fields === undefined || Object.keys(fields).length === 0 ? null : jsonOf(fields);
}

/** Cuts JSON text to a JSON string of its beginning, with a note. */
function bounded(text: string, max: number): string {
  if (text.length <= max) return text;
  return JSON.stringify(`${text.slice(0, max / 2)}… (cut: ${Buffer.byteLength(text)} bytes)`.toWellFormed());
}

/** Both sides without what is the same; a side is undefined where it has nothing. */
function difference(before: unknown, after: unknown): [unknown, unknown] {
  if (!isPlain(before) || !isPlain(after)) return isSame(before, after) ? [undefined, undefined] : [before, after];
  const was: [string, unknown][] = [];
  const is: [string, unknown][] = [];
  for (const name of new Set([...Object.keys(before), ...Object.keys(after)])) {
    const [had, has] = difference(own(before, name), own(after, name));
    if (had !== undefined) was.push([name, had]);
    if (has !== undefined) is.push([name, has]);
  }
  // `fromEntries` takes a name such as `__proto__` for a name.
  return [someOf(was), someOf(is)];
}

function someOf(members: [string, unknown][]): object | undefined {
  return members.length === 0 ? undefined : Object.fromEntries(members);
}

function own(object: Record<string, unknown>, name: string): unknown {
  return Object.hasOwn(object, name) ? object[name] : undefined;
}

function isSame(a: unknown, b: unknown): boolean {
  if (a instanceof Hidden && b instanceof Hidden) return a.value === b.value;
  return JSON.stringify(a) === JSON.stringify(b);
}

function isPlain(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Hidden);
}

/**
 * Who records a change hides what is secret. This is the second line: texts that are named like credentials, as
 * somebody may put them into a webhook's `metadata`.
 */
function masked(name: string, value: unknown): unknown {
  if (typeof value === 'string') return LIKE_A_CREDENTIAL.test(name) ? MASK : value;
  if (Array.isArray(value)) return value.map((each) => masked(name, each));
  if (!isPlain(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([member, each]) => [member, masked(member, each)]));
}

const LIKE_A_CREDENTIAL = /passw|secret|token|credential|cookie|authorization|api[-_ ]?key|private[-_ ]?key/i;
