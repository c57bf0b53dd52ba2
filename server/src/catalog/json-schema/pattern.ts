import { RE2JS } from 're2js';
import type { Budget } from './budget.ts';

/** A tenant's regular expression. */
export interface Pattern {
  source: string;
  /** Instructions of its program. */
  size: number;
  /** Whether it is found anywhere in the text. */
  test(text: string, budget: Pick<Budget, 'spend'>): boolean;
}

/** What is left for the patterns of one schema. */
export interface PatternAllowance {
  sourceLength: number;
  programSize: number;
}

/** All patterns of one schema together: compiling them takes 0.2 s at worst, 0.1 ms for an ordinary one. */
export function newPatternAllowance(): PatternAllowance {
  return { sourceLength: 8_192, programSize: 4_000 };
}

/**
 * Compiles a regular expression as JSON Schema has it (ECMA-262 with the flag `u`) for an engine whose time grows only
 * linearly with the text. Lookaround and back references cannot be had that way. `\s` and `.` differ from ECMA-262
 * for a few characters beyond ASCII: `\s` takes none of them, `.` takes U+2028 and U+2029.
 *
 * @returns what is wrong with the pattern, as a text that follows its path in a message
 */
export function compilePattern(source: string, allowance: PatternAllowance, caseSensitive = true): Pattern | string {
  if (source.length > LENGTH_MAX) return `is a regular expression of more than ${LENGTH_MAX} characters`;
  allowance.sourceLength -= source.length;
  if (allowance.sourceLength < 0) return 'is one regular expression too many: together they are too long';
  if (source.length * Math.max(1, repetitions(source)) > EXPANSION_MAX) return 'repeats too much';
  try {
    new RegExp(source, 'u');
  } catch (error) {
    const reason = error instanceof Error ? error.message.slice(error.message.lastIndexOf(': ') + 2) : '';
    return `is not a regular expression: ${reason}`;
  }
  const refused = UNSUPPORTED.find(({ form }) => form.test(source));
  if (refused !== undefined) return refused.problem;
  return compileLinear(source, allowance, caseSensitive);
}

const LENGTH_MAX = 1_024;
/** Length times repetitions bounds the size of the compiled program, which is known only when it is too late. */
const EXPANSION_MAX = 30_000;

const UNSUPPORTED = [
  // The engine would read these two as something else.
  { form: /^(?:[^\\]|\\[^k])*\\k/, problem: 'uses a back reference, which is not supported' },
  {
    form: /^(?:[^\\]|\\(?!u[dD][89a-fA-F]).)*\\u[dD][89a-fA-F]/s,
    problem: 'writes a character as two surrogates; write it as \\u{…} or as itself',
  },
];

function repetitions(source: string): number {
  let sum = 0;
  for (const [, least, most] of source.matchAll(/\{(\d+)(?:,(\d*))?\}/g)) {
    sum += Math.max(Number(least), Number(most ?? 0));
  }
  return sum;
}

function compileLinear(source: string, allowance: PatternAllowance, caseSensitive: boolean): Pattern | string {
  let regex: RE2JS;
  try {
    regex = RE2JS.compile(RE2JS.translateRegExp(source), caseSensitive ? 0 : RE2JS.CASE_INSENSITIVE);
  } catch (error) {
    // The engine has several classes of errors; each names a part of the pattern, which is the tenant's own text.
    const reason = error instanceof Error ? error.message.replace('error parsing regexp: ', '') : '';
    return `uses what a regular expression in linear time cannot have (lookaround, back references…): ${reason}`;
  }
  const size = regex.programSize();
  allowance.programSize -= size;
  if (allowance.programSize < 0) return 'is one regular expression too many: together they are too complex';
  return new LinearPattern(source, regex, size);
}

class LinearPattern implements Pattern {
  readonly source: string;
  readonly #regex: RE2JS;
  readonly size: number;
  #charactersSeen = 0;

  constructor(source: string, regex: RE2JS, size: number) {
    this.source = source;
    this.#regex = regex;
    this.size = size;
  }

  test(text: string, budget: Pick<Budget, 'spend'>): boolean {
    // Measured: 60 ns a character for ordinary patterns, 10 to 18 ns a character and instruction for the worst.
    budget.spend(1 + text.length * (1 + this.size / 8));
    const matches = this.#regex.test(text);
    // The engine keeps up to 8 MB of states for each pattern, and only texts chosen to do so make it many.
    this.#charactersSeen += text.length;
    if (this.#charactersSeen > CHARACTERS_BETWEEN_RESETS) {
      this.#regex.reset();
      this.#charactersSeen = 0;
    }
    return matches;
  }
}

const CHARACTERS_BETWEEN_RESETS = 4_096;
