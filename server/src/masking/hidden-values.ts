import { MASK } from './rules.ts';

/**
 * Values that are hidden in an event because of where they stand. A receiver may repeat them without their place, as in
 * `unknown customer Mary Poppins`; so they are hidden in what it answered too.
 */
export interface HiddenValues {
  /** False: the event is too large, or has too many of them, to know all. */
  readonly complete: boolean;
  has(value: string): boolean;
  replaceIn(text: string): string;
}

export const NOTHING_HIDDEN: HiddenValues = { complete: true, has: () => false, replaceIn: (text) => text };

/** Shorter ones would be found everywhere, and tell nobody much. */
const VALUE_LENGTH_MIN = 4;
const VALUES_MAX = 50;

/** Of all values together: each place of an answer is compared with each of them. */
const VALUES_LENGTH_MAX = 4_096;

/** Characters of an event that are looked through for a look at one attempt. */
const CHARACTERS_MAX = 65_536;

/** `read` goes through a document and tells its hidden values. */
export function hiddenValues(
  documents: readonly (string | null)[],
  read: (document: string, tell: (value: string) => void) => void,
): HiddenValues {
  const found = new Set<string>();
  let complete = true;
  let length = 0;
  for (const document of documents) {
    if (document === null) continue;
    if (document.length > CHARACTERS_MAX) {
      complete = false;
      continue;
    }
    read(document, (value) => {
      if (value.length < VALUE_LENGTH_MIN) return;
      if (found.has(value)) return;
      length += value.length;
      if (found.size < VALUES_MAX && length <= VALUES_LENGTH_MAX) found.add(value);
      else complete = false;
    });
  }
  if (found.size === 0) return { ...NOTHING_HIDDEN, complete };
  // The longest first: one may be a part of another. One pass for all of them, and none for what is too short.
  const spellings = [...new Set([...found].flatMap(spellingsOf))].sort((one, other) => other.length - one.length);
  const shortest = spellings.at(-1)?.length ?? 0;
  const any = new RegExp(spellings.map((spelling) => RegExp.escape(spelling)).join('|'), 'g');
  return {
    complete,
    has: (value) => found.has(value),
    replaceIn: (text) => (text.length < shortest ? text : text.replace(any, MASK)),
  };
}

/** As it is, within a JSON text, and within a URL. */
function spellingsOf(value: string): string[] {
  const inUrl = value.isWellFormed() ? [encodeURIComponent(value)] : [];
  return [value, JSON.stringify(value).slice(1, -1), ...inUrl];
}
