/**
 * Find e-mail addresses, telephone numbers and payment cards in a text and mask them in a form by which they can still
 * be told apart. The time is linear in the text: what each may look at from one place is bounded, or ends where the
 * look from the place before began.
 */

/** `john@example.com` becomes `j***@example.com`. `%40` counts as the `@` of an address in a URL. */
export function maskEmails(text: string): string {
  AT.lastIndex = 0;
  let masked = '';
  let copied = 0;
  for (let match = AT.exec(text); match !== null; match = AT.exec(text)) {
    const domainFrom = AT.lastIndex;
    const domainTo = endOfDomain(text, domainFrom);
    if (domainTo === domainFrom) continue;
    const localFrom = startOfLocal(text, match.index, copied);
    const length = match.index - localFrom;
    if (length === 0) continue;
    const local = length === 1 ? '*' : (text[localFrom] as string) + STARS.slice(0, Math.min(3, length - 1));
    masked += text.slice(copied, localFrom) + local;
    copied = match.index;
    AT.lastIndex = domainTo;
  }
  return copied === 0 ? text : masked + text.slice(copied);
}

const AT = /@|%40/g;
const STARS = '***';

/** What cannot stand in an unquoted local part; letters of every script can (RFC 6531). */
const NOT_LOCAL = /[\s"(),:;<>@[\]\\=?&{}|/%\p{Cc}]/u;

/** The start of the local part that ends at `end`; `end` when there is none. Not before `from`. */
function startOfLocal(text: string, end: number, from: number): number {
  if (text[end - 1] === '"') {
    const open = text.lastIndexOf('"', end - 2);
    return open >= Math.max(from, end - 66) ? open : end;
  }
  let at = end;
  while (at > from && !NOT_LOCAL.test(text[at - 1] as string)) at -= 1;
  return at;
}

/** The end of the domain at `from`; `from` when there is none: it has a dot, and letters behind the last one. */
function endOfDomain(text: string, from: number): number {
  DOMAIN.lastIndex = from;
  const domain = DOMAIN.exec(text)?.[0] ?? '';
  const dot = domain.lastIndexOf('.');
  return dot > 0 && /^(?:\p{L}{2}|xn--)/u.test(domain.slice(dot + 1)) ? from + domain.length : from;
}

/** At most the 253 characters that a name may have. A dot at the end belongs to the sentence. */
const DOMAIN = /[\p{L}\p{N}](?:[\p{L}\p{N}-]|\.(?=[\p{L}\p{N}])){0,252}/uy;

/** `4111 1111 1111 1111` becomes `****1111`. */
export function maskCards(text: string): string {
  if (text.length < CARD_DIGITS_MIN) return text;
  return text.replace(DIGIT_GROUPS, maskCardsInRun);
}

const CARD_DIGITS_MIN = 13;
const CARD_DIGITS_MAX = 19;
const CARD_GROUPS_MAX = 6;

/** Digits with single spaces or dashes between them, as much of them as there is; not the tail of a name or number. */
const DIGIT_GROUPS = /(?<![\p{L}\p{N}_.])\d(?:[ \u00a0-]?\d)*(?![\p{L}_]|\.\d)/gu;

/** Looks at each stretch of whole groups that has as many digits as a card. */
function maskCardsInRun(run: string): string {
  if (run.length < CARD_DIGITS_MIN) return run;
  const parts = run.split(/([ \u00a0-])/);
  let masked = '';
  for (let at = 0; at < parts.length; ) {
    let digits = '';
    let end = -1;
    const last = Math.min(parts.length - 1, at + 2 * (CARD_GROUPS_MAX - 1));
    for (let to = at; to <= last && digits.length <= CARD_DIGITS_MAX; to += 2) {
      digits += parts[to];
      if (isCard(digits, to === at)) end = to;
    }
    if (end < 0) {
      masked += parts[at];
      at += 1;
    } else {
      masked += maskCard(parts.slice(at, end + 1).join(''));
      at = end + 1;
    }
    // A separator is copied as it is.
    if (at < parts.length && at % 2 === 1) {
      masked += parts[at];
      at += 1;
    }
  }
  return masked;
}

/** `bare`: without separators, as times in milli-, micro- and nanoseconds are written; one in ten of them would pass. */
export function isCard(digits: string, bare: boolean): boolean {
  if (digits.length < CARD_DIGITS_MIN || digits.length > CARD_DIGITS_MAX) return false;
  if (/^0/.test(digits) || (bare && isTime(digits))) return false;
  let sum = 0;
  for (let at = digits.length - 1, double = false; at >= 0; at--, double = !double) {
    const digit = digits.charCodeAt(at) - 48;
    sum += double ? (digit > 4 ? digit * 2 - 9 : digit * 2) : digit;
  }
  return sum % 10 === 0;
}

/** From 2015 to 2039. */
function isTime(digits: string): boolean {
  const [length, first] = [digits.length, Number(digits.slice(0, 4))];
  return (length === 13 || length === 16 || length === 19) && first >= 1_420 && first <= 2_208;
}

export function maskCard(card: string): string {
  return `****${card.slice(-4)}`;
}

/**
 * `+491701234589` becomes `+49********89`, `(555) 123-4567` becomes `(***) ***-**67`. Found are numbers with a `+` or `00`
 * and a country code, in any common spelling, and national ones that have separators where telephone numbers have them.
 * Bare digits are not: they may be an id or a time. A member with the name of a telephone number is one without that.
 */
export function maskPhones(text: string): string {
  if (text.length < 7) return text;
  return text.replace(PHONES, maskPhone);
}

/** A `+` is kept with the two digits behind it, and so are the last two digits. */
export function maskPhone(phone: string): string {
  const digits = digitsIn(phone);
  const kept = phone.startsWith('+') ? 2 : 0;
  let at = 0;
  return phone.replace(/\d/g, (digit) => {
    at += 1;
    return at <= kept || at > digits - 2 ? digit : '*';
  });
}

/** The value of a member that is named like a telephone number is one. */
export function isPhoneValue(value: string): boolean {
  return /^[+(\d][\d ()./\u00a0-]{4,31}$/.test(value) && digitsIn(value) >= 5;
}

function digitsIn(text: string): number {
  return text.replace(/\D/g, '').length;
}

/** Not the tail of a number or a name. `00` is asked for more digits than `+`: it may be the start of an id. */
const INTERNATIONAL =
  /(?<![\p{L}\p{N}_])(?:\+[ .-]?[1-9](?:[ .()/\u00a0-]{0,2}\d){6,14}|00[ .-]?[1-9](?:[ .()/\u00a0-]{0,2}\d){8,12})/u;
const NORTH_AMERICAN = /(?:\(\d{3}\)[ .-]?|\d{3}[ .-])\d{3}[ .-]\d{4}/;
/** An area code of three to six digits, its 0 included, and at least five digits in groups. */
const WITH_AREA_CODE = /\(?0[1-9]\d{1,4}\)?(?:[ /]|-|\/ )(?:\d{5,9}|\d{2,5}(?:[ -]\d{2,5}){1,4})/;
/** As in France: five pairs. */
const PAIRS = /0[1-9](?:[ .-]\d{2}){4}/;

/** Nor of a date, an id or an address. */
const NATIONAL = [NORTH_AMERICAN, WITH_AREA_CODE, PAIRS].map(({ source }) => source).join('|');
const PHONES = new RegExp(
  `(?:${INTERNATIONAL.source}|(?<![\\p{L}\\p{N}_.+/-]|\\d:)(?:${NATIONAL}))(?!\\d|[.-]\\d)`,
  'gu',
);
