import { EVENT_TYPES_MAX } from '../../catalog/change-catalog.ts';
import { isObject, type SchemaObject } from '../schema-parts.ts';
import { DocumentFault, type SchemaCopier } from './self-contained-schema.ts';

/** A request that an OpenAPI document says will be sent to whoever asks for it. */
export interface DescribedOperation {
  /** What the document calls it. */
  name: string;
  /** Dotted, for messages. */
  at: string;
  operation: SchemaObject;
}

/** In the order of preference; events are nearly always POST. */
const METHODS = ['post', 'put', 'patch', 'delete', 'get'];

/**
 * All of `webhooks` (`x-webhooks` before OpenAPI 3.1) and the callbacks of `paths`, in the document's order.
 *
 * @throws DocumentFault
 */
export function describedOperations(document: SchemaObject, copier: SchemaCopier): DescribedOperation[] {
  const found: DescribedOperation[] = [];
  const add = (name: string, item: unknown, at: string) => {
    const resolved = copier.resolve(item, at);
    const method = isObject(resolved) ? METHODS.find((each) => isObject(resolved[each])) : undefined;
    if (!isObject(resolved) || method === undefined) throw new DocumentFault(at, 'describes no request');
    found.push({ name, at: `${at}.${method}`, operation: resolved[method] as SchemaObject });
    if (found.length > EVENT_TYPES_MAX) {
      throw new DocumentFault(at, `is one more than the ${EVENT_TYPES_MAX} event types that an environment may have`);
    }
  };
  for (const member of ['webhooks', 'x-webhooks']) {
    for (const [name, item] of members(document[member], member)) add(name, item, `${member}.${clip(name)}`);
  }
  for (const { callbacks, at } of callbacksOf(document, copier)) {
    for (const [name, given] of members(callbacks, at)) {
      const callback = copier.resolve(given, `${at}.${clip(name)}`);
      for (const [expression, item] of members(callback, `${at}.${clip(name)}`)) {
        if (!expression.startsWith('x-')) add(name, item, `${at}.${clip(name)}.${clip(expression)}`);
      }
    }
  }
  return found;
}

function* callbacksOf(document: SchemaObject, copier: SchemaCopier): Generator<{ callbacks: unknown; at: string }> {
  for (const [path, given] of members(document.paths, 'paths')) {
    const item = copier.resolve(given, `paths.${clip(path)}`);
    if (!isObject(item)) continue;
    for (const [method, operation] of Object.entries(item)) {
      if (!isObject(operation) || operation.callbacks === undefined) continue;
      yield { callbacks: operation.callbacks, at: `paths.${clip(path)}.${clip(method)}.callbacks` };
    }
  }
}

function members(value: unknown, at: string): [string, unknown][] {
  if (value === undefined) return [];
  if (!isObject(value)) throw new DocumentFault(at, 'must be an object');
  return Object.entries(value);
}

/** A name of the document within a path of a message. */
function clip(name: string): string {
  return name.length > 64 ? `${name.slice(0, 64)}…` : name;
}
