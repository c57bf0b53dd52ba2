import { isCard, isPhoneValue, maskCard, maskCards, maskEmails, maskPhone, maskPhones } from './detectors.ts';
import { type HiddenValues, hiddenValues, NOTHING_HIDDEN } from './hidden-values.ts';
import { type JsonMasking, maskJson } from './mask-json.ts';
import { PathMatcher } from './path-matcher.ts';
import { MASK, type MaskingRules } from './rules.ts';
import { isPhoneName, isSecretHeader, isSecretName, plainName } from './secret-names.ts';
import { maskSecretText } from './secret-text.ts';

/** What is shown of a body. */
export interface ShownBody {
  text: string;
  /** It goes on beyond that. */
  cut: boolean;
}

export interface BodyOptions {
  /** What Posthorn sent, or what a receiver answered. */
  kind: 'sent' | 'answered';
  charactersMax: number;
  /** Only the beginning of the body was kept. */
  keptCut?: boolean;
  /** Of the event that the body is about: they are hidden wherever they stand. */
  hidden?: HiddenValues;
}

/**
 * Masks what a role without the permission `reveal` is shown. It is made of a tenant's rules once and used for every
 * look. Nothing here is on the way of a publish or a delivery: what is stored and sent is never touched.
 */
export interface Masker {
  /** It shows everything as it is. */
  readonly reveals: boolean;
  /** Values of members or paths are hidden beside credentials, so a text without its place may be one of them. */
  readonly hidesByPlace: boolean;
  /** Parts of any text may be masked, so that a search in them would tell what is masked. */
  readonly changesText: boolean;
  /** Data or metadata of an event, as JSON text. What is not masked keeps its spelling. */
  json(text: string): string;
  text(text: string, hidden?: HiddenValues): string;
  headers(headers: Readonly<Record<string, string>>, hidden?: HiddenValues): Record<string, string>;
  body(text: string, options: BodyOptions): ShownBody;
  /** The values that are hidden whole in an event. */
  hiddenIn(documents: readonly (string | null)[]): HiddenValues;
}

/** For roles with the permission `reveal`. */
export const REVEALING: Masker = {
  reveals: true,
  hidesByPlace: false,
  changesText: false,
  json: (text) => text,
  text: (text) => text,
  headers: (headers) => ({ ...headers }),
  body: (text, { charactersMax }) => ({ text: text.slice(0, charactersMax), cut: text.length > charactersMax }),
  hiddenIn: () => NOTHING_HIDDEN,
};

/** Measured for an event of 10 KB with all detectors on: see docs/masking.md. */
export function createMasker(rules: MaskingRules): Masker {
  const paths = new PathMatcher(rules.paths);
  const detectors = new Set(rules.detectors);
  const isSecret = secretNames(rules);

  const detect = (text: string): string => {
    let masked = text;
    if (detectors.has('email')) masked = maskEmails(masked);
    if (DIGIT.test(masked)) {
      if (detectors.has('card')) masked = maskCards(masked);
      if (detectors.has('phone')) masked = maskPhones(masked);
    }
    return masked;
  };
  const maskText = (text: string): string => detect(/[:= ]|_/.test(text) ? maskSecretText(text, isSecret) : text);
  const isPhone = (name: string) => detectors.has('phone') && name !== '' && isPhoneName(plainName(name));
  const maskNamed = (value: string, name: string): string => {
    const masked = maskText(value);
    return masked === value && isPhone(name) && isPhoneValue(value) ? maskPhone(value) : masked;
  };
  const maskNumber = (digits: string, name: string): string | undefined => {
    if (!/^\d{5,19}$/.test(digits)) return undefined;
    if (detectors.has('card') && isCard(digits, true)) return maskCard(digits);
    return isPhone(name) && isPhoneValue(digits) ? maskPhone(digits) : undefined;
  };

  const masking = (pathsBegin: JsonMasking['pathsBegin'], hidden: HiddenValues): JsonMasking => ({
    paths,
    pathsBegin,
    isSecret,
    text: (value, name) => maskNamed(hidden.replaceIn(value), name),
    number: (digits, name) => (hidden.has(digits) ? MASK : maskNumber(digits, name)),
    rest: (text) => maskText(hidden.replaceIn(text)),
  });

  return {
    reveals: false,
    hidesByPlace: rules.paths.length > 0 || rules.names.length > 0,
    changesText: detectors.size > 0,
    json: (text) => maskJson(text, masking('top', NOTHING_HIDDEN)).text,
    text: (text, hidden = NOTHING_HIDDEN) => maskText(hidden.replaceIn(text)),
    headers(headers, hidden = NOTHING_HIDDEN) {
      const masked = Object.entries(headers).map(([name, value]): [string, string] => [
        name,
        isSecretHeader(name) || isSecret(name) ? MASK : maskText(hidden.replaceIn(value)),
      ]);
      return Object.fromEntries(masked);
    },
    body(text, { kind, charactersMax, keptCut = false, hidden = NOTHING_HIDDEN }) {
      // An answer may repeat values that were not all gathered.
      if (kind === 'answered' && !hidden.complete) return { text: text === '' ? '' : MASK, cut: false };
      const kept = keptCut ? withoutPart(text) : text;
      const { text: masked, complete } = maskJson(kept, {
        ...masking(kind === 'sent' ? 'envelope' : 'anywhere', hidden),
        charactersMax,
      });
      return { text: masked.slice(0, charactersMax), cut: keptCut || !complete || masked.length > charactersMax };
    },
    hiddenIn: (documents) =>
      hiddenValues(documents, (document, tell) => {
        maskJson(document, { ...masking('top', NOTHING_HIDDEN), text: (value) => value, hidden: tell });
      }),
  };
}

const DIGIT = /\d/;

/** Whether the value of a member with this name is hidden. Payloads have few names, so each is judged once. */
function secretNames(rules: MaskingRules): (name: string) => boolean {
  const added = new Set(rules.names.map(plainName));
  const excepted = new Set(rules.except_names.map(plainName));
  const known = new Map<string, boolean>();
  return (name) => {
    let is = known.get(name);
    if (is === undefined) {
      const plain = plainName(name);
      is = added.has(plain) || (isSecretName(plain) && !excepted.has(plain));
      if (known.size >= NAMES_KNOWN_MAX) known.clear();
      if (name.length <= NAME_KNOWN_LENGTH_MAX) known.set(name, is);
    }
    return is;
  };
}

const NAMES_KNOWN_MAX = 2_000;
const NAME_KNOWN_LENGTH_MAX = 100;

/** The end of a text that was cut may be part of an address or a number, which no detector knows from its beginning. */
function withoutPart(text: string): string {
  let end = text.length;
  while (end > text.length - PART_MAX && end > 0 && !/[\s"',;<>]/.test(text[end - 1] as string)) end -= 1;
  while (end > text.length - PART_MAX && end > 0 && /[\d ()./+-]/.test(text[end - 1] as string)) end -= 1;
  return text.slice(0, end);
}

const PART_MAX = 400;
