import type { FieldProblem } from '../../kernel/errors.ts';
import { follow, isObject, mapSchemas, pointerSteps, type SchemaObject } from '../schema-parts.ts';

/** A fault of the document, at a path within it. */
export class DocumentFault extends Error {
  readonly problem: FieldProblem;

  constructor(path: string, message: string) {
    super(message);
    this.problem = { path, message };
  }
}

/** References in a row, from one to the next. */
const HOPS_MAX = 20;

/**
 * Copies schemas out of an OpenAPI document so that each stands for itself: what it refers to becomes its `$defs`.
 *
 * Only references within the document are followed, and nothing is fetched. A short document can ask for a great deal of
 * copying, each of a thousand webhooks the same large schema, so what is copied is counted over all of them.
 */
export class SchemaCopier {
  readonly #document: SchemaObject;
  /** Schemas were another dialect before OpenAPI 3.1. */
  readonly #isVersion30: boolean;
  #schemasLeft: number;

  constructor(document: SchemaObject, isVersion30: boolean, schemasMax = 200_000) {
    this.#document = document;
    this.#isVersion30 = isVersion30;
    this.#schemasLeft = schemasMax;
  }

  /** What an object stands for that may be a reference. `at`: its path, for what is thrown. @throws DocumentFault */
  resolve(value: unknown, at: string): unknown {
    let found = value;
    for (let hops = 0; isObject(found) && typeof found.$ref === 'string'; hops += 1) {
      if (hops === HOPS_MAX) throw new DocumentFault(at, `has more than ${HOPS_MAX} references in a row`);
      found = this.#find(found.$ref, this.#document, at);
    }
    return found;
  }

  /** @throws DocumentFault */
  copy(schema: unknown, at: string): unknown {
    const names = new Map<unknown, string>();
    const used = new Set<string>();
    const waiting: { name: string; schema: unknown; resource: SchemaObject }[] = [];
    const refer = (reference: string, resource: SchemaObject): string => {
      const target = this.#find(reference, resource, at);
      if (!isObject(target) && typeof target !== 'boolean')
        throw new DocumentFault(at, `refers to ${shown(reference)}, which is no schema`);
      let name = names.get(target);
      if (name === undefined) {
        name = unusedName(reference, used);
        names.set(target, name);
        waiting.push({ name, schema: target, resource });
      }
      return name === '' ? '#' : `#/$defs/${name}`;
    };
    const write = (value: unknown, outer: SchemaObject): unknown => {
      this.#schemasLeft -= 1;
      if (this.#schemasLeft < 0)
        throw new DocumentFault(at, 'asks, with all the others, for more schemas than can be copied');
      if (!isObject(value)) return value;
      // What a schema with a name of its own refers to, it refers to from there (JSON Schema core, section 8.2.1).
      const resource = typeof value.$id === 'string' ? value : outer;
      const reference = typeof value.$ref === 'string' ? { $ref: refer(value.$ref, resource) } : undefined;
      if (reference !== undefined && this.#isVersion30) return reference;
      const { $id, $anchor, $schema, $defs, definitions, discriminator, xml, externalDocs, ...kept } = value;
      const plain = this.#isVersion30 ? fromVersion30(kept) : kept;
      return { ...mapSchemas(plain, (inner) => write(inner, resource)), ...reference };
    };
    const root = isObject(schema) && isOnlyReference(schema) ? this.resolve(schema, at) : schema;
    // The schema itself, for what refers to it.
    names.set(root, '');
    const written = write(root, this.#document);
    const definitions: [string, unknown][] = [];
    for (const { name, schema: part, resource } of waiting) definitions.push([name, write(part, resource)]);
    if (!isObject(written) || definitions.length === 0) return written;
    return { ...written, $defs: Object.fromEntries(definitions) };
  }

  #find(reference: string, resource: SchemaObject, at: string): unknown {
    if (!reference.startsWith('#')) {
      throw new DocumentFault(
        at,
        `refers to ${shown(reference)}: only "#/…" within the document is followed, nothing is fetched`,
      );
    }
    const steps = pointerSteps(reference.slice(1));
    const found = steps === undefined ? undefined : follow(resource, steps);
    if (found === undefined) throw new DocumentFault(at, `refers to ${shown(reference)}, which is not there`);
    return found;
  }
}

function isOnlyReference(schema: SchemaObject): boolean {
  return typeof schema.$ref === 'string' && Object.keys(schema).length === 1;
}

/** OpenAPI 3.0.4, section 4.7.24: how its Schema Object differs from JSON Schema. */
function fromVersion30({
  nullable,
  example,
  exclusiveMinimum,
  exclusiveMaximum,
  ...schema
}: SchemaObject): SchemaObject {
  const { type, minimum, maximum, enum: values, ...rest } = schema;
  const isNullable = nullable === true && typeof type === 'string';
  return {
    ...rest,
    ...(type !== undefined && { type: isNullable ? [type, 'null'] : type }),
    ...(values !== undefined && {
      enum: isNullable && Array.isArray(values) ? [...new Set([...values, null])] : values,
    }),
    ...(minimum !== undefined && { [exclusiveMinimum === true ? 'exclusiveMinimum' : 'minimum']: minimum }),
    ...(maximum !== undefined && { [exclusiveMaximum === true ? 'exclusiveMaximum' : 'maximum']: maximum }),
    ...(example !== undefined && { examples: [example] }),
  };
}

/** After the last step of the reference. */
function unusedName(reference: string, used: Set<string>): string {
  const last = (pointerSteps(reference.slice(1))?.at(-1) ?? '').replace(/[^A-Za-z0-9_.-]/g, '_').slice(0, 64);
  const wanted = last === '' || last === '__proto__' ? 'schema' : last;
  let name = wanted;
  for (let number = 2; used.has(name); number += 1) name = `${wanted}-${number}`;
  used.add(name);
  return name;
}

function shown(reference: string): string {
  return JSON.stringify(reference.length > 100 ? `${reference.slice(0, 100)}…` : reference);
}
