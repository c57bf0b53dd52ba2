import { canonicalText } from './canonical.ts';
import type { Evaluated, Evaluation } from './evaluation.ts';
import type { SchemaNode } from './schema-node.ts';

export function evaluateArray(
  node: SchemaNode,
  value: readonly unknown[],
  run: Evaluation,
  evaluated: Evaluated | undefined,
): boolean {
  if (node.minItems !== undefined && value.length < node.minItems) {
    return run.fail(`must have at least ${node.minItems} items`);
  }
  if (node.maxItems !== undefined && value.length > node.maxItems) {
    return run.fail(`must have at most ${node.maxItems} items`);
  }
  if (node.uniqueItems && !areUnique(value, run)) return run.fail('must have no two equal items');
  if (!evaluateItems(node, value, run, evaluated)) return false;
  if (!evaluateContains(node, value, run, evaluated)) return false;
  return evaluateUnevaluated(node, value, run, evaluated);
}

function evaluateItems(
  node: SchemaNode,
  value: readonly unknown[],
  run: Evaluation,
  evaluated: Evaluated | undefined,
): boolean {
  const { prefixItems = [], items } = node;
  const end = items === undefined ? Math.min(prefixItems.length, value.length) : value.length;
  let fits = true;
  for (let at = 0; at < end; at += 1) {
    const schema = prefixItems[at] ?? items;
    if (schema === undefined || schema === true) continue;
    fits = run.below(at, () => run.applies(schema, value[at], run)) && fits;
    if (!fits && run.decided) return false;
  }
  if (evaluated === undefined) return fits;
  if (items !== undefined) evaluated.allPositions = true;
  else addPositions(evaluated, end, run);
  return fits;
}

function addPositions(evaluated: Evaluated, end: number, run: Evaluation): void {
  run.budget.spend(end / 2);
  for (let at = 0; at < end; at += 1) evaluated.positions.add(at);
}

function evaluateContains(
  node: SchemaNode,
  value: readonly unknown[],
  run: Evaluation,
  evaluated: Evaluated | undefined,
): boolean {
  const { contains, minContains = 1, maxContains } = node;
  if (contains === undefined) return true;
  let count = 0;
  for (let at = 0; at < value.length; at += 1) {
    if (!run.attempt(() => run.applies(contains, value[at], run))) continue;
    count += 1;
    evaluated?.positions.add(at);
  }
  if (count < minContains) return run.fail(`must have at least ${minContains} items that fit contains`);
  if (maxContains === undefined || count <= maxContains) return true;
  return run.fail(`must have at most ${maxContains} items that fit contains`);
}

function evaluateUnevaluated(
  node: SchemaNode,
  value: readonly unknown[],
  run: Evaluation,
  evaluated: Evaluated | undefined,
): boolean {
  const schema = node.unevaluatedItems;
  if (schema === undefined || evaluated === undefined || evaluated.allPositions) return true;
  let fits = true;
  run.budget.spend(value.length / 4);
  for (let at = 0; at < value.length; at += 1) {
    if (evaluated.positions.has(at)) continue;
    fits = run.below(at, () => run.applies(schema, value[at], run)) && fits;
    if (!fits && run.decided) return false;
  }
  evaluated.allPositions = true;
  return fits;
}

function areUnique(value: readonly unknown[], run: Evaluation): boolean {
  const seen = new Set<string>();
  for (const item of value) {
    const text = canonicalText(item);
    run.budget.spend(1 + text.length / 4);
    if (seen.size === seen.add(text).size) return false;
  }
  return true;
}
