import type { FormatName } from 'ajv-formats';
import addFormats from 'ajv-formats';
import type { Budget } from './budget.ts';

/** A `format` that is checked. */
export interface Format {
  name: string;
  test(text: string, budget: Budget): boolean;
}

/** Undefined for a format that is not checked: for JSON Schema such a format is a remark (2020-12 validation, 7.2.2). */
export function findFormat(name: string): Format | undefined {
  return FORMATS.get(name);
}

/**
 * Longest text that is looked at; a longer one does not match. RFC 5321 ends e-mail addresses at 320 characters and
 * RFC 1035 host names at 255; for URIs 8,000 octets is what RFC 9110 asks servers to take.
 */
const LENGTH_MAX: Partial<Record<FormatName, number>> = {
  email: 320,
  hostname: 255,
  uri: 8_192,
  'uri-reference': 8_192,
  'uri-template': 8_192,
  'json-pointer': 8_192,
  'relative-json-pointer': 8_192,
};
const LENGTH_MAX_OTHERS = 64;

/**
 * The formats of JSON Schema that have an exact and quick test. Of the library's two tests for a URI the exact one
 * takes time in the square of the length (measured: 10 ms for 4,000 characters), so the plain one is used; all others
 * are linear (measured with texts of a million characters made to fail late).
 */
const FORMATS = new Map<string, Format>(
  (
    [
      ['date', 'full'],
      ['time', 'full'],
      ['date-time', 'full'],
      ['duration', 'full'],
      ['email', 'full'],
      ['hostname', 'full'],
      ['ipv4', 'full'],
      ['ipv6', 'full'],
      ['uuid', 'full'],
      ['uri', 'fast'],
      ['uri-reference', 'fast'],
      ['uri-template', 'full'],
      ['json-pointer', 'full'],
      ['relative-json-pointer', 'full'],
    ] as const
  ).map(([name, mode]) => [name, toFormat(name, mode)]),
);

function toFormat(name: FormatName, mode: 'full' | 'fast'): Format {
  const definition = addFormats.default.get(name, mode) as LibraryFormat;
  const check = typeof definition === 'object' && 'validate' in definition ? definition.validate : definition;
  const lengthMax = LENGTH_MAX[name] ?? LENGTH_MAX_OTHERS;
  return {
    name,
    test(text, budget) {
      if (text.length > lengthMax) return false;
      budget.spend(1 + text.length / 16);
      return check instanceof RegExp ? check.test(text) : check(text);
    },
  };
}

type LibraryCheck = RegExp | ((text: string) => boolean);
type LibraryFormat = LibraryCheck | { validate: LibraryCheck };
