import { setImmediate } from 'node:timers/promises';
import { type EventTypeChange, SAMPLE_BYTES_MAX } from '../../catalog/event-type-body.ts';
import { EVENT_TYPE_NAME_RULE, isEventTypeName, RESERVED_NAMES } from '../../catalog/event-type-name.ts';
import { compileSchema } from '../../catalog/json-schema/compile-schema.ts';
import { compactJson } from '../../kernel/compact-json.ts';
import { type FieldProblem, invalidField, invalidFields } from '../../kernel/errors.ts';
import type { RawJson } from '../../kernel/raw-json.ts';
import { isObject, type SchemaObject } from '../schema-parts.ts';
import { type DescribedOperation, describedOperations } from './described-operations.ts';
import { type Member, memberTexts } from './member-texts.ts';
import { DocumentFault, SchemaCopier } from './self-contained-schema.ts';

/** An event type as a document describes it. */
export interface ImportedType {
  name: string;
  change: EventTypeChange;
}

/** Problems that an answer names at most. */
const PROBLEMS_MAX = 50;

/**
 * Reads the event types of an OpenAPI document. `dataProperty`: the property of the request's body that holds the event's
 * data; undefined: the whole body. A document that Posthorn wrote says itself what the data is.
 *
 * @throws AppError 422 naming the places in the document
 */
export async function readOpenApiDocument(json: RawJson, dataProperty: string | undefined): Promise<ImportedType[]> {
  const document = json.value as SchemaObject;
  const version = typeof document.openapi === 'string' ? document.openapi : '';
  if (!/^3\.[01]\.\d{1,4}$/.test(version)) {
    throw invalidField('openapi', 'must be the version of an OpenAPI document, 3.0 or 3.1');
  }
  const copier = new SchemaCopier(document, version.startsWith('3.0.'));
  const problems: FieldProblem[] = [];
  const types = new Map<string, ReadType>();
  const read = (operation: DescribedOperation) => {
    const type = readType(operation, copier, dataProperty);
    if (types.has(type.name)) throw new DocumentFault(operation.at, `describes ${type.name} once more`);
    types.set(type.name, type);
  };
  try {
    for (const operation of describedOperations(document, copier)) {
      try {
        read(operation);
      } catch (error) {
        if (!(error instanceof DocumentFault)) throw error;
        problems.push(error.problem);
        if (problems.length === PROBLEMS_MAX) break;
      }
      // Making a check of a hostile schema takes up to 0.2 s; others have their turn between two.
      await setImmediate();
    }
  } catch (error) {
    if (!(error instanceof DocumentFault)) throw error;
    problems.push(error.problem);
  }
  if (problems.length > 0) throw invalidFields(problems);
  if (types.size === 0) throw invalidField('webhooks', 'is missing: the document describes no event');
  return withSamples([...types.values()], json);
}

/** What a document says of a type, with the place of its sample in it. */
interface ReadType extends ImportedType {
  /** Dotted, for messages. */
  at: string;
  sample: Member | undefined;
}

/** Samples are taken as the document writes them, but for white space: a schema is read, a sample is shown and sent. */
function withSamples(types: readonly ReadType[], json: RawJson): ImportedType[] {
  const members = types.flatMap(({ sample }) => (sample === undefined ? [] : [sample]));
  const texts = memberTexts(json.bytes.toString('utf8'), json.value, members);
  const problems: FieldProblem[] = [];
  const imported = types.map(({ name, change, at, sample }) => {
    const text = sample === undefined ? undefined : texts.get(sample.holder);
    if (text === undefined) return { name, change };
    const compact = compactJson(Buffer.from(text));
    if (compact.length > SAMPLE_BYTES_MAX) {
      problems.push({ path: `${at}.sample`, message: `must have at most ${SAMPLE_BYTES_MAX} bytes` });
    }
    return { name, change: { ...change, sample: compact.toString('utf8') } };
  });
  if (problems.length > 0) throw invalidFields(problems.slice(0, PROBLEMS_MAX));
  return imported;
}

function readType(
  { name, at, operation }: DescribedOperation,
  copier: SchemaCopier,
  dataProperty: string | undefined,
): ReadType {
  if (!isEventTypeName(name))
    throw new DocumentFault(at, `has a name that is none of an event type: it ${EVENT_TYPE_NAME_RULE}`);
  if (RESERVED_NAMES.has(name)) throw new DocumentFault(at, 'has a name that is reserved: it is a path of this API');
  const { schema, sample } = dataOf(operation, at, copier, dataProperty);
  const schemaText = schema === undefined ? undefined : JSON.stringify(copier.copy(schema, at));
  if (schemaText !== undefined) {
    const compiled = compileSchema(schemaText);
    if (!compiled.ok) throw new DocumentFault(`${at}.${compiled.problem.path}`, compiled.problem.message);
  }
  const [tag] = Array.isArray(operation.tags) ? operation.tags : [];
  const group = text(tag, 100, `${at}.tags`);
  const description = text(operation.description ?? operation.summary, 2_000, `${at}.description`);
  const { deprecated } = operation;
  return {
    name,
    change: {
      body: {
        ...(group !== undefined && group !== '' && { group }),
        ...(description !== undefined && { description }),
        ...(typeof deprecated === 'boolean' && { deprecated }),
      },
      schema: schemaText,
      sample: undefined,
    },
    at,
    sample,
  };
}

interface Data {
  schema?: unknown;
  sample?: Member;
}

function dataOf(operation: SchemaObject, at: string, copier: SchemaCopier, dataProperty: string | undefined): Data {
  if (operation['x-event-data'] !== undefined) {
    const sample = memberOf(operation, 'x-event-sample');
    return { schema: unlessAny(operation['x-event-data'], at, copier), ...(sample && { sample }) };
  }
  const body = bodyOf(operation, at, copier);
  if (dataProperty === undefined) return body;
  const schema = copier.resolve(body.schema, at);
  const found = propertyOf(schema, dataProperty, at, copier);
  if (found === undefined)
    throw new DocumentFault(at, `describes a body without a property ${JSON.stringify(dataProperty)}`);
  const sample = body.sample && memberOf(memberValue(body.sample), dataProperty);
  return { schema: found, ...(sample && { sample }) };
}

function memberOf(holder: unknown, key: string): Member | undefined {
  if (typeof holder !== 'object' || holder === null || !Object.hasOwn(holder, key)) return undefined;
  return { holder, key };
}

function memberValue({ holder, key }: Member): unknown {
  return (holder as Record<string, unknown>)[key];
}

/** A document of Posthorn's has a schema that takes anything for a type without one. */
function unlessAny(schema: unknown, at: string, copier: SchemaCopier): unknown {
  const resolved = copier.resolve(schema, at);
  return isObject(resolved) && Object.keys(resolved).length === 0 ? undefined : schema;
}

/** A schema's property, or one of the schemas that it is all of. */
function propertyOf(schema: unknown, name: string, at: string, copier: SchemaCopier): unknown {
  if (!isObject(schema)) return undefined;
  if (isObject(schema.properties) && Object.hasOwn(schema.properties, name)) return schema.properties[name];
  for (const part of Array.isArray(schema.allOf) ? schema.allOf : []) {
    const resolved = copier.resolve(part, at);
    if (!isObject(resolved) || !isObject(resolved.properties) || !Object.hasOwn(resolved.properties, name)) continue;
    return resolved.properties[name];
  }
  return undefined;
}

function bodyOf(operation: SchemaObject, at: string, copier: SchemaCopier): Data {
  const body = copier.resolve(operation.requestBody, `${at}.requestBody`);
  if (!isObject(body) || !isObject(body.content)) return {};
  const types = Object.keys(body.content);
  const json =
    types.find((type) => /^application\/json\b/i.test(type)) ??
    types.find((type) => /json/i.test(type)) ??
    types.find((type) => type === '*/*');
  const media = json === undefined ? undefined : body.content[json];
  if (!isObject(media)) return {};
  const sample = sampleOf(media, at, copier);
  return {
    ...(media.schema !== undefined && { schema: media.schema }),
    ...(sample && { sample }),
  };
}

/** The example of the media type, the first of its examples, else the one in its schema. */
function sampleOf(media: SchemaObject, at: string, copier: SchemaCopier): Member | undefined {
  const own = memberOf(media, 'example');
  if (own !== undefined) return own;
  for (const given of isObject(media.examples) ? Object.values(media.examples) : []) {
    const example = memberOf(copier.resolve(given, at), 'value');
    if (example !== undefined) return example;
  }
  const schema = copier.resolve(media.schema, at);
  if (!isObject(schema)) return undefined;
  return Array.isArray(schema.examples) ? memberOf(schema.examples, '0') : memberOf(schema, 'example');
}

function text(value: unknown, lengthMax: number, at: string): string | undefined {
  if (value === undefined) return undefined;
  if (typeof value !== 'string' || value.includes('\0')) throw new DocumentFault(at, 'must be a text without NUL');
  if (value.length > lengthMax) throw new DocumentFault(at, `must have at most ${lengthMax} characters`);
  return value;
}
