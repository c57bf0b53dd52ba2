import { randomBytes } from 'node:crypto';

export interface NewApiKey {
  key: string;
  /** Its first characters, by which a person tells keys apart; too few to be of use to anyone else. */
  hint: string;
}

/** `ph_`, what it is for, and 256 random bits in base62, so that a double click selects the whole. */
export const API_KEY_PATTERN = /^ph_(?:dev|stg|prod|env)_[0-9A-Za-z]{43}$/;

/** What a list of keys shows of this one; undefined for a text that is no API key, of which nothing may be shown. */
export function hintOf(key: string): string | undefined {
  return API_KEY_PATTERN.test(key) ? key.slice(0, key.length - KEY_DIGITS + HINT_CHARACTERS) : undefined;
}

/** Makes a key. `bytes`: 32 random bytes. */
export function createApiKey(environmentName: string, bytes: Buffer = randomBytes(32)): NewApiKey {
  const start = `ph_${MARKS.get(environmentName) ?? 'env'}_`;
  const key = start + base62(bytes);
  return { key, hint: key.slice(0, start.length + HINT_CHARACTERS) };
}

const MARKS = new Map([
  ['development', 'dev'],
  ['staging', 'stg'],
  ['production', 'prod'],
]);

const HINT_CHARACTERS = 4;

const DIGITS = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';

/** 62^43 is a little more than 2^256, so 32 bytes always fit in 43 digits. */
const KEY_DIGITS = 43;

function base62(bytes: Buffer): string {
  let rest = BigInt(`0x${bytes.toString('hex')}`);
  let text = '';
  for (let count = 0; count < KEY_DIGITS; count += 1) {
    text = DIGITS.charAt(Number(rest % 62n)) + text;
    rest /= 62n;
  }
  return text;
}
