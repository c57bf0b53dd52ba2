import { Ajv2020 } from 'ajv/dist/2020.js';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { presets } from '../presets/presets.ts';
import { compileSchema, SCHEMA_BYTES_MAX } from './compile-schema.ts';

function problems(schema: unknown, data: unknown) {
  const compiled = compileSchema(typeof schema === 'string' ? schema : JSON.stringify(schema));
  if (!compiled.ok) throw new Error(`${compiled.problem.path} ${compiled.problem.message}`);
  return compiled.check(data);
}

function fits(schema: unknown, data: unknown): boolean {
  return problems(schema, data).length === 0;
}

function refusal(schema: unknown) {
  const compiled = compileSchema(typeof schema === 'string' ? schema : JSON.stringify(schema));
  return compiled.ok ? undefined : compiled.problem;
}

/** Small domains, so that schemas and data often have to do with each other. */
const scalar = fc.oneof(
  fc.constantFrom(null, true, false, '', 'a', 'ab', 'b1', 'é', '😀', 0, 1, -1, 2, 1.5, 6),
  fc.integer({ min: -3, max: 9 }),
);
// Ajv fails on data with a member `toString` that is not a function; see the test of such names below.
const key = fc.constantFrom('a', 'b', 'c', 'ab', 'constructor');
const data = fc.letrec((tie) => ({
  value: fc.oneof(
    { maxDepth: 3, withCrossShrink: true },
    scalar,
    fc.array(tie('value'), { maxLength: 4 }),
    fc.dictionary(key, tie('value'), { maxKeys: 4 }),
  ),
})).value;
const count = fc.integer({ min: 0, max: 3 });
const number = fc.integer({ min: -2, max: 6 });
const types = fc.constantFrom('null', 'boolean', 'object', 'array', 'number', 'string', 'integer');
const names = fc.uniqueArray(key, { maxLength: 3 });

// Without the two unevaluated keywords, in which Ajv has faults of its own; they have examples below.
const schema = fc.letrec((tie) => {
  const inner = tie('schema');
  const list = fc.array(inner, { minLength: 1, maxLength: 3 });
  const keywords = fc.record(
    {
      type: fc.oneof(types, fc.uniqueArray(types, { minLength: 1, maxLength: 3 })),
      enum: fc.uniqueArray(fc.oneof(scalar, fc.constantFrom([1], { a: 1 })), {
        minLength: 1,
        maxLength: 3,
        comparator: 'SameValueZero',
      }),
      const: fc.oneof(scalar, fc.constantFrom([1, 2], { b: null, a: 1 })),
      minimum: number,
      maximum: number,
      exclusiveMinimum: number,
      exclusiveMaximum: number,
      multipleOf: fc.constantFrom(1, 2, 3, 0.5),
      minLength: count,
      maxLength: count,
      pattern: fc.constantFrom('^a', 'b$', '[0-9]', '^\\w+$', '^.$'),
      minItems: count,
      maxItems: count,
      uniqueItems: fc.boolean(),
      prefixItems: list,
      items: inner,
      contains: inner,
      minContains: count,
      maxContains: count,
      minProperties: count,
      maxProperties: count,
      required: names,
      dependentRequired: fc.dictionary(key, names, { maxKeys: 2 }),
      dependentSchemas: fc.dictionary(key, inner, { maxKeys: 2 }),
      properties: fc.dictionary(key, inner, { maxKeys: 3 }),
      patternProperties: fc.dictionary(fc.constantFrom('^a', 'b$', '.'), inner, { maxKeys: 2 }),
      additionalProperties: inner,
      propertyNames: inner,
      allOf: list,
      anyOf: list,
      oneOf: list,
      not: inner,
      if: inner,
      // biome-ignore lint/suspicious/noThenProperty: it is a keyword of JSON Schema
      then: inner,
      else: inner,
      $ref: fc.constantFrom('#/$defs/plain', '#other'),
    },
    { requiredKeys: [] },
  );
  // A few keywords at a time; all at once would fit nothing.
  const few = fc.tuple(keywords, fc.uniqueArray(fc.nat(50), { minLength: 1, maxLength: 4 })).map(([all, picks]) => {
    const entries = Object.entries(all);
    const picked = picks.flatMap((pick) =>
      entries.length === 0 ? [] : [entries[pick % entries.length] as [string, unknown]],
    );
    const { contains, ...others } = Object.fromEntries(picked);
    // With both, Ajv takes an empty array, which `contains` refuses.
    return contains === undefined || 'prefixItems' in others ? others : { contains, ...others };
  });
  return { schema: fc.oneof({ maxDepth: 2 }, { weight: 1, arbitrary: fc.boolean() }, { weight: 6, arbitrary: few }) };
}).schema;

const withDefinitions = fc.tuple(schema, schema, schema).map(([root, plain, other]) => ({
  allOf: [root],
  $defs: { plain: withoutRefs(plain), other: { $anchor: 'other', allOf: [withoutRefs(other)] } },
}));

function withoutRefs(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value), (name, member) => (name === '$ref' ? undefined : member));
}

/**
 * What Ajv says, or the fault of its own code: with `const` beside `additionalProperties` in `anyOf`, for example, it
 * notes what it evaluated in a variable that it has not set.
 */
function orFault(check: () => unknown): unknown {
  try {
    return check();
  } catch (error) {
    if (error instanceof TypeError) return error;
    throw error;
  }
}

test('any schema and any data have the same result as with Ajv', () => {
  fc.assert(
    fc.property(withDefinitions, fc.array(data, { minLength: 5, maxLength: 5 }), (schemaValue, generated) => {
      // Data comes out of JSON.parse; generated objects may have no prototype.
      const values: unknown[] = JSON.parse(JSON.stringify(generated));
      const ajv = new Ajv2020({ strict: false, ownProperties: true, validateSchema: false, logger: false });
      const reference = ajv.compile(schemaValue);
      for (const value of values) {
        const ours = fits(schemaValue, value);
        const theirs = orFault(() => reference(value));
        if (theirs instanceof TypeError) continue;
        expect(ours).toBe(theirs);
      }
    }),
    { numRuns: 300 },
  );
});

test('each sample of each preset fits its schema', () => {
  for (const preset of presets.values()) {
    for (const { schema: typeSchema, sample } of preset.event_types) expect(problems(typeSchema, sample)).toEqual([]);
  }
});

describe('what is told of data that does not fit', () => {
  test('every problem has its path, and a missing member the path it should have', () => {
    const order = {
      type: 'object',
      required: ['id', 'total'],
      properties: { id: { type: 'string' }, items: { items: { properties: { sku: { minLength: 2 } } } } },
      additionalProperties: false,
    };
    expect(problems(order, { id: 7, items: [{ sku: 'ab' }, { sku: 'a' }], extra: 1 })).toEqual([
      { path: 'total', message: 'is required' },
      { path: 'id', message: 'must be string' },
      { path: 'items.1.sku', message: 'must have at least 2 characters' },
      { path: 'extra', message: 'is not allowed' },
    ]);
  });

  test('the data as a whole has the empty path', () => {
    expect(problems({ type: 'object' }, 1)).toEqual([{ path: '', message: 'must be object' }]);
  });

  test('what failed in a branch of anyOf is not told, only that none fits', () => {
    expect(problems({ anyOf: [{ type: 'string' }, { required: ['a'] }] }, {})).toEqual([
      { path: '', message: 'fits none of the schemas in anyOf' },
    ]);
  });

  test('there are at most 20 problems, and no value of the data in any', () => {
    const found = problems({ items: { type: 'number' } }, Array(100).fill('secret'));
    expect(found).toHaveLength(20);
    expect(JSON.stringify(found)).not.toContain('secret');
  });

  test('a long name is cut', () => {
    const found = problems({ additionalProperties: false }, { ['n'.repeat(100_000)]: 1 });
    expect(found[0]?.path.length).toBeLessThan(100);
  });
});

describe('JSON Schema 2020-12', () => {
  test.each([
    ['an integer may be written 1.0', { type: 'integer' }, JSON.parse('1.0'), true],
    ['length counts characters, not UTF-16 units', { maxLength: 1 }, '😀', true],
    [
      'members equal in another order are equal',
      { uniqueItems: true },
      [
        { a: 1, b: 2 },
        { b: 2, a: 1 },
      ],
      false,
    ],
    ['1 and true differ', { uniqueItems: true }, [1, true], true],
    ['enum and const side by side leave what both allow', { enum: [1, 2], const: 2 }, 1, false],
    ['prices are multiples of a cent', { multipleOf: 0.01 }, 19.99, true],
    ['a price of half a cent is not', { multipleOf: 0.01 }, 19.995, false],
    [
      'a schema may refer to itself below',
      { properties: { next: { $ref: '#' } }, required: ['id'] },
      { id: 1, next: {} },
      false,
    ],
    ['a reference may have escapes', { $defs: { 'a/b~c d': { type: 'null' } }, $ref: '#/$defs/a~1b~0c%20d' }, 1, false],
    [
      'a reference may name the schema by its id',
      {
        $id: 'https://example.com/s',
        $defs: { a: { type: 'null' } },
        properties: { x: { $ref: 'https://example.com/s#/$defs/a' } },
      },
      { x: 1 },
      false,
    ],
    ['an empty array contains nothing', { prefixItems: [{ type: 'null' }], contains: { const: 1 } }, [], false],
    ['items after prefixItems are unevaluated', { prefixItems: [true], unevaluatedItems: false }, [1, 2], false],
    [
      'a branch that fits evaluates items',
      { anyOf: [{ prefixItems: [true, true] }, { type: 'null' }], unevaluatedItems: false },
      [1, 2],
      true,
    ],
    [
      'a branch that does not fit evaluates none',
      { anyOf: [{ prefixItems: [true, { type: 'null' }] }, {}], unevaluatedItems: false },
      [1, 2],
      false,
    ],
    [
      'items in contains are evaluated',
      { contains: { type: 'string' }, unevaluatedItems: { type: 'number' } },
      ['a', 1, 'b'],
      true,
    ],
    [
      'items beside contains are not',
      { contains: { type: 'string' }, unevaluatedItems: { type: 'number' } },
      ['a', null],
      false,
    ],
    ['each unevaluated item has to fit', { unevaluatedItems: { contains: { minimum: 0 } } }, [[1], []], false],
    [
      'what only a cousin evaluated is unevaluated',
      { allOf: [{ prefixItems: [true] }, { unevaluatedItems: false }] },
      [1],
      false,
    ],
    [
      'what not evaluated is unevaluated',
      { not: { not: { properties: { a: true } } }, unevaluatedProperties: false },
      { a: 1 },
      false,
    ],
    ['unknown keywords are remarks', { example: 1, 'x-owner': {}, type: 'string' }, 'a', true],
    ['an unknown format is a remark', { format: 'color' }, 'a', true],
    ['a date-time is checked', { format: 'date-time' }, '2026-02-30T00:00:00Z', false],
    ['an e-mail address is checked', { format: 'email' }, 'no address', false],
    ['a URI is checked', { format: 'uri' }, '/only/a/path', false],
  ])('%s', (_rule, schemaValue, value, expected) => {
    expect(fits(schemaValue, value)).toBe(expected);
  });

  test('names of Object.prototype are ordinary names', () => {
    expect(fits('{"required":["toString"]}', {})).toBe(false);
    expect(fits({ enum: [{ a: 1 }] }, { toString: null })).toBe(false);
    expect(fits('{"properties":{"__proto__":{"type":"string"}}}', JSON.parse('{"__proto__":1}'))).toBe(false);
    expect(fits('{"__proto__":{"type":"string"},"constructor":false}', 1)).toBe(true);
  });
});

describe('a schema that is refused', () => {
  test.each([
    [
      'a type that does not exist',
      { properties: { a: { type: 'text' } } },
      'schema.properties.a.type',
      'must be one or several of',
    ],
    ['a count below 0', { minItems: -1 }, 'schema.minItems', 'must be a whole number'],
    ['a list as items', { items: [{}] }, 'schema.items', 'prefixItems'],
    ['an empty anyOf', { anyOf: [] }, 'schema.anyOf', 'at least one'],
    ['a number as schema', { not: 5 }, 'schema.not', 'must be a schema'],
    ['null as properties', { properties: null }, 'schema.properties', 'must be an object of schemas'],
    ['required with a number', { required: ['a', 1] }, 'schema.required', 'must be a string'],
    ['another draft', { $schema: 'http://json-schema.org/draft-07/schema#' }, 'schema.$schema', 'other drafts'],
    ['a remote reference', { $ref: 'https://example.com/schema.json' }, 'schema.$ref', 'nothing is fetched'],
    ['a reference to a file', { $ref: 'file:///etc/passwd' }, 'schema.$ref', 'nothing is fetched'],
    ['a reference that leads nowhere', { $ref: '#/$defs/gone' }, 'schema.$ref', 'does not lead to a schema'],
    ['a reference into Object.prototype', { $ref: '#/constructor' }, 'schema.$ref', 'does not lead to a schema'],
    ['a reference with a broken escape', { $ref: '#/%E0%A4%A' }, 'schema.$ref', 'does not lead to a schema'],
    [
      'a cycle that never ends',
      { $defs: { a: { allOf: [{ $ref: '#/$defs/b' }] }, b: { $ref: '#/$defs/a' } } },
      'schema',
      'never end',
    ],
    ['a dynamic reference', { $dynamicRef: '#a' }, 'schema.$dynamicRef', 'not supported'],
    ['an id below the top', { $defs: { a: { $id: 'b' } } }, 'schema.$defs.a.$id', 'at the top'],
    ['lookahead', { pattern: '^(?=a)' }, 'schema.pattern', 'linear time'],
    ['lookbehind', { pattern: '(?<!a)b' }, 'schema.pattern', 'linear time'],
    ['a back reference', { pattern: '(a)\\1' }, 'schema.pattern', 'linear time'],
    ['a named back reference', { pattern: '(?<n>a)\\k<n>' }, 'schema.pattern', 'back reference'],
    ['a surrogate pair', { pattern: '\\ud83d\\ude00' }, 'schema.pattern', 'surrogates'],
    [
      'a pattern that is none',
      { patternProperties: { '(': true } },
      'schema.patternProperties.(',
      'regular expression',
    ],
    ['a long pattern', { pattern: 'a'.repeat(2_000) }, 'schema.pattern', '1024 characters'],
    ['a pattern that repeats too much', { pattern: `(?:${'a'.repeat(500)}){1000}` }, 'schema.pattern', 'too much'],
    [
      'too many patterns',
      { allOf: Array(1_000).fill({ pattern: '\\p{L}{500}' }) },
      'schema.allOf.7.pattern',
      'too complex',
    ],
  ])('%s', (_what, schemaValue, path, message) => {
    const problem = refusal(schemaValue);
    expect(problem).toMatchObject({ path, message: expect.stringContaining(message) });
  });

  test('more than 64 KB', () => {
    expect(refusal({ description: 'a'.repeat(SCHEMA_BYTES_MAX) })?.message).toContain('at most 65536 bytes');
  });

  test('schemas in schemas beyond 64 levels', () => {
    let deep: unknown = {};
    for (let level = 0; level < 100; level += 1) deep = { not: deep };
    expect(refusal(deep)?.message).toContain('deep');
  });
});

describe('a schema that asks for endless work', () => {
  const takesTooMuch = [{ path: '', message: 'takes too much work to check against the schema of its event type' }];

  test('each level doubles the one before', () => {
    const $defs: Record<string, unknown> = { d60: { type: 'object' } };
    for (let level = 0; level < 60; level += 1) {
      const $ref = `#/$defs/d${level + 1}`;
      $defs[`d${level}`] = { allOf: [{ $ref }, { $ref }] };
    }
    expect(problems({ $defs, $ref: '#/$defs/d0' }, {})).toEqual(takesTooMuch);
  });

  test('each level of the data doubles the work', () => {
    let deep: unknown = {};
    for (let level = 0; level < 60; level += 1) deep = { a: deep };
    const twice = { properties: { a: { $ref: '#' } } };
    expect(problems({ allOf: [twice, twice] }, deep)).toEqual(takesTooMuch);
  });

  test('a long way down the schema for each level of the data does not end the stack', () => {
    const $defs: Record<string, unknown> = { d150: { properties: { a: { $ref: '#' } } } };
    for (let level = 0; level < 150; level += 1) $defs[`d${level}`] = { $ref: `#/$defs/d${level + 1}` };
    let deep: unknown = {};
    for (let level = 0; level < 60; level += 1) deep = { a: deep };
    expect(problems({ $defs, $ref: '#/$defs/d0' }, deep)).toEqual(takesTooMuch);
  });

  test('a pattern and a text made to be slow together', () => {
    const text = Array.from({ length: 300_000 }, (_, at) => 'abc'[(at * at + (at >> 3)) % 3]).join('');
    expect(problems({ pattern: '(?:a[abc]{90}y|b[abc]{91}y|c[abc]{89}y)' }, `${text}y`)).toEqual(takesTooMuch);
  });

  test('the classic pattern that backtracks for ever is answered at once', () => {
    expect(problems({ pattern: '^(a+)+$' }, `${'a'.repeat(100_000)}!`)).toEqual([
      { path: '', message: 'must match the pattern ^(a+)+$' },
    ]);
  });

  test('a large honest document has room enough', () => {
    const rows = Array.from({ length: 20_000 }, (_, at) => ({ id: at, name: `row ${at}`, at: '2026-01-01T00:00:00Z' }));
    const row = {
      type: 'object',
      required: ['id', 'name', 'at'],
      properties: {
        id: { type: 'integer', minimum: 0 },
        name: { type: 'string', pattern: '^row \\d{1,9}$', maxLength: 100 },
        at: { type: 'string', format: 'date-time' },
      },
      additionalProperties: false,
    };
    expect(
      problems({ type: 'array', items: { $ref: '#/$defs/row' }, $defs: { row }, uniqueItems: true }, rows),
    ).toEqual([]);
  });
});
