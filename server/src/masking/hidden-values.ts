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

/** Characters of an event that are looked through for a look at one attempt. */
const CHARACTERS_MAX = 65_536;

/** `read` goes through a document and tells its hidden values. */
export function hiddenValues(
  documents: readonly (string | null)[],
  read: (document: string, tell: (value: string) => void) => void,
): HiddenValues {
  const found = new Set<string>();
  let complete = true;
  for (const document of documents) {
    if (document === null) continue;
    if (document.length > CHARACTERS_MAX) {
      complete = false;
      continue;
    }
    read(document, (value) => {
      if (value.length < VALUE_LENGTH_MIN) return;
      if (found.size < VALUES_MAX) found.add(value);
      else if (!found.has(value)) complete = false;
    });
  }
  if (found.size === 0) return { ...NOTHING_HIDDEN, complete };
  // The longest first: one may be a part of another.
  const spellings = [...new Set([...found].flatMap(spellingsOf))].sort((one, other) => other.length - one.length);
  return {
    complete,
    has: (value) => found.has(value),
    replaceIn(text) {
      let masked = text;
      for (const spelling of spellings) {
        if (masked.includes(spelling)) masked = masked.replaceAll(spelling, MASK);
      }
      return masked;
    },
  };
}

/** As it is, within a JSON text, and within a URL. */
function spellingsOf(value: string): string[] {
  const inUrl = value.isWellFormed() ? [encodeURIComponent(value)] : [];
  return [value, JSON.stringify(value).slice(1, -1), ...inUrl];
}
