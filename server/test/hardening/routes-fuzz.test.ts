import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Answer, OPERATOR_KEY, startTestPosthorn, type TestPosthorn } from '../../src/testing/posthorn.ts';
import { type Receiver, startReceiver } from '../../src/testing/receiver.ts';

/** As much of a JSON Schema as the API document has. */
interface Schema {
  type?: string | string[];
  properties?: Record<string, Schema>;
  required?: string[];
  items?: Schema;
  enum?: unknown[];
  const?: unknown;
  anyOf?: Schema[];
  format?: string;
}

interface Operation {
  description?: string;
  parameters?: { name: string; in: string; schema: Schema }[];
  requestBody?: { content: Record<string, { schema: Schema }> };
}

const DOCUMENT: { paths: Record<string, Record<string, Operation>> } = JSON.parse(
  readFileSync(new URL('../../../openapi.json', import.meta.url), 'utf8'),
);
const ROUTES = Object.entries(DOCUMENT.paths).flatMap(([path, operations]) =>
  Object.entries(operations).map(([method, operation]) => ({
    name: `${method.toUpperCase()} ${path}`,
    method: method.toUpperCase(),
    path,
    /** Of a requirement document's path, the one that it stands for. */
    canonical: /^The same as `[A-Z]+ (\S+)`/.exec(operation.description ?? '')?.[1] ?? path,
    operation,
  })),
);

let posthorn: TestPosthorn;
let receiver: Receiver;
/** Of what is there, by the path that names it; the longest that fits counts. */
const THERE: Record<string, string> = {};
beforeAll(async () => {
  [posthorn, receiver] = await Promise.all([startTestPosthorn(), startReceiver()]);
  const webhook = await posthorn.call('POST', '/api/v1/webhooks', { name: 'W', url: receiver.url, events: ['*'] });
  const event = await posthorn.call('POST', '/api/v1/events', { event_type: 'a.b', data: 1 });
  const type = await posthorn.call('POST', '/api/v1/event-types', { name: 'a.type' });
  const delivery = await posthorn.call('GET', '/api/v1/deliveries');
  const tenant = await posthorn.call('POST', '/api/v1/tenants', { slug: 'other', name: 'Other' });
  THERE['/api/v1/webhooks/'] = webhook.body.id;
  THERE['/api/v1/analytics/webhooks/'] = webhook.body.id;
  THERE['/api/v1/webhooks/events/'] = type.body.name;
  THERE['/api/v1/events/'] = event.body.id;
  THERE['/api/v1/event-types/'] = type.body.name;
  THERE['/api/v1/event-types/presets/'] = 'whatsapp-crm';
  THERE['/api/v1/deliveries/'] = delivery.body.data[0].id;
  THERE['/api/v1/tenants/'] = tenant.body.id;
});
afterAll(() => Promise.all([posthorn.stop(), receiver.stop()]));

const HOSTILE_TEXTS = [
  '',
  ' ',
  '\0',
  'a\0b',
  '\ud800',
  '\udfff\ud800',
  '\ufeff',
  '\r\nX-Evil: a',
  '__proto__',
  'constructor',
  'prototype',
  'toString',
  'hasOwnProperty',
  "' OR 1=1 --",
  '%',
  '%%_\\',
  '../../etc/passwd',
  '{{7*7}}',
  // biome-ignore lint/suspicious/noTemplateCurlyInString: it is what an attacker would send
  '${7*7}',
  '<script>alert(1)</script>',
  '(a+)+$',
  '(((((((((((((((((((((((((a{1000}){1000}',
  'a'.repeat(300),
  'é'.repeat(5_000),
  '1e999999',
  'NaN',
  '-0',
  '9'.repeat(400),
  '2026-13-45T99:99:99Z',
  '0000-01-01T00:00:00Z',
  '+275760-09-13T00:00:00.001Z',
  '9999-12-31T23:59:60Z',
  'whk_',
  'whk_00000000000000000000000000',
  'whk_zzzzzzzzzzzzzzzzzzzzzzzzzz',
  'http://[::1',
  'http://a@127.0.0.1:99999/',
  'https://xn--a',
  'javascript:alert(1)',
  'http://\u2488',
];
/** As JSON texts, because not all of them can be written from a value. */
const HOSTILE_VALUES = [
  'null',
  'true',
  '0',
  '-1',
  '1.5',
  '1e999999',
  '-1e999999',
  '9007199254740993',
  '2147483648',
  '9223372036854775808',
  '1e-400',
  '[]',
  '{}',
  '[[]]',
  '[null]',
  '{"__proto__":{"polluted":true}}',
  '{"constructor":{"prototype":{"polluted":true}}}',
  '{"toString":1,"valueOf":1,"toJSON":1}',
  '{"":""}',
  '{"length":1e9}',
  `${'['.repeat(60)}${']'.repeat(60)}`,
  `${'{"a":'.repeat(60)}1${'}'.repeat(60)}`,
  `[${Array.from({ length: 2_000 }, () => '"a"').join()}]`,
  `{${Array.from({ length: 2_000 }, (_, at) => `"k${at}":${at}`).join()}}`,
  '{"$ref":"#"}',
  '{"a":1,"a":2}',
  '"\\ud800"',
  '"\\u0000"',
];
const hostileText = fc.constantFrom(...HOSTILE_TEXTS);
const hostileJson = fc.oneof(
  fc.constantFrom(...HOSTILE_VALUES),
  hostileText.map((text) => JSON.stringify(text)),
  fc.jsonValue({ maxDepth: 3 }).map((value) => JSON.stringify(value)),
);

/** Other spellings of what is there already. */
const SPELLINGS = new Set(['event', 'type', 'payload', 'custom_headers', 'signature', 'retry_count']);

/** What is likely to be taken for a text of this name. */
function likely(name: string, { format }: Schema): string[] {
  if (format === 'date-time') return ['2026-01-31T12:00:00Z', '2026-01-01T00:00:00.123456+23:59'];
  if (name.endsWith('url')) return ['http://127.0.0.1:9/a', 'https://127.0.0.1/a?b=c'];
  if (name === 'slug') return ['one', 'two', 'three-4'];
  if (name === 'cursor') return ['MTIz', 'e30'];
  return ['a.b', 'a.type'];
}

/** A JSON text that mostly fits the schema, and is somewhere what nobody expects. */
function textOf(schema: Schema, depth = 0, name = ''): fc.Arbitrary<string> {
  return fc.oneof({ weight: 12, arbitrary: fittingText(schema, depth, name) }, { weight: 1, arbitrary: hostileJson });
}

function fittingText(schema: Schema, depth: number, name: string): fc.Arbitrary<string> {
  if (schema.anyOf !== undefined) return fc.oneof(...schema.anyOf.map((each) => textOf(each, depth, name)));
  if (schema.enum !== undefined) return fc.constantFrom(...schema.enum.map((each) => JSON.stringify(each)));
  if (schema.const !== undefined) return fc.constant(JSON.stringify(schema.const));
  const type = Array.isArray(schema.type) ? schema.type[0] : schema.type;
  switch (type) {
    case 'object':
      return depth > 4 ? fc.constant('{}') : objectText(schema, depth);
    case 'array':
      return fc
        .array(depth > 4 ? fc.constant('1') : textOf(schema.items ?? {}, depth + 1, name), {
          minLength: 1,
          maxLength: 3,
        })
        .map((items) => `[${items.join()}]`);
    case 'integer':
    case 'number':
      return fc.integer({ min: 0, max: 100 }).map(String);
    case 'boolean':
      return fc.constantFrom('true', 'false');
    case 'string':
      return fc.constantFrom(...likely(name, schema)).map((text) => JSON.stringify(text));
    default:
      return hostileJson;
  }
}

function objectText({ properties = {}, required = [] }: Schema, depth: number): fc.Arbitrary<string> {
  const names = Object.keys(properties);
  const member = (name: string) =>
    textOf(properties[name] ?? {}, depth + 1, name).map((value) => `${JSON.stringify(name)}:${value}`);
  // Without these an event is refused before anything else of it is looked at.
  const wanted = names.includes('data') ? ['event_type', 'data'] : required;
  const others = names.filter((name) => !wanted.includes(name) && !SPELLINGS.has(name));
  const known = fc
    .subarray(others, { maxLength: Math.min(3, others.length) })
    .chain((chosen) => fc.tuple(...[...wanted, ...chosen].map(member)));
  const unknown = fc.tuple(hostileText, hostileJson).map(([name, value]) => `${JSON.stringify(name)}:${value}`);
  return fc
    .tuple(known, fc.array(unknown, { maxLength: 1 }))
    .map(([some, more]) => `{${[...some, ...(names.length === 0 || depth > 2 ? more : [])].join()}}`);
}

/** Percent-encoded, lone surrogates as the bytes that some make of them. */
const encoded = (text: string) => encodeURIComponent(text.toWellFormed());

function requestTo({ path, canonical, operation }: (typeof ROUTES)[number]) {
  const parameters = operation.parameters ?? [];
  const named = (place: string) => parameters.filter((each) => each.in === place);
  const there = Object.keys(THERE)
    .filter((start) => canonical.startsWith(start))
    .sort((a, b) => b.length - a.length)[0];
  const segment = fc.oneof(
    { weight: 4, arbitrary: fc.constant(THERE[there ?? ''] ?? 'a') },
    { weight: 1, arbitrary: hostileText.filter((text) => text !== '' && text.length < 1_000) },
  );
  const pathText = fc
    .tuple(...named('path').map(() => segment))
    .map((values) => values.reduce((text: string, value) => text.replace(/\{[^}]*\}/, () => encoded(value)), path));
  const known = named('query').map(({ name, schema }) => {
    const fitting = fittingText(schema, 0, name).map((text) => text.replace(/^"|"$/g, ''));
    const value = fc.oneof({ weight: 8, arbitrary: fitting }, { weight: 1, arbitrary: hostileText });
    const given = value.map((text) => [`${name}=${encoded(text)}`]);
    return fc.oneof({ weight: 3, arbitrary: fc.constant([]) }, { weight: 1, arbitrary: given });
  });
  const odd = fc.constantFrom(
    '',
    '',
    '',
    '',
    '__proto__[polluted]=1',
    'constructor.prototype.polluted=1',
    'limit[]=1',
    'limit=1&limit=2',
    'a'.repeat(3_000),
    '&&==&',
    '%ff=%fe',
    'cursor=%00',
  );
  const query = fc
    .tuple(fc.tuple(...known), odd)
    .map(([some, more]) => [...some.flat(), more].filter((part) => part !== '').join('&'));
  const schema = Object.values(operation.requestBody?.content ?? {})[0]?.schema;
  const body =
    schema === undefined
      ? fc.constantFrom(undefined, '{}')
      : fc.oneof({ weight: 6, arbitrary: textOf(schema) }, { weight: 1, arbitrary: hostileJson });
  const headers = fc.record(
    {
      'idempotency-key': fc.constantFrom(
        '',
        'a',
        'a b',
        'a'.repeat(255),
        'a'.repeat(256),
        '__proto__',
        'a, b',
        '\xe9',
        "';--",
      ),
      'x-tenant-id': fc.constantFrom(
        'default',
        'other',
        '__proto__',
        'constructor',
        '',
        'tnt_00000000000000000000000000',
        'a'.repeat(5_000),
        '\xe9',
      ),
      'x-environment': fc.constantFrom('production', 'staging', '__proto__', 'toString', '', '\xe9'),
      authorization: fc.constantFrom(
        'Bearer',
        'Basic YTpi',
        `bearer ${OPERATOR_KEY}`,
        `Bearer ${OPERATOR_KEY}`,
        'Bearer __proto__',
        `Bearer ${'a'.repeat(9_000)}`,
      ),
      'content-type': fc.constantFrom(
        'application/json',
        'application/json; charset=utf-16',
        'application/cloudevents+json',
        'text/plain',
        '',
        'a'.repeat(1_000),
        '/',
      ),
      accept: fc.constantFrom('text/html', '*/*', 'application/xml'),
      'x-forwarded-for': fc.constantFrom('127.0.0.1', '__proto__', 'a'.repeat(1_000)),
    },
    { requiredKeys: [] },
  );
  return fc.record({
    path: pathText,
    query,
    body,
    headers: fc.oneof({ weight: 3, arbitrary: fc.constant({}) }, { weight: 1, arbitrary: headers }),
  });
}

/** What nobody outside may learn: places in the code, statements, what drivers and parsers say. */
const INSIDE =
  /node_modules|\.ts:\d|\bat \S+ \(|Error:|SELECT |INSERT |UPDATE |\bpg_|relation "|column "|syntax error|invalid (?:input|byte)|ECONN|undefined|Cannot read|is not a function|\[object/;

function judge(answer: Answer, sent: string): void {
  expect(answer.status, sent).toBeLessThan(500);
  if (answer.status < 400) return;
  const { error } = answer.body;
  expect(Object.keys(answer.body), sent).toEqual(['error']);
  expect(
    [error.code, error.message, error.request_id].map((part) => typeof part),
    sent,
  ).toEqual(['string', 'string', 'string']);
  expect(answer.text, sent).not.toMatch(INSIDE);
}

describe('whatever is sent is answered, and never with a fault', () => {
  // What is deleted is needed by the others.
  test.each(ROUTES.toSorted((a, b) => Number(a.method === 'DELETE') - Number(b.method === 'DELETE')))(
    '$name',
    async (route) => {
      await fc.assert(
        fc.asyncProperty(requestTo(route), async ({ path, query, body, headers }) => {
          const url = query === '' ? path : `${path}?${query}`;
          const content = route.method === 'GET' ? undefined : body;
          judge(
            await posthorn.call(route.method, url, content, headers),
            `${route.method} ${url.slice(0, 300)} ${JSON.stringify(headers).slice(0, 300)} ${content?.slice(0, 600)}`,
          );
        }),
        { numRuns: 40 },
      );
      expect(({} as Record<string, unknown>).polluted).toBeUndefined();
      expect((await posthorn.call('GET', '/health/ready')).status).toBe(200);
    },
  );
});
