import type { Evaluated, Evaluation } from './evaluation.ts';
import type { SchemaNode } from './schema-node.ts';

/** Members are own members only: `toString` is no member of `{}`, and `__proto__` is an ordinary name. */
export function evaluateObject(
  node: SchemaNode,
  value: object,
  run: Evaluation,
  evaluated: Evaluated | undefined,
): boolean {
  const names = Object.keys(value);
  // Listing the names of a large object takes 0.1 µs each.
  run.budget.spend(names.length);
  if (node.minProperties !== undefined && names.length < node.minProperties) {
    return run.fail(`must have at least ${node.minProperties} members`);
  }
  if (node.maxProperties !== undefined && names.length > node.maxProperties) {
    return run.fail(`must have at most ${node.maxProperties} members`);
  }
  let fits = hasRequired(node.required, value, run);
  fits = evaluateDependents(node, value, run, evaluated) && fits;
  if (!fits && run.decided) return false;
  fits = evaluateMembers(node, value, names, run, evaluated) && fits;
  if (!fits && run.decided) return false;
  return evaluateUnevaluated(node, value, names, run, evaluated) && fits;
}

function hasRequired(required: readonly string[] | undefined, value: object, run: Evaluation): boolean {
  let fits = true;
  run.budget.spend((required?.length ?? 0) / 2);
  for (const name of required ?? []) {
    if (Object.hasOwn(value, name)) continue;
    fits = run.fail('is required', name);
    if (run.decided) return false;
  }
  return fits;
}

function evaluateDependents(
  node: SchemaNode,
  value: object,
  run: Evaluation,
  evaluated: Evaluated | undefined,
): boolean {
  let fits = true;
  run.budget.spend(((node.dependentRequired?.size ?? 0) + (node.dependentSchemas?.size ?? 0)) / 2);
  for (const [name, required] of node.dependentRequired ?? []) {
    if (!Object.hasOwn(value, name)) continue;
    fits = hasRequired(required, value, run) && fits;
    if (!fits && run.decided) return false;
  }
  for (const [name, schema] of node.dependentSchemas ?? []) {
    if (!Object.hasOwn(value, name)) continue;
    fits = run.applies(schema, value, run, evaluated) && fits;
    if (!fits && run.decided) return false;
  }
  return fits;
}

function evaluateMembers(
  node: SchemaNode,
  value: object,
  names: readonly string[],
  run: Evaluation,
  evaluated: Evaluated | undefined,
): boolean {
  const { properties, patternProperties, additionalProperties, propertyNames } = node;
  if ((properties ?? patternProperties ?? additionalProperties ?? propertyNames) === undefined) return true;
  let fits = true;
  for (const name of names) {
    fits = evaluateMember(node, name, (value as Record<string, unknown>)[name], run, evaluated) && fits;
    if (!fits && run.decided) return false;
  }
  return fits;
}

function evaluateMember(
  node: SchemaNode,
  name: string,
  member: unknown,
  run: Evaluation,
  evaluated: Evaluated | undefined,
): boolean {
  const { propertyNames, additionalProperties } = node;
  if (propertyNames !== undefined && !run.attempt(() => run.applies(propertyNames, name, run))) {
    return run.fail('has a name that does not fit propertyNames', name);
  }
  let known = false;
  let fits = true;
  const property = node.properties?.get(name);
  if (property !== undefined) {
    known = true;
    fits = run.below(name, () => run.applies(property, member, run));
  }
  for (const { pattern, schema } of node.patternProperties ?? []) {
    if (!pattern.test(name, run.budget)) continue;
    known = true;
    fits = run.below(name, () => run.applies(schema, member, run)) && fits;
  }
  if (!known && additionalProperties !== undefined) {
    known = true;
    fits = run.below(name, () => run.applies(additionalProperties, member, run));
  }
  if (known) evaluated?.names.add(name);
  return fits;
}

function evaluateUnevaluated(
  node: SchemaNode,
  value: object,
  names: readonly string[],
  run: Evaluation,
  evaluated: Evaluated | undefined,
): boolean {
  const schema = node.unevaluatedProperties;
  if (schema === undefined || evaluated === undefined || evaluated.allNames) return true;
  let fits = true;
  for (const name of names) {
    if (evaluated.names.has(name)) continue;
    fits = run.below(name, () => run.applies(schema, (value as Record<string, unknown>)[name], run)) && fits;
    if (!fits && run.decided) return false;
  }
  evaluated.allNames = true;
  return fits;
}
