import type { Format } from './format.ts';
import type { Pattern } from './pattern.ts';

/** A schema that was read and checked: `false` refuses everything, `true` takes everything. */
export type Schema = boolean | SchemaNode;

export type JsonType = 'null' | 'boolean' | 'object' | 'array' | 'number' | 'string' | 'integer';

/** The keywords of one schema object, each absent when the schema does not have it (JSON Schema 2020-12). */
export interface SchemaNode {
  types?: readonly JsonType[];
  /** Of `enum` or `const`: the canonical texts of the values, and how they read in a message. */
  values?: { canonical: ReadonlySet<string>; shown: string };
  /** Filled in once all of the schema is read: it may be a schema that comes later, or this one. */
  ref?: Schema;

  allOf?: readonly Schema[];
  anyOf?: readonly Schema[];
  oneOf?: readonly Schema[];
  not?: Schema;
  if?: Schema;
  then?: Schema;
  else?: Schema;

  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: number;
  exclusiveMaximum?: number;
  multipleOf?: number;

  minLength?: number;
  maxLength?: number;
  pattern?: Pattern;
  format?: Format;

  minItems?: number;
  maxItems?: number;
  uniqueItems?: boolean;
  prefixItems?: readonly Schema[];
  items?: Schema;
  contains?: Schema;
  minContains?: number;
  maxContains?: number;
  unevaluatedItems?: Schema;

  minProperties?: number;
  maxProperties?: number;
  required?: readonly string[];
  dependentRequired?: ReadonlyMap<string, readonly string[]>;
  dependentSchemas?: ReadonlyMap<string, Schema>;
  properties?: ReadonlyMap<string, Schema>;
  patternProperties?: readonly { pattern: Pattern; schema: Schema }[];
  additionalProperties?: Schema;
  propertyNames?: Schema;
  unevaluatedProperties?: Schema;
}
