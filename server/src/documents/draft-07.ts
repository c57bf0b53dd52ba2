import { fromEntries, isObject, mapSchemas, type SchemaObject } from './schema-parts.ts';

/**
 * A schema of draft 2020-12 as AsyncAPI 3 reads schemas: its Schema Object is draft-07. What draft-07 says in other
 * words is said in them; what it cannot say (`unevaluatedProperties`, `maxContains`…) is left out.
 */
export function asDraft07(schema: unknown): unknown {
  if (!isObject(schema)) return schema;
  // Beside `$ref`, draft-07 reads nothing.
  const { $ref, ...rest } = mapSchemas(schema, asDraft07);
  const written = fromEntries(Object.entries(rest).filter(([keyword]) => !UNKNOWN.has(keyword)));
  if (Array.isArray(rest.prefixItems)) {
    if (rest.items !== undefined) written.additionalItems = rest.items;
    written.items = rest.prefixItems;
  }
  // Without a minimum of its own it asks for one item, which `minContains: 0` does not.
  if (rest.minContains === 0) delete written.contains;
  const dependencies = { ...asMap(rest.dependentRequired), ...asMap(rest.dependentSchemas) };
  if (Object.keys(dependencies).length > 0) written.dependencies = dependencies;
  if ($ref === undefined) return written;
  if (Object.keys(written).length === 0) return { $ref };
  return { ...written, allOf: [{ $ref }, ...(Array.isArray(written.allOf) ? written.allOf : [])] };
}

function asMap(value: unknown): SchemaObject {
  return isObject(value) ? value : {};
}

const UNKNOWN: ReadonlySet<string> = new Set([
  ...['prefixItems', 'unevaluatedItems', 'unevaluatedProperties', 'minContains', 'maxContains'],
  ...['dependentRequired', 'dependentSchemas'],
]);
