import { compilePattern, type PatternAllowance } from '../../catalog/json-schema/pattern.ts';
import { type FieldPath, readFieldPath, someValueAt } from './field-path.ts';
import { type Filter, type FilterOperator, VALUE_LENGTH_MAX, VALUES_MAX } from './filter.ts';
import type { FilteredEvent } from './filtered-event.ts';
import { compareNumeric } from './numeric.ts';
import { numericIn, type Operand, readOperand, timeOf } from './operand.ts';

/** A filter that is ready to look at events. */
export interface CompiledFilter {
  path: FieldPath;
  /** It asks for a regular expression, so others are asked before it. */
  isCostly: boolean;
  matches(event: FilteredEvent): boolean;
}

/** Where something is wrong with a filter: behind its own path in the request. */
export interface FilterProblem {
  field: 'field_path' | 'operator' | 'value' | `value.${number}`;
  message: string;
}

/**
 * Characters of the values at its path that a filter with `matches` reads: 4,096, and fewer where the pattern's program
 * has more than 16 instructions, down to 512. Of a longer text the beginning counts, and texts behind that are not read.
 * The worst patterns known take 10 ms for what they may read, and 40 ms for 4,096 characters; an ordinary one takes 1 us
 * for an address (measured).
 */
function charactersRead(programSize: number): number {
  return Math.min(4_096, Math.floor(65_536 / programSize));
}

/** What the regular expressions of one webhook may be together. */
export function newFilterPatternAllowance(): PatternAllowance {
  return { sourceLength: 1_024, programSize: 128 };
}

/**
 * Prepares a filter. A negated operator is the exact opposite of its positive one, so it also matches an event that has
 * no value at the path.
 */
export function compileFilter(
  filter: Filter,
  patterns: PatternAllowance,
): { ok: true; filter: CompiledFilter } | { ok: false; problem: FilterProblem } {
  const read = readFieldPath(filter.field_path);
  if (!read.ok) return { ok: false, problem: { field: 'field_path', message: read.problem } };
  const test = testOf(filter, patterns);
  if ('problem' in test) return { ok: false, problem: test.problem };
  const { path } = read;
  const { negated, exact, costly, begin } = test;
  return {
    ok: true,
    filter: {
      path,
      isCostly: costly === true,
      matches: (event) => someValueAt(event, path, exact === true, begin(event)) !== (negated === true),
    },
  };
}

interface Test {
  negated?: boolean;
  /** It compares numbers. */
  exact?: boolean;
  costly?: boolean;
  /** What one value at the path has to satisfy. */
  begin(event: FilteredEvent): (value: unknown) => boolean;
}

function testOf(filter: Filter, patterns: PatternAllowance): Test | { problem: FilterProblem } {
  const { operator, value, case_sensitive: caseSensitive } = filter;
  switch (operator) {
    case 'exists':
    case 'not_exists':
      if (value !== undefined && value !== null && value !== true) {
        return wrong('value', `must be absent; ${OPPOSITE[operator]} asks for the opposite`);
      }
      return { negated: operator === 'not_exists', begin: () => () => true };
    case 'equals':
    case 'not_equals': {
      const operand = operandOf(value, 'value');
      if ('problem' in operand) return operand;
      const equals = equalsTest(operand, caseSensitive);
      return { negated: operator === 'not_equals', exact: isNumeric(operand), begin: equals };
    }
    case 'in':
    case 'not_in':
      return inTest(value, caseSensitive, operator === 'not_in');
    case 'contains':
    case 'not_contains': {
      const operand = operandOf(value, 'value');
      if ('problem' in operand) return operand;
      if (operand.kind === 'text' && operand.text === '') return wrong('value', 'must not be empty');
      return {
        negated: operator === 'not_contains',
        exact: isNumeric(operand),
        begin: containsTest(operand, caseSensitive),
      };
    }
    case 'starts_with':
    case 'ends_with':
      return edgeTest(operator, value, caseSensitive);
    case 'matches':
      return patternTest(value, caseSensitive, patterns);
    case 'greater_than':
    case 'greater_than_or_equal':
    case 'less_than':
    case 'less_than_or_equal':
      return orderTest(operator, value, caseSensitive);
    default:
      // Only a row has it, written by a later version.
      return wrong('operator', 'is not known');
  }
}

const OPPOSITE = { exists: 'not_exists', not_exists: 'exists' } as const;

function wrong(field: FilterProblem['field'], message: string): { problem: FilterProblem } {
  return { problem: { field, message } };
}

function operandOf(value: unknown, field: FilterProblem['field']): Operand | { problem: FilterProblem } {
  const operand = readOperand(value);
  if (operand === undefined) return wrong(field, 'must be a text, a number, true, false or null');
  const problem = valueProblem(value);
  return problem === undefined ? operand : wrong(field, problem);
}

/** What PostgreSQL or a reader of JSON would not give back as it is. */
function valueProblem(value: unknown): string | undefined {
  if (typeof value === 'string') {
    if (value.length > VALUE_LENGTH_MAX) return `must be at most ${VALUE_LENGTH_MAX} characters`;
    if (value.includes('\0') || !value.isWellFormed()) {
      return 'must have no NUL characters and no halves of surrogate pairs';
    }
  }
  if (typeof value === 'number' && Math.abs(value) > Number.MAX_SAFE_INTEGER) {
    return 'is a number that readers of JSON round; write it as a text, which is compared with numbers exactly';
  }
  return undefined;
}

function isNumeric(operand: Operand): boolean {
  return operand.kind === 'number' || (operand.kind === 'text' && operand.numeric !== undefined);
}

/** A text that is spelled like a number is one where the other side is a number. Two texts are compared as texts. */
function equalsTest(operand: Operand, caseSensitive: boolean): Test['begin'] {
  switch (operand.kind) {
    case 'text': {
      const { text, folded, numeric } = operand;
      return (event) => (value) => {
        if (typeof value === 'string') {
          if (caseSensitive) return value === text;
          // Folding makes no text shorter.
          return value.length <= folded.length && event.fold(value) === folded;
        }
        const number = numeric === undefined ? undefined : numericIn(value);
        return number !== undefined && numeric !== undefined && compareNumeric(number, numeric) === 0;
      };
    }
    case 'number':
      return () => (value) => {
        const number = numericIn(value);
        return number !== undefined && compareNumeric(number, operand.numeric) === 0;
      };
    case 'other':
      return () => (value) => value === operand.value;
  }
}

function inTest(value: unknown, caseSensitive: boolean, negated: boolean): Test | { problem: FilterProblem } {
  if (!Array.isArray(value) || value.length === 0 || value.length > VALUES_MAX) {
    return wrong('value', `must be a list of 1 to ${VALUES_MAX} values`);
  }
  const operands: Operand[] = [];
  for (const [at, each] of value.entries()) {
    const operand = operandOf(each, `value.${at}`);
    if ('problem' in operand) return operand;
    operands.push(operand);
  }
  // Texts are looked up together: folding one for each of a hundred values would cost more than all else.
  const texts = new Set(
    operands.flatMap((each) => (each.kind === 'text' ? [caseSensitive ? each.text : each.folded] : [])),
  );
  const others = operands.filter((each) => each.kind !== 'text' || each.numeric !== undefined);
  const tests = others.map((operand) => equalsTest(operand, true));
  return {
    negated,
    exact: operands.some(isNumeric),
    begin: (event) => {
      const begun = tests.map((begin) => begin(event));
      return (each) => {
        if (typeof each === 'string' && texts.has(caseSensitive ? each : event.fold(each))) return true;
        event.spend(begun.length);
        return begun.some((equals) => equals(each));
      };
    },
  };
}

/** A text has the part, or an array has the element. */
function containsTest(operand: Operand, caseSensitive: boolean): Test['begin'] {
  const equals = equalsTest(operand, caseSensitive);
  return (event) => {
    const equalsElement = equals(event);
    return (value) => {
      if (typeof value === 'string') {
        if (operand.kind !== 'text') return false;
        event.spend(value.length / 256);
        return caseSensitive ? value.includes(operand.text) : event.fold(value).includes(operand.folded);
      }
      if (!Array.isArray(value)) return false;
      event.spend(value.length);
      return value.some(equalsElement);
    };
  };
}

function edgeTest(
  operator: 'starts_with' | 'ends_with',
  value: unknown,
  caseSensitive: boolean,
): Test | { problem: FilterProblem } {
  const operand = textOf(value);
  if ('problem' in operand) return operand;
  const { text, folded } = operand;
  return {
    begin: (event) => (each) => {
      if (typeof each !== 'string') return false;
      if (operator === 'starts_with') {
        return caseSensitive ? each.startsWith(text) : event.fold(each.slice(0, folded.length)).startsWith(folded);
      }
      return caseSensitive ? each.endsWith(text) : event.fold(each.slice(-folded.length)).endsWith(folded);
    },
  };
}

function patternTest(
  value: unknown,
  caseSensitive: boolean,
  patterns: PatternAllowance,
): Test | { problem: FilterProblem } {
  const operand = textOf(value);
  if ('problem' in operand) return operand;
  const pattern = compilePattern(operand.text, patterns, caseSensitive);
  if (typeof pattern === 'string') return wrong('value', pattern);
  return {
    costly: true,
    begin: (event) => {
      let left = charactersRead(pattern.size);
      return (each) => {
        if (typeof each !== 'string' || left <= 0) return false;
        const text = each.length > left ? each.slice(0, left) : each;
        left -= text.length;
        return pattern.test(text, event);
      };
    },
  };
}

function orderTest(
  operator: Extract<FilterOperator, `${'greater' | 'less'}${string}`>,
  value: unknown,
  caseSensitive: boolean,
): Test | { problem: FilterProblem } {
  const operand = operandOf(value, 'value');
  if ('problem' in operand) return operand;
  if (operand.kind === 'other') return wrong('value', 'must be a number or a text');
  const satisfies = SATISFIES[operator];
  const { numeric } = operand;
  if (numeric !== undefined) {
    return {
      exact: true,
      begin: () => (each) => {
        const number = numericIn(each);
        return number !== undefined && satisfies(compareNumeric(number, numeric));
      },
    };
  }
  if (operand.kind !== 'text') return wrong('value', 'must be a number or a text');
  const { text, folded, timeMs } = operand;
  if (timeMs !== undefined) {
    return {
      begin: () => (each) => {
        const other = typeof each === 'string' ? timeOf(each) : undefined;
        return other !== undefined && satisfies(other - timeMs);
      },
    };
  }
  return {
    begin: (event) => (each) => {
      if (typeof each !== 'string') return false;
      const [one, other] = caseSensitive ? [each, text] : [event.fold(each), folded];
      return satisfies(one === other ? 0 : one < other ? -1 : 1);
    },
  };
}

const SATISFIES = {
  greater_than: (order: number) => order > 0,
  greater_than_or_equal: (order: number) => order >= 0,
  less_than: (order: number) => order < 0,
  less_than_or_equal: (order: number) => order <= 0,
} as const;

function textOf(value: unknown): Extract<Operand, { kind: 'text' }> | { problem: FilterProblem } {
  const operand = typeof value === 'string' ? operandOf(value, 'value') : wrong('value', 'must be a text');
  if ('problem' in operand) return operand;
  if (operand.kind !== 'text' || operand.text === '') return wrong('value', 'must be a text that is not empty');
  return operand;
}
