import { type Static, Type } from 'typebox';
import { leftAside } from '../http/left-aside.ts';
import { type FieldProblem, invalidField, invalidFields } from '../kernel/errors.ts';
import type { RawJson } from '../kernel/raw-json.ts';
import { EVENT_TYPE_NAME_PATTERN, EVENT_TYPE_NAME_RULE, isEventTypeName, RESERVED_NAMES } from './event-type-name.ts';
import { compileSchema } from './json-schema/compile-schema.ts';
import type { EventTypeFields } from './queries.ts';

/** Bytes of a sample's JSON text. */
export const SAMPLE_BYTES_MAX = 65_536;

/** Bytes of a request that writes an event type: schema, sample and the rest, with room for white space. */
export const EVENT_TYPE_BODY_BYTES_MAX = 262_144;

/** PostgreSQL takes no NUL in a text. */
const NO_NUL = '^[^\\u0000]*$';

export const EventTypeBody = Type.Object(
  {
    name: Type.Optional(
      Type.String({ description: `Matches \`${EVENT_TYPE_NAME_PATTERN}\`, at most 128 characters. It never changes.` }),
    ),
    group: Type.Optional(
      Type.Unsafe<string | null>({
        type: ['string', 'null'],
        minLength: 1,
        maxLength: 100,
        pattern: NO_NUL,
        description: 'Heading under which it is listed; by default the first segment of the name.',
      }),
    ),
    description: Type.Optional(
      Type.Unsafe<string | null>({ type: ['string', 'null'], maxLength: 2_000, pattern: NO_NUL }),
    ),
    schema: Type.Optional(
      Type.Unsafe<object | null>({
        type: ['object', 'null'],
        additionalProperties: true,
        description: 'JSON Schema 2020-12 of the event’s data, at most 64 KB. It is kept as it was sent.',
      }),
    ),
    sample: Type.Optional(
      Type.Unknown({ description: 'Data of an example event, at most 64 KB. It is kept and sent as it was given.' }),
    ),
    enforce_schema: Type.Optional(
      Type.Unsafe<boolean | null>({
        type: ['boolean', 'null'],
        description: 'Whether events whose data does not fit the schema are refused with 422.',
      }),
    ),
    deprecated: Type.Optional(
      Type.Unsafe<boolean | null>({
        type: ['boolean', 'null'],
        description: 'A remark for readers; it stops nothing.',
      }),
    ),
  },
  { additionalProperties: false },
);
export type EventTypeBody = Static<typeof EventTypeBody>;

/** The body of a change, as what GET answers can be sent back in it. */
export const EventTypeChangeBody = Type.Object(
  { ...EventTypeBody.properties, ...leftAside('preset', 'created_at', 'updated_at') },
  { additionalProperties: false },
);

/** @throws AppError 422 for a name that is no event type's name or belongs to a path of this API. */
export function newEventTypeName(name: string | undefined): string {
  if (name === undefined) throw invalidField('name', 'is required');
  if (!isEventTypeName(name)) throw invalidField('name', EVENT_TYPE_NAME_RULE);
  if (RESERVED_NAMES.has(name)) throw invalidField('name', 'is reserved: it is a path of this API');
  return name;
}

/** The fields of a new type, or of a present one after a change: absent leaves, null clears. */
export function mergeFields(
  name: string,
  current: EventTypeFields | undefined,
  change: EventTypeChange,
): EventTypeFields {
  const { body } = change;
  const fields = {
    group_name: merged(body.group, current?.group_name, name.split('.')[0] ?? name),
    description: merged(body.description, current?.description, ''),
    schema: change.schema === undefined ? (current?.schema ?? null) : change.schema,
    sample: change.sample === undefined ? (current?.sample ?? null) : change.sample,
    enforce_schema: merged(body.enforce_schema, current?.enforce_schema, false),
    deprecated: merged(body.deprecated, current?.deprecated, false),
  };
  if (fields.enforce_schema && fields.schema === null) throw invalidField('enforce_schema', 'needs a schema');
  return fields;
}

function merged<Value>(given: Value | null | undefined, current: Value | undefined, blank: Value): Value {
  return given === undefined ? (current ?? blank) : (given ?? blank);
}

/** What a request says about an event type. */
export interface EventTypeChange {
  body: EventTypeBody;
  /** JSON text as it was sent; null clears, undefined leaves. */
  schema: string | null | undefined;
  sample: string | null | undefined;
}

/**
 * Takes schema and sample out of a request as they were written, and checks them.
 *
 * @throws AppError 422 naming the path within the schema and the reason
 */
export function readEventTypeChange(body: EventTypeBody, raw: RawJson | undefined): EventTypeChange {
  const change = { body, schema: rawMember(raw, 'schema'), sample: rawMember(raw, 'sample') };
  const problems: FieldProblem[] = [];
  if (typeof change.schema === 'string') {
    const compiled = compileSchema(change.schema);
    if (!compiled.ok) problems.push(compiled.problem);
  }
  if (typeof change.sample === 'string' && Buffer.byteLength(change.sample) > SAMPLE_BYTES_MAX) {
    problems.push({ path: 'sample', message: `must have at most ${SAMPLE_BYTES_MAX} bytes` });
  }
  if (problems.length > 0) throw invalidFields(problems);
  return change;
}

function rawMember(raw: RawJson | undefined, name: string): string | null | undefined {
  const text = raw?.member(name)?.toString();
  return text === 'null' ? null : text;
}
