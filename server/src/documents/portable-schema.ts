import {
  follow,
  fromEntries,
  isObject,
  looksReferring,
  mapSchemas,
  pointerSteps,
  type SchemaObject,
} from './schema-parts.ts';

/**
 * An event type's schema as parts of a larger document, by their names below `#/components/schemas`. The schema itself
 * has the name of its type; each schema within it that is referred to has one with two dots in a row, which no event
 * type's name has.
 *
 * What names the schema itself (`$id`, `$anchor`, `$schema`) is left out, since two types may use the same names. So are
 * keywords that JSON Schema does not know, unless they begin with `x-`: a reader of OpenAPI or AsyncAPI may give them a
 * meaning, and refuse the whole document for a value that has none. Values (`enum`, `const`…) that look like references
 * are left out for the same reason.
 *
 * `schema` was checked when it was stored (`compileSchema`): its references lead to schemas within it.
 */
export function portableSchema(type: string, schema: SchemaObject): Map<string, unknown> {
  const anchors = new Map<string, SchemaObject>();
  collectAnchors(schema, anchors);
  const parts = new Map<string, unknown>([[partName(type), schema]]);
  const names = new Map<unknown, string>([[schema, partName(type)]]);
  const nameOf = (reference: string): string => {
    const [, fragment = ''] = reference.split('#');
    const steps = pointerSteps(fragment);
    const target = steps === undefined ? anchors.get(fragment) : follow(schema, steps);
    const known = names.get(target);
    if (known !== undefined) return known;
    const name = unusedName(`${type}..${(steps?.at(-1) ?? fragment).replace(/[^A-Za-z0-9_-]/g, '_')}`, parts);
    // A part that is `true` or `false` is the same as any other.
    names.set(target, name);
    parts.set(name, target);
    return name;
  };
  const write = (value: unknown): unknown => {
    if (!isObject(value)) return value;
    const kept = fromEntries(Object.entries(value).filter(([keyword, argument]) => isKept(keyword, argument)));
    const written = mapSchemas(kept, write);
    if (isObject(written.properties)) written.properties = withoutReference(written.properties);
    if (typeof value.$ref === 'string') written.$ref = `#/components/schemas/${nameOf(value.$ref)}`;
    return written;
  };
  // A map goes on to what is added while it is gone through.
  for (const [name, part] of parts) parts.set(name, write(part));
  return parts;
}

/** The name below `components` of what belongs to an event type. Not every reader keeps a member `__proto__`. */
export function partName(type: string): string {
  return type === '__proto__' ? '..__proto__' : type;
}

/** A property of that name is what `looksReferring` tells of. */
function withoutReference({ $ref, ...properties }: SchemaObject): SchemaObject {
  return properties;
}

function unusedName(wanted: string, used: ReadonlyMap<string, unknown>): string {
  if (!used.has(wanted)) return wanted;
  let number = used.size;
  while (used.has(`${wanted}-${number}`)) number += 1;
  return `${wanted}-${number}`;
}

function collectAnchors(schema: SchemaObject, anchors: Map<string, SchemaObject>): void {
  if (typeof schema.$anchor === 'string') anchors.set(schema.$anchor, schema);
  mapSchemas(schema, (inner) => {
    if (isObject(inner)) collectAnchors(inner, anchors);
  });
}

/** `$defs` go, because what of them is used has become a part; of what only tells something, a value of its type stays. */
function isKept(keyword: string, value: unknown): boolean {
  if (VALUES.has(keyword) || keyword.startsWith('x-')) return !looksReferring(value);
  if (CHECKING.has(keyword)) return true;
  switch (keyword) {
    case 'title':
    case 'description':
      return typeof value === 'string';
    case 'deprecated':
    case 'readOnly':
    case 'writeOnly':
      return typeof value === 'boolean';
    case 'examples':
      return Array.isArray(value) && !looksReferring(value);
    default:
      return false;
  }
}

/** Keywords whose value is any JSON. */
const VALUES: ReadonlySet<string> = new Set(['enum', 'const', 'default']);

/** Other keywords that say what fits. Their values were checked when the schema was stored. */
const CHECKING: ReadonlySet<string> = new Set([
  ...['$ref', 'not', 'if', 'then', 'else', 'contains', 'additionalProperties', 'propertyNames', 'items'],
  ...['unevaluatedItems', 'unevaluatedProperties', 'allOf', 'anyOf', 'oneOf', 'prefixItems', 'properties'],
  ...['patternProperties', 'dependentSchemas', 'dependentRequired', 'required', 'type', 'format'],
  ...['multipleOf', 'minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum', 'minLength', 'maxLength', 'pattern'],
  ...['minItems', 'maxItems', 'uniqueItems', 'minContains', 'maxContains', 'minProperties', 'maxProperties'],
]);
