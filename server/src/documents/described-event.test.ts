import { Ajv2020 } from 'ajv/dist/2020.js';
import formats from 'ajv-formats';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { presets } from '../catalog/presets/presets.ts';
import { ENVELOPES, shapeBody } from '../shaping/envelopes.ts';
import { describeEvent, EXAMPLE } from './described-event.ts';
import { asDraft07 } from './draft-07.ts';

const row = (schema: object | null, sample: unknown = undefined) => ({
  name: 'order.paid',
  group_name: 'order',
  description: '',
  deprecated: false,
  schema: schema === null ? null : JSON.stringify(schema),
  sample: sample === undefined ? null : JSON.stringify(sample),
});

/** A check of bodies by the schema that describes them. */
function checkOf(envelope: (typeof ENVELOPES)[number], schema: object | null) {
  const described = describeEvent(row(schema), { envelope });
  const ajv = new Ajv2020({ strict: false });
  formats.default(ajv as never);
  const absolute = (part: unknown) => JSON.parse(JSON.stringify(part).replaceAll('"$ref":"#/', '"$ref":"doc:#/'));
  ajv.addSchema({ $id: 'doc:', components: { schemas: Object.fromEntries(described.schemas) } }, 'doc:');
  return ajv.compile(absolute(described.bodySchema));
}

const bodyOf = (envelope: (typeof ENVELOPES)[number], data: unknown) =>
  JSON.parse(
    shapeBody(envelope, { ...EXAMPLE, type: 'order.paid', data: Buffer.from(JSON.stringify(data)) }, 3).body.toString(),
  );

const ORDER = {
  type: 'object',
  properties: { total: { $ref: '#/$defs/amount' }, event: { type: 'integer' } },
  required: ['total', 'event'],
  additionalProperties: false,
  maxProperties: 2,
  propertyNames: { enum: ['total', 'event'] },
  $defs: { amount: { type: 'number', minimum: 0 } },
};

test.each([...ENVELOPES])('%s: the schema takes what is sent, and refuses what could not be', (envelope) => {
  const check = checkOf(envelope, ORDER);
  expect(check(bodyOf(envelope, { total: 5, event: 1 })), JSON.stringify(check.errors)).toBe(true);
  expect(check(bodyOf(envelope, { total: -5, event: 1 }))).toBe(false);
  expect(check(bodyOf(envelope, { event: 1 }))).toBe(false);
  expect(check({})).toBe(false);
  if (envelope === 'raw' || envelope === 'cloudevents_binary') return;
  expect(check({ ...bodyOf(envelope, { total: 5, event: 1 }), type: 'x', event: 'x', event_type: 'x' })).toBe(false);
});

test.each([...ENVELOPES])('%s: whatever the data is, the schema of a type without one takes it', (envelope) => {
  const check = checkOf(envelope, null);
  fc.assert(
    fc.property(fc.jsonValue(), (data) => {
      expect(check(bodyOf(envelope, data)), JSON.stringify(check.errors)).toBe(true);
    }),
    { numRuns: 50 },
  );
});

test.each([
  [{ type: 'array', items: { type: 'string' } }, ['a']],
  [{ type: ['object', 'null'], required: ['a'] }, null],
  [{ anyOf: [{ type: 'object' }, { type: 'string' }] }, 'text'],
  [{ type: 'object', allOf: [{ additionalProperties: false, properties: { a: true } }] }, { a: 1 }],
  [{ const: { a: 1 } }, { a: 1 }],
  [{ $ref: '#/$defs/a', $defs: { a: { type: 'object', unevaluatedProperties: false } } }, {}],
])('flat: data of %j is taken as it is sent', (schema, data) => {
  const check = checkOf('flat', schema);
  expect(check(bodyOf('flat', data)), JSON.stringify(check.errors)).toBe(true);
});

test('a sample keeps its spelling, and one that looks like a reference is left out', () => {
  const { bodyExample } = describeEvent({ ...row({}), sample: '{"n":1.0,"m":1E400}' }, { envelope: 'event' });
  expect(bodyExample).toContain('"data":{"n":1.0,"m":1E400}}');
  expect(describeEvent(row({}, { deep: [{ $ref: '#/x' }] }), { envelope: 'event' }).bodyExample).toBeNull();
});

test('draft-07 says the same in its own words, but for what it has none for', () => {
  expect(
    asDraft07({
      prefixItems: [{ $ref: '#/a', title: 'A' }, true],
      items: false,
      dependentRequired: { a: ['b'] },
      dependentSchemas: { c: { unevaluatedProperties: false, required: ['d'] } },
      contains: { type: 'string' },
      minContains: 0,
      properties: { items: { enum: [{ prefixItems: 1 }] } },
    }),
  ).toEqual({
    items: [{ title: 'A', allOf: [{ $ref: '#/a' }] }, true],
    additionalItems: false,
    dependencies: { a: ['b'], c: { required: ['d'] } },
    properties: { items: { enum: [{ prefixItems: 1 }] } },
  });
  for (const { event_types: types } of presets.values()) {
    for (const { schema } of types) expect(asDraft07(schema)).toEqual(schema);
  }
});
