import { evaluateArray } from './evaluate-array.ts';
import { evaluateObject } from './evaluate-object.ts';
import { evaluateNumber, evaluateString, fitsType, fitsValues } from './evaluate-scalar.ts';
import { Evaluated, type Evaluation } from './evaluation.ts';
import type { Schema, SchemaNode } from './schema-node.ts';

/**
 * Whether a value fits a schema; what does not is noted in `run`. `evaluated` collects what was looked at, where
 * somebody asks for that.
 *
 * @throws BudgetSpent
 */
export function evaluate(schema: Schema, value: unknown, run: Evaluation, evaluated?: Evaluated): boolean {
  if (schema === true) return true;
  if (schema === false) return run.fail('is not allowed');
  run.budget.enter();
  const asksForEvaluated = schema.unevaluatedProperties !== undefined || schema.unevaluatedItems !== undefined;
  const own = evaluated !== undefined || asksForEvaluated ? new Evaluated() : undefined;
  const fits = evaluateNode(schema, value, run, own);
  if (fits && own !== undefined) evaluated?.add(own, run.budget);
  run.budget.leave();
  return fits;
}

function evaluateNode(node: SchemaNode, value: unknown, run: Evaluation, evaluated: Evaluated | undefined): boolean {
  if (node.types !== undefined && !fitsType(node.types, value)) {
    return run.fail(`must be ${node.types.join(' or ')}`);
  }
  if (node.values !== undefined && !fitsValues(node.values.canonical, value, run)) {
    return run.fail(
      node.values.canonical.size === 1 ? `must be ${node.values.shown}` : `must be one of ${node.values.shown}`,
    );
  }
  let fits = node.ref === undefined || evaluate(node.ref, value, run, evaluated);
  if (!fits && run.decided) return false;
  fits = combine(node, value, run, evaluated) && fits;
  if (!fits && run.decided) return false;
  return evaluateByType(node, value, run, evaluated) && fits;
}

function evaluateByType(node: SchemaNode, value: unknown, run: Evaluation, evaluated: Evaluated | undefined): boolean {
  if (typeof value === 'string') return evaluateString(node, value, run);
  if (typeof value === 'number') return evaluateNumber(node, value, run);
  if (Array.isArray(value)) return evaluateArray(node, value, run, evaluated);
  return typeof value !== 'object' || value === null || evaluateObject(node, value, run, evaluated);
}

/** The keywords that apply other schemas to the same value. */
function combine(node: SchemaNode, value: unknown, run: Evaluation, evaluated: Evaluated | undefined): boolean {
  let fits = true;
  for (const schema of node.allOf ?? []) {
    fits = evaluate(schema, value, run, evaluated) && fits;
    if (!fits && run.decided) return false;
  }
  if (node.anyOf !== undefined && countFits(node.anyOf, value, run, evaluated, 1) === 0) {
    fits = run.fail('fits none of the schemas in anyOf');
  }
  if (node.oneOf !== undefined) {
    const count = countFits(node.oneOf, value, run, evaluated, 2);
    if (count !== 1) fits = run.fail(`fits ${count === 0 ? 'none' : 'more than one'} of the schemas in oneOf`);
  }
  const not = node.not;
  if (not !== undefined && run.attempt(() => evaluate(not, value, run))) {
    fits = run.fail('fits the schema in not');
  }
  const condition = node.if;
  if (condition === undefined) return fits;
  const branch = run.attempt(() => evaluate(condition, value, run, evaluated)) ? node.then : node.else;
  return (branch === undefined || evaluate(branch, value, run, evaluated)) && fits;
}

/** How many of the schemas fit; counting stops at `enough`, unless somebody asks what each of them looked at. */
function countFits(
  schemas: readonly Schema[],
  value: unknown,
  run: Evaluation,
  evaluated: Evaluated | undefined,
  enough: number,
): number {
  let count = 0;
  for (const schema of schemas) {
    if (run.attempt(() => evaluate(schema, value, run, evaluated))) count += 1;
    if (count >= enough && evaluated === undefined) break;
  }
  return count;
}
