import { canonicalText } from './canonical.ts';
import type { Evaluation } from './evaluation.ts';
import type { JsonType, SchemaNode } from './schema-node.ts';

export function fitsType(types: readonly JsonType[], value: unknown): boolean {
  return types.some((type) => isOfType(type, value));
}

function isOfType(type: JsonType, value: unknown): boolean {
  switch (type) {
    case 'null':
      return value === null;
    case 'array':
      return Array.isArray(value);
    case 'object':
      return typeof value === 'object' && value !== null && !Array.isArray(value);
    case 'integer':
      // 1.0 is an integer too (2020-12 validation, section 6.1.1).
      return Number.isInteger(value);
    default:
      // The three that are left are called the same in JavaScript.
      return typeof value === type;
  }
}

export function fitsValues(canonical: ReadonlySet<string>, value: unknown, run: Evaluation): boolean {
  const text = canonicalText(value);
  run.budget.spend(text.length / 4);
  return canonical.has(text);
}

export function evaluateString(node: SchemaNode, value: string, run: Evaluation): boolean {
  if (node.minLength !== undefined || node.maxLength !== undefined) {
    const length = countCharacters(value);
    run.budget.spend(value.length / 8);
    if (node.minLength !== undefined && length < node.minLength) {
      return run.fail(`must have at least ${node.minLength} characters`);
    }
    if (node.maxLength !== undefined && length > node.maxLength) {
      return run.fail(`must have at most ${node.maxLength} characters`);
    }
  }
  if (node.pattern !== undefined && !node.pattern.test(value, run.budget)) {
    return run.fail(`must match the pattern ${node.pattern.source}`);
  }
  if (node.format !== undefined && !node.format.test(value, run.budget)) {
    return run.fail(`must have the format ${node.format.name}`);
  }
  return true;
}

/** Characters are code points (2020-12 validation, section 6.3.1). */
function countCharacters(value: string): number {
  let count = value.length;
  for (let at = 1; at < value.length; at += 1) {
    if ((value.charCodeAt(at) & 0xfc00) === 0xdc00 && (value.charCodeAt(at - 1) & 0xfc00) === 0xd800) count -= 1;
  }
  return count;
}

export function evaluateNumber(node: SchemaNode, value: number, run: Evaluation): boolean {
  if (node.minimum !== undefined && value < node.minimum) return run.fail(`must be ${node.minimum} or more`);
  if (node.maximum !== undefined && value > node.maximum) return run.fail(`must be ${node.maximum} or less`);
  if (node.exclusiveMinimum !== undefined && value <= node.exclusiveMinimum) {
    return run.fail(`must be more than ${node.exclusiveMinimum}`);
  }
  if (node.exclusiveMaximum !== undefined && value >= node.exclusiveMaximum) {
    return run.fail(`must be less than ${node.exclusiveMaximum}`);
  }
  if (node.multipleOf !== undefined && !isMultiple(value, node.multipleOf)) {
    return run.fail(`must be a multiple of ${node.multipleOf}`);
  }
  return true;
}

/** 19.99 is a multiple of 0.01 although the quotient of the two doubles is 1998.9999999999998. */
function isMultiple(value: number, factor: number): boolean {
  const quotient = value / factor;
  if (!Number.isFinite(quotient)) return value % factor === 0;
  return Math.abs(quotient - Math.round(quotient)) <= 4 * Number.EPSILON * Math.abs(quotient);
}
