import type { EventTypeRow } from '../catalog/queries.ts';
import { shapeBody } from '../shaping/envelopes.ts';
import type { DeliverySettings } from '../webhooks/settings.ts';
import { partName, portableSchema } from './portable-schema.ts';
import { fromEntries, isObject, looksReferring, type SchemaObject } from './schema-parts.ts';

/** An event type as both documents describe it. */
export interface DescribedEvent {
  name: string;
  group: string;
  description: string;
  deprecated: boolean;
  /** Of the request's body. It may refer to `schemas`. */
  bodySchema: SchemaObject;
  contentType: string;
  /** The JSON text of a body with the sample in it; null: the type has no sample, or one that looks like a reference. */
  bodyExample: string | null;
  /** The JSON text of the sample alone. */
  sample: string | null;
  /** By their names below `#/components/schemas`; the one that has the type's `partName` is of the event's data. */
  schemas: ReadonlyMap<string, unknown>;
}

type Described = Pick<EventTypeRow, 'name' | 'group_name' | 'description' | 'deprecated' | 'schema' | 'sample'>;

/** Describes an event type in the envelope that webhooks have by default. */
export function describeEvent(row: Described, { envelope }: Pick<DeliverySettings, 'envelope'>): DescribedEvent {
  const { name, group_name: group, description, deprecated } = row;
  const sample = row.sample === null || looksReferring(JSON.parse(row.sample)) ? null : row.sample;
  const schema: unknown = row.schema === null ? {} : JSON.parse(row.schema);
  const schemas = portableSchema(name, isObject(schema) ? schema : {});
  const event = { ...EXAMPLE, type: name, data: Buffer.from(sample ?? 'null') };
  const { body, contentType } = shapeBody(envelope, event, 1);
  const dataSchema = schemas.get(partName(name));
  return {
    name,
    group,
    description,
    deprecated,
    bodySchema: bodySchemaOf(envelope, name, isObject(dataSchema) ? dataSchema : {}),
    contentType,
    bodyExample: sample === null ? null : body.toString(),
    sample,
    schemas,
  };
}

/** What the envelope has of itself in an example. */
export const EXAMPLE = {
  id: 'evt_01k5a4vj8mf4t9zp2wq7rn3xcd',
  publicId: 'evt_01k5a4vj8mf4t9zp2wq7rn3xcd',
  timestamp: '2026-01-31T12:00:00.000Z',
  metadata: null,
  source: 'posthorn',
};

const TIME = { type: 'string', format: 'date-time', description: 'When it happened.' };

/** What `shapeBody` makes, as a schema. */
function bodySchemaOf(envelope: DeliverySettings['envelope'], type: string, data: SchemaObject): SchemaObject {
  const dataReference = { $ref: `#/components/schemas/${partName(type)}` };
  const typeName = { const: type };
  switch (envelope) {
    case 'standard':
      return closed({ type: typeName, timestamp: TIME, data: dataReference });
    case 'event':
      return closed({ event: typeName, timestamp: TIME, data: dataReference });
    case 'event_type':
      return closed({
        event_type: typeName,
        event_id: { type: 'string', description: 'The publisher’s id of the event, else Posthorn’s.' },
        timestamp: TIME,
        data: dataReference,
        metadata: {
          type: 'object',
          properties: { retry_count: { type: 'integer', minimum: 0, description: 'Attempts before this one.' } },
          required: ['retry_count'],
          additionalProperties: true,
        },
      });
    case 'flat':
      return flatSchema(typeName, data, dataReference);
    case 'cloudevents':
      return closed({
        specversion: { const: '1.0' },
        id: { type: 'string' },
        source: { type: 'string', format: 'uri-reference' },
        type: typeName,
        time: TIME,
        datacontenttype: { type: 'string', description: '`application/json`, or what the publisher says: JSON.' },
        data: dataReference,
      });
    case 'cloudevents_binary':
    case 'raw':
      return dataReference;
  }
}

/** All of the properties are always there. Others may come in a later version. */
function closed(properties: Record<string, SchemaObject>): SchemaObject {
  return { type: 'object', properties, required: Object.keys(properties) };
}

/**
 * The data's own schema with the two members of the envelope. Rules about all members of the data (their number, their
 * names) would count these two, so they are left out. Data that is no object stands under `data`.
 */
function flatSchema(typeName: SchemaObject, data: SchemaObject, dataReference: SchemaObject): SchemaObject {
  const own = { event: typeName, timestamp: TIME };
  const types = Array.isArray(data.type) ? data.type : [data.type];
  if (data.type !== undefined && !types.includes('object')) return closed({ ...own, data: dataReference });
  const isObjectOnly = types.length === 1 && types[0] === 'object';
  const combines = COMBINING.some((keyword) => data[keyword] !== undefined);
  // What the rest of such a schema says of the members cannot be told from outside.
  if (!isObjectOnly || combines) return { type: 'object', properties: own, required: Object.keys(own) };
  const kept = Object.entries(data).filter(([keyword]) => !COUNTING.has(keyword));
  const properties = isObject(data.properties) ? data.properties : {};
  const required = Array.isArray(data.required) ? data.required : [];
  const names = new Set(Object.keys(own));
  const others = Object.entries(properties).filter(([name]) => !names.has(name));
  return {
    ...fromEntries(kept),
    properties: { ...own, ...fromEntries(others) },
    required: [...names, ...required.filter((name) => !names.has(name))],
  };
}

const COMBINING = ['$ref', 'allOf', 'anyOf', 'oneOf', 'not', 'if', 'then', 'else', 'enum', 'const'];
const COUNTING: ReadonlySet<string> = new Set([
  ...['minProperties', 'maxProperties', 'propertyNames', 'patternProperties', 'dependentRequired', 'dependentSchemas'],
  ...['title', 'default', 'examples'],
]);
