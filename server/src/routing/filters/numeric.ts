/**
 * A number of JSON that a double may not hold exactly, as it is spelled. Numbers of at most 15 digits and of an ordinary
 * size are plain numbers: no two of them share a double.
 */
export class ExactNumber {
  readonly text: string;
  #decimal: Decimal | undefined;

  /** @param text as JSON spells it */
  constructor(text: string) {
    this.text = text;
  }

  get decimal(): Decimal {
    this.#decimal ??= decimalOf(this.text);
    return this.#decimal;
  }

  /** In an answer it is spelled as it was published. */
  toJSON(): unknown {
    // The types do not know it yet: a value that JSON.stringify writes as the text says.
    return (JSON as unknown as { rawJSON(text: string): unknown }).rawJSON(this.text);
  }
}

export type Numeric = number | ExactNumber;

/** What a text stands for where it is spelled like a number of JSON; undefined for all other texts: `007`, `+1`, ` 5`. */
export function numericOf(text: string): Numeric | undefined {
  if (text.length > NUMERIC_TEXT_LENGTH_MAX || !JSON_NUMBER.test(text)) return undefined;
  return mayBeInexact(text) ? new ExactNumber(text) : Number(text);
}

/** Whether a double may not hold a number that is spelled so, or one of those that stand in a longer text. */
export function mayBeInexact(text: string): boolean {
  return INEXACT.test(text);
}

/** Below zero, zero or above it, as `one` is less than, equal to or greater than `other`. Exact for any two decimals. */
export function compareNumeric(one: Numeric, other: Numeric): number {
  if (typeof one === 'number' && typeof other === 'number') return one - other;
  return compareDecimals(toDecimal(one), toDecimal(other));
}

/** Longer texts are no numbers: whoever compares with a number means none of these. */
const NUMERIC_TEXT_LENGTH_MAX = 1_024;
const JSON_NUMBER = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$/;

/** 16 digits, or an exponent of three: at 1e308 and 1e-308 doubles end. */
const INEXACT = /[\d.]{16}|[eE][+-]?\d{3}/;

interface Decimal {
  /** -1, 0 or 1. */
  sign: number;
  /** Without zeros at their ends. */
  digits: string;
  /** The value is 0.digits x 10^power. */
  power: bigint;
}

function toDecimal(value: Numeric): Decimal {
  return typeof value === 'number' ? decimalOf(String(value)) : value.decimal;
}

function decimalOf(text: string): Decimal {
  const [, minus = '', whole = '', fraction = '', exponent = '0'] =
    /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/.exec(text) ?? [];
  const all = `${whole}${fraction}`;
  let from = 0;
  while (all[from] === '0') from += 1;
  let end = all.length;
  while (end > from && all[end - 1] === '0') end -= 1;
  if (from === end) return { sign: 0, digits: '', power: 0n };
  const digits = all.slice(from, end);
  return { sign: minus === '' ? 1 : -1, digits, power: exponentOf(exponent) + BigInt(whole.length - from) };
}

/** An exponent of a thousand digits is as good as one of thirty, and reading it takes far longer. */
function exponentOf(text: string): bigint {
  const digits = text.replace(/^[+-]?0*/, '');
  if (digits.length > 30) return text.startsWith('-') ? -(10n ** 30n) : 10n ** 30n;
  return BigInt(text.replace('+', ''));
}

function compareDecimals(one: Decimal, other: Decimal): number {
  if (one.sign !== other.sign) return one.sign - other.sign;
  if (one.power !== other.power) return one.power < other.power ? -one.sign : one.sign;
  // Both begin behind the point, so they compare as texts do.
  if (one.digits === other.digits) return 0;
  return one.digits < other.digits ? -one.sign : one.sign;
}
