import { canonicalText } from './canonical.ts';
import { findFormat } from './format.ts';
import { compilePattern, newPatternAllowance, type Pattern } from './pattern.ts';
import { SchemaFault } from './schema-fault.ts';
import type { JsonType, Schema, SchemaNode } from './schema-node.ts';
import { resolveReferences, type SchemaIndex } from './schema-references.ts';

export interface ReadSchema {
  root: Schema;
  /** Size of all its compiled patterns, which take most of the memory where there are any. */
  patternInstructions: number;
}

/**
 * Reads a JSON Schema of draft 2020-12, checks each keyword's value and follows the references within it. Keywords
 * that are not known are remarks, as the specification says. Time is linear in the schema, but for its patterns, which
 * have an allowance.
 *
 * Left out of 2020-12, with a message that says so: references to other documents, `$id` below the top, and
 * `$dynamicRef`. A tenant's schema is one document that nobody extends.
 *
 * @throws SchemaFault
 */
export function readSchema(value: unknown): ReadSchema {
  const reader = new SchemaReader();
  const root = reader.read(value, '', 0);
  resolveReferences(reader.index, root);
  return { root, patternInstructions: reader.patternInstructions };
}

/** Levels of schemas in schemas. */
const DEPTH_MAX = 64;

const TYPES: readonly JsonType[] = ['null', 'boolean', 'object', 'array', 'number', 'string', 'integer'];

const DRAFT = 'https://json-schema.org/draft/2020-12/schema';

/** A schema object that is being read, with where it stands (a JSON pointer) and how deep. */
interface Place {
  node: SchemaNode;
  pointer: string;
  depth: number;
}

class SchemaReader {
  readonly index: SchemaIndex = { byPointer: new Map(), byAnchor: new Map(), references: [], id: '' };
  readonly #allowance = newPatternAllowance();

  get patternInstructions(): number {
    return newPatternAllowance().programSize - this.#allowance.programSize;
  }

  read(value: unknown, pointer: string, depth: number): Schema {
    if (depth > DEPTH_MAX) throw new SchemaFault(pointer, `is more than ${DEPTH_MAX} schemas deep`);
    const schema = typeof value === 'boolean' ? value : this.#readObject(value, pointer, depth);
    this.index.byPointer.set(pointer, schema);
    return schema;
  }

  readList(value: unknown, pointer: string, depth: number): Schema[] {
    if (!Array.isArray(value) || value.length === 0) {
      throw new SchemaFault(pointer, 'must be an array of schemas with at least one');
    }
    return value.map((schema, at) => this.read(schema, `${pointer}/${at}`, depth));
  }

  readMap(value: unknown, pointer: string, depth: number): Map<string, Schema> {
    if (!isObject(value)) throw new SchemaFault(pointer, 'must be an object of schemas');
    return new Map(
      Object.entries(value).map(([name, schema]) => [name, this.read(schema, memberPointer(pointer, name), depth)]),
    );
  }

  readPattern(source: unknown, pointer: string): Pattern {
    const pattern = compilePattern(readString(source, pointer), this.#allowance);
    if (typeof pattern === 'string') throw new SchemaFault(pointer, pattern);
    return pattern;
  }

  #readObject(value: unknown, pointer: string, depth: number): SchemaNode {
    if (!isObject(value)) throw new SchemaFault(pointer, 'must be a schema: an object, true or false');
    const place: Place = { node: {}, pointer, depth };
    for (const [keyword, argument] of Object.entries(value)) {
      KEYWORDS.get(keyword)?.(argument, place, `${pointer}/${keyword}`, this);
    }
    return place.node;
  }
}

/** `at` is the pointer of the keyword itself. */
type Keyword = (value: unknown, place: Place, at: string, reader: SchemaReader) => void;

/** A map, because a keyword must not be found on Object.prototype. */
const KEYWORDS = new Map<string, Keyword>([
  ...(['not', 'if', 'then', 'else', 'contains', 'additionalProperties', 'propertyNames'] as const).map(oneSchema),
  ...(['unevaluatedItems', 'unevaluatedProperties'] as const).map(oneSchema),
  ...(['allOf', 'anyOf', 'oneOf', 'prefixItems'] as const).map(schemaList),
  ...(['properties', 'dependentSchemas'] as const).map(schemaMap),
  ...(['minLength', 'maxLength', 'minProperties', 'maxProperties'] as const).map(count),
  ...(['minItems', 'maxItems', 'minContains', 'maxContains'] as const).map(count),
  ...(['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum'] as const).map(number),
  ['items', readItems],
  ['patternProperties', readPatternProperties],
  // These two say nothing by themselves; they hold what is referred to.
  ['$defs', (value, { depth }, at, reader) => void reader.readMap(value, at, depth + 1)],
  ['definitions', (value, { depth }, at, reader) => void reader.readMap(value, at, depth + 1)],
  ['type', readTypes],
  ['enum', readEnum],
  ['const', (value, { node }) => narrowValues(node, [canonicalText(value)])],
  ['multipleOf', readMultipleOf],
  ['uniqueItems', readUniqueItems],
  ['required', readRequired],
  ['dependentRequired', readDependentRequired],
  ['pattern', readPattern],
  ['format', readFormat],
  ['$ref', readReference],
  ['$anchor', readAnchor],
  ['$id', readId],
  ['$schema', readDraft],
  ...['$dynamicRef', '$dynamicAnchor', '$recursiveRef', '$recursiveAnchor'].map(unsupported),
]);

type OneSchema = 'not' | 'if' | 'then' | 'else' | 'contains' | 'additionalProperties' | 'propertyNames';
type Unevaluated = 'unevaluatedItems' | 'unevaluatedProperties';

function oneSchema(keyword: OneSchema | Unevaluated): [string, Keyword] {
  return [
    keyword,
    (value, { node, depth }, at, reader) => {
      node[keyword] = reader.read(value, at, depth + 1);
    },
  ];
}

function schemaList(keyword: 'allOf' | 'anyOf' | 'oneOf' | 'prefixItems'): [string, Keyword] {
  return [
    keyword,
    (value, { node, depth }, at, reader) => {
      node[keyword] = reader.readList(value, at, depth + 1);
    },
  ];
}

function schemaMap(keyword: 'properties' | 'dependentSchemas'): [string, Keyword] {
  return [
    keyword,
    (value, { node, depth }, at, reader) => {
      node[keyword] = reader.readMap(value, at, depth + 1);
    },
  ];
}

type Count = `${'min' | 'max'}${'Length' | 'Items' | 'Properties' | 'Contains'}`;

function count(keyword: Count): [string, Keyword] {
  return [
    keyword,
    (value, { node }, at) => {
      if (typeof value !== 'number' || !Number.isInteger(value) || value < 0) {
        throw new SchemaFault(at, 'must be a whole number, 0 or more');
      }
      node[keyword] = value;
    },
  ];
}

function number(keyword: 'minimum' | 'maximum' | 'exclusiveMinimum' | 'exclusiveMaximum'): [string, Keyword] {
  return [
    keyword,
    (value, { node }, at) => {
      node[keyword] = readNumber(value, at);
    },
  ];
}

function unsupported(keyword: string): [string, Keyword] {
  return [
    keyword,
    (_value, _place, at) => {
      throw new SchemaFault(at, 'is not supported; use $ref');
    },
  ];
}

function readItems(value: unknown, { node, depth }: Place, at: string, reader: SchemaReader): void {
  if (Array.isArray(value)) {
    throw new SchemaFault(at, 'must be one schema; a list of schemas is called prefixItems');
  }
  node.items = reader.read(value, at, depth + 1);
}

function readPatternProperties(value: unknown, { node, depth }: Place, at: string, reader: SchemaReader): void {
  node.patternProperties = [...reader.readMap(value, at, depth + 1)].map(([source, schema]) => ({
    pattern: reader.readPattern(source, memberPointer(at, source)),
    schema,
  }));
}

function readTypes(value: unknown, { node }: Place, at: string): void {
  const types: unknown[] = Array.isArray(value) ? value : [value];
  if (types.length === 0 || !types.every(isType)) {
    throw new SchemaFault(at, `must be one or several of ${TYPES.join(', ')}`);
  }
  node.types = types;
}

function readEnum(value: unknown, { node }: Place, at: string): void {
  if (!Array.isArray(value)) throw new SchemaFault(at, 'must be an array');
  narrowValues(node, value.map(canonicalText));
}

/** `enum` and `const` side by side leave what both allow. */
function narrowValues(node: SchemaNode, texts: string[]): void {
  const before = node.values?.canonical;
  const canonical = new Set(before === undefined ? texts : texts.filter((text) => before.has(text)));
  const shown = [...canonical].join(', ');
  node.values = { canonical, shown: shown.length > 200 ? `${shown.slice(0, 200)}…` : shown };
}

function readMultipleOf(value: unknown, { node }: Place, at: string): void {
  node.multipleOf = readNumber(value, at);
  if (node.multipleOf <= 0) throw new SchemaFault(at, 'must be more than 0');
}

function readUniqueItems(value: unknown, { node }: Place, at: string): void {
  if (typeof value !== 'boolean') throw new SchemaFault(at, 'must be true or false');
  node.uniqueItems = value;
}

function readRequired(value: unknown, { node }: Place, at: string): void {
  node.required = readNames(value, at);
}

function readPattern(value: unknown, { node }: Place, at: string, reader: SchemaReader): void {
  node.pattern = reader.readPattern(value, at);
}

function readFormat(value: unknown, { node }: Place, at: string): void {
  node.format = findFormat(readString(value, at));
}

function readDependentRequired(value: unknown, { node }: Place, at: string): void {
  if (!isObject(value)) throw new SchemaFault(at, 'must be an object');
  node.dependentRequired = new Map(
    Object.entries(value).map(([name, names]) => [name, readNames(names, memberPointer(at, name))]),
  );
}

function readReference(value: unknown, { node }: Place, at: string, reader: SchemaReader): void {
  reader.index.references.push({ node, target: readString(value, at), pointer: at });
}

function readAnchor(value: unknown, { node }: Place, at: string, reader: SchemaReader): void {
  const anchor = readString(value, at);
  if (!/^[A-Za-z_][-A-Za-z0-9._]*$/.test(anchor)) {
    throw new SchemaFault(at, 'must be letters, digits, "-", "_" and ".", a letter first');
  }
  if (reader.index.byAnchor.has(anchor)) throw new SchemaFault(at, 'is used twice');
  reader.index.byAnchor.set(anchor, node);
}

function readId(value: unknown, { depth }: Place, at: string, reader: SchemaReader): void {
  if (depth > 0) throw new SchemaFault(at, 'is supported at the top of the schema only');
  reader.index.id = readString(value, at).replace(/#$/, '');
}

function readDraft(value: unknown, _place: Place, at: string): void {
  if (readString(value, at).replace(/#$/, '') !== DRAFT) {
    throw new SchemaFault(at, `must be ${DRAFT} or absent; other drafts are not supported`);
  }
}

function readNames(value: unknown, at: string): string[] {
  if (!Array.isArray(value)) throw new SchemaFault(at, 'must be an array of strings');
  return value.map((name) => readString(name, at));
}

function readString(value: unknown, at: string): string {
  if (typeof value !== 'string') throw new SchemaFault(at, 'must be a string');
  return value;
}

function readNumber(value: unknown, at: string): number {
  if (typeof value !== 'number') throw new SchemaFault(at, 'must be a number');
  return value;
}

function memberPointer(pointer: string, name: string): string {
  return `${pointer}/${name.replaceAll('~', '~0').replaceAll('/', '~1')}`;
}

function isType(value: unknown): value is JsonType {
  return TYPES.includes(value as JsonType);
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
