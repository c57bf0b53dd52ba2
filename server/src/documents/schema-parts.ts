/** A JSON Schema that is an object. */
export type SchemaObject = Readonly<Record<string, unknown>>;

/** Where keywords of JSON Schema 2020-12 hold schemas: one, a list of them, or a map by name. */
const SCHEMA_KEYWORDS: ReadonlyMap<string, 'schema' | 'list' | 'map'> = new Map([
  ...list('schema', 'not', 'if', 'then', 'else', 'contains', 'additionalProperties', 'propertyNames', 'items'),
  ...list('schema', 'unevaluatedItems', 'unevaluatedProperties'),
  ...list('list', 'allOf', 'anyOf', 'oneOf', 'prefixItems'),
  ...list('map', 'properties', 'patternProperties', 'dependentSchemas', '$defs', 'definitions'),
]);

/** The schema with each schema right inside it replaced by what `change` makes of it. Everything else stays. */
export function mapSchemas(schema: SchemaObject, change: (inner: unknown) => unknown): Record<string, unknown> {
  return fromEntries(
    Object.entries(schema).map(([keyword, value]) => {
      const kind = SCHEMA_KEYWORDS.get(keyword);
      if (kind === 'schema') return [keyword, change(value)];
      if (kind === 'list' && Array.isArray(value)) return [keyword, value.map(change)];
      if (kind === 'map' && isObject(value)) {
        return [keyword, fromEntries(Object.entries(value).map(([name, inner]) => [name, change(inner)]))];
      }
      return [keyword, value];
    }),
  );
}

/** What a JSON pointer leads to; undefined when it leads nowhere. */
export function follow(document: unknown, steps: readonly string[]): unknown {
  let at = document;
  for (const step of steps) {
    if (typeof at !== 'object' || at === null || !Object.hasOwn(at, step)) return undefined;
    at = (at as SchemaObject)[step];
  }
  return at;
}

/** `Object.fromEntries`, which unlike an assignment makes `__proto__` a member like any other. */
export function fromEntries(entries: readonly (readonly [string, unknown])[]): Record<string, unknown> {
  return Object.fromEntries(entries);
}

export function isObject(value: unknown): value is SchemaObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/**
 * Whether JSON that is no schema has a member `$ref` somewhere. Readers of documents take it for a reference wherever it
 * stands, and refuse one that leads nowhere.
 */
export function looksReferring(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false;
  return Object.hasOwn(value, '$ref') || Object.values(value).some(looksReferring);
}

/** The steps of a JSON pointer in a URI fragment (RFC 6901, section 6), without the `#`; undefined when it is none. */
export function pointerSteps(fragment: string): string[] | undefined {
  if (fragment === '') return [];
  if (!fragment.startsWith('/')) return undefined;
  try {
    return decodeURIComponent(fragment)
      .slice(1)
      .split('/')
      .map((step) => step.replaceAll('~1', '/').replaceAll('~0', '~'));
  } catch {
    // Not percent-encoded text, so it leads nowhere.
    return undefined;
  }
}

function list(kind: 'schema' | 'list' | 'map', ...keywords: string[]): [string, 'schema' | 'list' | 'map'][] {
  return keywords.map((keyword) => [keyword, kind]);
}
