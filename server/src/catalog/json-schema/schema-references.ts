import { SchemaFault } from './schema-fault.ts';
import type { Schema, SchemaNode } from './schema-node.ts';

/**
 * Gives every `$ref` its schema. Cycles are fine as long as each turn goes one step down into the data.
 *
 * @throws SchemaFault for a reference that leads nowhere or to another document, and for a cycle that never ends
 */
export function resolveReferences(index: SchemaIndex, root: Schema): void {
  for (const reference of index.references) reference.node.ref = find(index, reference);
  const walk: Walk = { finished: new Set(), open: new Set() };
  if (typeof root === 'object') refuseEndless(root, walk);
  for (const reference of index.references) refuseEndless(reference.node, walk);
}

/** A reference that still has to be followed, with the place where it stands. */
export interface Reference {
  node: SchemaNode;
  target: string;
  /** Of the `$ref` itself. */
  pointer: string;
}

/** Everything in a schema that can be referred to. */
export interface SchemaIndex {
  /** By JSON pointer (RFC 6901), from the top. */
  byPointer: Map<string, Schema>;
  byAnchor: Map<string, Schema>;
  references: Reference[];
  /** `$id` of the whole schema. */
  id: string;
}

/** Schemas that may look at one value in a row, each sent there by the one before. */
const CHAIN_MAX = 200;

function find(index: SchemaIndex, { target, pointer }: Reference): Schema {
  const hash = target.indexOf('#');
  const document = hash < 0 ? target : target.slice(0, hash);
  if (document !== '' && document !== index.id) {
    throw new SchemaFault(pointer, 'must stay within the schema ("#/$defs/…" or "#anchor"); nothing is fetched');
  }
  const fragment = hash < 0 ? '' : decodeFragment(target.slice(hash + 1));
  const found =
    fragment === '' || fragment?.startsWith('/') ? index.byPointer.get(fragment) : index.byAnchor.get(fragment ?? '');
  if (found === undefined) throw new SchemaFault(pointer, 'does not lead to a schema');
  return found;
}

function decodeFragment(fragment: string): string | undefined {
  try {
    return decodeURIComponent(fragment);
  } catch {
    // Not percent-encoded text (RFC 3986), so it leads nowhere.
    return undefined;
  }
}

interface Walk {
  finished: Set<SchemaNode>;
  /** The way from where the walk began to where it is. */
  open: Set<SchemaNode>;
}

/** Walks the schemas that look at the same value as `node`. */
function refuseEndless(node: SchemaNode, walk: Walk): void {
  if (walk.finished.has(node)) return;
  if (walk.open.has(node)) {
    throw new SchemaFault('', 'refers to itself without going down into the data, so checking would never end');
  }
  if (walk.open.size >= CHAIN_MAX) {
    throw new SchemaFault('', `has more than ${CHAIN_MAX} references or combinations in a row`);
  }
  walk.open.add(node);
  for (const next of sameValueSchemas(node)) {
    if (typeof next === 'object') refuseEndless(next, walk);
  }
  walk.open.delete(node);
  walk.finished.add(node);
}

function sameValueSchemas(node: SchemaNode): (Schema | undefined)[] {
  return [
    node.ref,
    node.not,
    node.if,
    node.then,
    node.else,
    ...(node.allOf ?? []),
    ...(node.anyOf ?? []),
    ...(node.oneOf ?? []),
    ...(node.dependentSchemas?.values() ?? []),
  ];
}
