import { Parser } from '@asyncapi/parser';
import { Validator } from '@seriousme/openapi-schema-validator';
import { Ajv2020 } from 'ajv/dist/2020.js';
import formats from 'ajv-formats';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startTestPosthorn, type TestPosthorn } from '../../src/testing/posthorn.ts';
import { startReceiver } from '../../src/testing/receiver.ts';

interface Described {
  post: { requestBody: { content: Record<string, { schema: object; examples?: { sample: { value: unknown } } }> } };
}

const PRESETS = ['isp-communications', 'isp-framework', 'call-center', 'support-autoresponder', 'whatsapp-crm'];

let posthorn: TestPosthorn;
beforeAll(async () => {
  posthorn = await startTestPosthorn();
});
afterAll(() => posthorn.stop());

let tenants = 0;
/** A new tenant, whose catalogue the caller fills. */
async function newTenant() {
  tenants += 1;
  const slug = `documents-${tenants}`;
  await posthorn.call('POST', '/api/v1/tenants', { name: slug, slug });
  const call = (method: string, path: string, body?: unknown, headers: Record<string, string> = {}) =>
    posthorn.call(method, `/api/v1${path}`, body, { 'x-tenant-id': slug, ...headers });
  return {
    slug,
    call,
    document: async (file: 'openapi.json' | 'asyncapi.json', headers?: Record<string, string>) => {
      const answer = await call('GET', `/event-types/${file}`, undefined, headers);
      expect(answer.status).toBe(200);
      return answer;
    },
    add: async (fields: object) => {
      const answer = await call('POST', '/event-types', fields);
      expect(answer.status, answer.text).toBe(201);
    },
  };
}

/** What the public validator has against an OpenAPI document, and what its examples have against their own schemas. */
// biome-ignore lint/suspicious/noExplicitAny: a document is looked into freely
async function openApiProblems(document: any): Promise<unknown[]> {
  const result = await new Validator().validate(structuredClone(document));
  const ajv = formats.default(new Ajv2020({ strict: false, validateFormats: true }) as never) as unknown as Ajv2020;
  ajv.addSchema({ $id: 'doc:', components: document.components }, 'doc:');
  const absolute = (schema: unknown) => JSON.parse(JSON.stringify(schema).replaceAll('"$ref":"#/', '"$ref":"doc:#/'));
  const misfits: unknown[] = [];
  const webhooks: [string, Described][] = Object.entries(document.webhooks);
  for (const [name, { post }] of webhooks) {
    for (const media of Object.values(post.requestBody.content)) {
      const validate = ajv.compile(absolute(media.schema));
      if (media.examples !== undefined && !validate(media.examples.sample.value)) misfits.push([name, validate.errors]);
    }
  }
  return [...(result.valid ? [] : [result.errors]), ...misfits];
}

async function asyncApiProblems(text: string): Promise<unknown[]> {
  const { document, diagnostics } = await new Parser().parse(text);
  const errors = diagnostics.filter(({ severity }) => severity === 0);
  return document === undefined && errors.length === 0 ? ['nothing was parsed'] : errors;
}

describe.each(PRESETS)('the documents of %s', (preset) => {
  test('are read by the public parsers, and their examples are what is delivered', async () => {
    const { call, document } = await newTenant();
    await call('POST', `/event-types/presets/${preset}`, {});
    const types = (await call('GET', '/event-types?limit=250')).body.data;

    const openapi = (await document('openapi.json')).body;
    expect(await openApiProblems(openapi)).toEqual([]);
    expect(Object.keys(openapi.webhooks)).toEqual(types.map(({ name }: { name: string }) => name));

    const { text, body: asyncapi } = await document('asyncapi.json');
    expect(await asyncApiProblems(text)).toEqual([]);
    expect(Object.keys(asyncapi.components.messages)).toEqual(Object.keys(openapi.webhooks));
  });
});

test.each(PRESETS)('what %s delivers has the headers and the body that its document promises', async (preset) => {
  const receiver = await startReceiver();
  try {
    const { call, document } = await newTenant();
    await call('POST', `/event-types/presets/${preset}`, {});
    const { webhooks, components } = (await document('openapi.json')).body;
    const { body: webhook } = await call('POST', '/webhooks', { name: preset, url: receiver.url, events: ['*'] });
    const type = Object.keys(webhooks)[0] as string;
    await call('POST', `/webhooks/${webhook.id}/test`, { event_type: type });
    const [request] = await receiver.received(1);
    const promised = Object.values(components.parameters as Record<string, { name: string; schema: object }>);
    for (const { name, schema } of promised) {
      const value = request?.headers[name.toLowerCase()];
      expect([name, value, new Ajv2020().validate(schema, value)]).toEqual([name, expect.any(String), true]);
    }
    const own = Object.keys(request?.headers ?? {}).filter((name) => /^(x-|webhook-|user-agent)/.test(name));
    expect(promised.map(({ name }) => name.toLowerCase()).sort()).toEqual(own.sort());
    const example = webhooks[type].post.requestBody.content[request?.headers['content-type'] as string].examples.sample;
    const sent = JSON.parse(request?.body.toString() ?? '');
    expect(Object.keys(sent)).toEqual(Object.keys(example.value));
    expect(sent.data).toEqual(example.value.data);
  } finally {
    await receiver.stop();
  }
});

describe('a hostile catalogue', () => {
  const HOSTILE: object[] = [
    { name: '__proto__', schema: { $id: 'urn:same', type: 'object' }, sample: JSON.parse('{"__proto__":{"a":1}}') },
    { name: 'constructor', schema: { $id: 'urn:same', type: 'object', properties: { toString: { type: 'string' } } } },
    { name: '-.-', group: '"}],"<script>', description: '\\"$\u2028\n# *x* [a](javascript:1)' },
    { name: 'call', schema: { $defs: { ended: { type: 'string' } }, properties: { a: { $ref: '#/$defs/ended' } } } },
    { name: 'call.ended', schema: { type: 'object' }, sample: {} },
    {
      name: 'refs',
      schema: {
        $id: 'urn:posthorn:refs',
        $schema: 'https://json-schema.org/draft/2020-12/schema',
        type: 'object',
        properties: {
          $ref: { type: 'string' },
          whole: { $ref: 'urn:posthorn:refs' },
          again: { $ref: '#' },
          named: { $ref: '#here', maxLength: 5 },
          odd: { $ref: '#/$defs/a~1b%20%25~0c' },
          deep: { $ref: '#/$defs/list/prefixItems/1' },
          closed: { $ref: '#/$defs/never' },
          words: { enum: [{ $ref: '#/nowhere' }, 'x'] },
        },
        dependentRequired: { named: ['odd'] },
        dependentSchemas: { odd: { required: ['named'] } },
        $defs: {
          here: { $anchor: 'here', type: 'string' },
          'a/b %~c': { type: 'integer', $comment: 5 },
          list: { prefixItems: [{ type: 'string' }, { $ref: '#/$defs/list' }], items: false },
          never: false,
        },
      },
      sample: { named: 'abc', odd: 1, deep: ['x', ['y']], words: { $ref: '#/nowhere' } },
    },
    { name: 'refs.fitting', schema: { const: { $ref: '#/x' } }, sample: { named: 'abc' } },
    {
      name: 'remarks',
      schema: {
        title: 5,
        description: [],
        examples: 1,
        deprecated: 'yes',
        discriminator: 5,
        externalDocs: 'none',
        xml: 1,
        contentEncoding: 7,
        'x-mine': { kept: true },
        contains: { type: 'object' },
        minContains: 0,
        unevaluatedProperties: false,
      },
    },
    { name: 'numbers', sample: '@' },
  ];

  test('makes documents that the public parsers read, with every sample fitting', async () => {
    const { add, call, document } = await newTenant();
    for (const type of HOSTILE) {
      // The sample of `numbers` is written by hand: no JSON.stringify spells numbers like this.
      await add(JSON.parse(JSON.stringify(type)));
    }
    await call('PATCH', '/event-types/numbers', '{"sample":{"a":1.0,"b":123456789012345678901234567890,"c":1E400}}');
    const openapi = await document('openapi.json');
    expect(await openApiProblems(openapi.body)).toEqual([]);
    expect(openapi.text).toContain('{"a":1.0,"b":123456789012345678901234567890,"c":1E400}');
    const asyncapi = await document('asyncapi.json');
    expect(await asyncApiProblems(asyncapi.text)).toEqual([]);
    const names = HOSTILE.map((type) => (type as { name: string }).name).sort();
    expect(Object.keys(openapi.body.webhooks).sort()).toEqual(names);
    const messages: { name: string }[] = Object.values(asyncapi.body.components.messages);
    expect(messages.map(({ name }) => name).sort()).toEqual(names);

    const { schemas } = openapi.body.components;
    expect(schemas.refs.properties).toMatchObject({
      whole: { $ref: '#/components/schemas/refs' },
      again: { $ref: '#/components/schemas/refs' },
      named: { $ref: '#/components/schemas/refs..here', maxLength: 5 },
      // Every reader of documents would take the values for references.
      words: {},
    });
    expect(openapi.body.webhooks.refs.post.requestBody.content['application/json'].examples).toBeUndefined();
    expect(schemas.remarks).toEqual({
      'x-mine': { kept: true },
      contains: { type: 'object' },
      minContains: 0,
      unevaluatedProperties: false,
    });
    // The type `call.ended` and what `call` calls "ended" are two.
    expect([schemas['call.ended'], schemas['call..ended']]).toEqual([{ type: 'object' }, { type: 'string' }]);
    expect(JSON.stringify(schemas)).not.toMatch(/"\$(id|anchor|schema|defs)"/);
  });

  test('as large as one may be is written at once', async () => {
    const { call, document } = await newTenant();
    const schema = {
      type: 'object',
      properties: Object.fromEntries(Array.from({ length: 8 }, (_, at) => [`f${at}`, { $ref: `#/$defs/d${at}` }])),
      $defs: Object.fromEntries(
        Array.from({ length: 8 }, (_, at) => [`d${at}`, { type: 'string', title: 'x'.repeat(20) }]),
      ),
    };
    for (let at = 0; at < 1_000; at += 50) {
      const added = Array.from({ length: 50 }, (_, of) =>
        call('POST', '/event-types', { name: `t.${at + of}`, schema }),
      );
      expect((await Promise.all(added)).every(({ status }) => status === 201)).toBe(true);
    }
    const startedAt = performance.now();
    const openapi = await document('openapi.json');
    const asyncapi = await document('asyncapi.json');
    expect(performance.now() - startedAt).toBeLessThan(5_000);
    expect(Object.keys(openapi.body.webhooks)).toHaveLength(1_000);
    expect(Object.keys(asyncapi.body.components.messages)).toHaveLength(1_000);
    const { valid, errors } = await new Validator().validate(openapi.body);
    expect([valid, errors]).toEqual([true, undefined]);
  }, 60_000);
});

describe('who reads a document', () => {
  test('an environment has its own, an empty one too, and portal tokens may read it', async () => {
    const { add, call, document } = await newTenant();
    await add({ name: 'order.paid', description: 'Somebody paid.', deprecated: true });
    const staging = await document('openapi.json', { 'x-environment': 'staging' });
    expect(await openApiProblems(staging.body)).toEqual([]);
    expect([staging.body.webhooks, staging.body.info.title]).toEqual([{}, 'Webhook events (staging)']);
    expect(await asyncApiProblems((await document('asyncapi.json', { 'x-environment': 'staging' })).text)).toEqual([]);

    const { body: portal } = await call('POST', '/portal-tokens', { access: 'read', owner: 'customer-1' });
    for (const file of ['openapi.json', 'asyncapi.json']) {
      const answer = await posthorn.call('GET', `/api/v1/event-types/${file}`, undefined, {
        authorization: `Bearer ${portal.token}`,
      });
      expect([answer.status, answer.text.includes('order.paid')]).toEqual([200, true]);
    }
    const other = await newTenant();
    expect(Object.keys((await other.document('openapi.json')).body.webhooks)).toEqual([]);
    const openapi = (await document('openapi.json')).body;
    expect(openapi.webhooks['order.paid'].post).toMatchObject({ deprecated: true, description: 'Somebody paid.' });
  });
});
