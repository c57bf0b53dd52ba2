import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { startTestPosthorn, type TestPosthorn } from '../../src/testing/posthorn.ts';

let posthorn: TestPosthorn;
beforeAll(async () => {
  posthorn = await startTestPosthorn();
});
afterAll(() => posthorn.stop());

let tenants = 0;
let slug = '';
beforeEach(async () => {
  tenants += 1;
  slug = `import-${tenants}`;
  await posthorn.call('POST', '/api/v1/tenants', { name: slug, slug });
});

const call = (method: string, path: string, body?: unknown, headers: Record<string, string> = {}) =>
  posthorn.call(method, `/api/v1${path}`, body, { 'x-tenant-id': slug, ...headers });
const importing = (document: unknown, query = '') => call('POST', `/event-types/import${query}`, document);
const typeNamed = async (name: string) => (await call('GET', `/event-types/${name}`)).body;
const names = async () =>
  (await call('GET', '/event-types?limit=250')).body.data.map((type: { name: string }) => type.name);
const entries = async () => (await call('GET', '/audit?action=event_types.imported')).body.data;

const request = (schema: unknown, more: object = {}, media: object = {}) => ({
  post: { requestBody: { content: { 'application/json': { schema, ...media } } }, ...more },
});
const document = (webhooks: object, components: object = {}) => ({ openapi: '3.1.0', webhooks, components });

const PETS = document(
  {
    'pet.created': request(
      { $ref: '#/components/schemas/Pet' },
      { tags: ['Pets'], description: 'A pet.', deprecated: true },
      { examples: { rex: { $ref: '#/components/examples/Rex' } } },
    ),
    'pet.removed': { post: { summary: 'No body.' } },
  },
  {
    schemas: {
      Pet: {
        type: 'object',
        properties: { name: { type: 'string' }, owner: { $ref: '#/components/schemas/Owner' } },
        required: ['name'],
      },
      Owner: { type: 'object', properties: { pets: { type: 'array', items: { $ref: '#/components/schemas/Pet' } } } },
    },
    examples: { Rex: { value: { name: 'Rex' } } },
  },
);

test('each webhook of the document becomes an event type that stands for itself', async () => {
  const answer = await importing(PETS);
  expect([answer.status, answer.body]).toEqual([
    200,
    {
      dry_run: false,
      created: 2,
      updated: 0,
      skipped: 0,
      data: [
        { name: 'pet.created', result: 'created' },
        { name: 'pet.removed', result: 'created' },
      ],
    },
  ]);
  expect(await typeNamed('pet.created')).toMatchObject({
    group: 'Pets',
    description: 'A pet.',
    deprecated: true,
    enforce_schema: false,
    sample: { name: 'Rex' },
    schema: {
      properties: { owner: { $ref: '#/$defs/Owner' } },
      $defs: { Owner: { properties: { pets: { items: { $ref: '#' } } } } },
    },
  });
  expect(await typeNamed('pet.removed')).toMatchObject({
    group: 'pet',
    description: 'No body.',
    schema: null,
    sample: null,
  });
  // The schema is one that publishing can enforce.
  await call('PATCH', '/event-types/pet.created', { enforce_schema: true });
  const wrong = await call('POST', '/events', {
    event_type: 'pet.created',
    data: { name: 'Rex', owner: { pets: [{}] } },
  });
  expect([wrong.status, wrong.body.error.details.fields[0].path]).toEqual([422, 'data.owner.pets.0.name']);
});

test('importing again skips what is the same, updates what is not, and leaves what is not said', async () => {
  await importing(PETS);
  await call('PATCH', '/event-types/pet.created', { enforce_schema: true });
  const changed = structuredClone(PETS);
  changed.webhooks = {
    ...PETS.webhooks,
    'pet.removed': { post: { description: 'Gone.' } },
    'pet.sold': { post: {} },
  } as never;
  expect((await importing(changed)).body.data).toEqual([
    { name: 'pet.created', result: 'skipped', reason: 'unchanged' },
    { name: 'pet.removed', result: 'updated' },
    { name: 'pet.sold', result: 'created' },
  ]);
  expect(await typeNamed('pet.created')).toMatchObject({ enforce_schema: true });
  expect(await typeNamed('pet.removed')).toMatchObject({ description: 'Gone.', group: 'pet' });

  changed.webhooks = { 'pet.removed': { post: { description: 'Again.' } } } as never;
  expect((await importing(changed, '?existing=skip')).body.data).toEqual([
    { name: 'pet.removed', result: 'skipped', reason: 'exists' },
  ]);
  expect(await typeNamed('pet.removed')).toMatchObject({ description: 'Gone.' });
  const log = await entries();
  expect(log).toHaveLength(2);
  expect(log[0].after).toEqual({ created: ['pet.sold'], updated: ['pet.removed'] });
});

test('a trial run says what would be done, or what is wrong, and does nothing', async () => {
  expect((await importing(PETS, '?dry_run=true')).body).toMatchObject({ dry_run: true, created: 2 });
  expect([await names(), await entries()]).toEqual([[], []]);
  const padding = { description: 'x'.repeat(60_000) };
  const large = document(Object.fromEntries(Array.from({ length: 20 }, (_, at) => [`t.${at}`, request(padding)])));
  for (const query of ['?dry_run=true', '']) {
    const refused = await importing(large, query);
    expect([refused.status, refused.body.error.code]).toEqual([409, 'catalog_full']);
  }
  expect(await names()).toEqual([]);
});

test('samples keep their spelling, wherever the document has them', async () => {
  const sample = '{"b": 1.0, "a": 9007199254740993,"1":"\\u00fc", "a" : 1E400 }';
  const compact = '{"b":1.0,"a":9007199254740993,"1":"\\u00fc","a":1E400}';
  const written = (media: string) => `{"post":{"requestBody":{"content":{"application/json":${media}}}}}`;
  const webhooks = {
    'by.example': written(`{"example":${sample}}`),
    'by.examples': written(`{"examples":{"none":{},"first":{"$ref":"#/components/examples/E~1"}}}`),
    'by.schema': written(`{"schema":{"$ref":"#/components/schemas/S"}}`),
    'by.schema.list': written(`{"schema":{"examples":[${sample},5]}}`),
    // Of members with the same name the last one counts.
    'by.operation': `{"post":{"x-event-data":{},"x-event-sample":{"b":2,"a":[1]},"x\\u002devent-sample":${sample}}}`,
  };
  const text = (of: object) =>
    `{"openapi":"3.1.0","webhooks":{"by.example":7,${Object.entries(of).map(([name, item]) => `"${name}":${item}`)}},
      "components":{"examples":{"E/":{"value":${sample}}},"schemas":{"S":{"example":${sample}}}}}`;
  expect((await importing(text(webhooks))).body).toMatchObject({ created: 5 });
  for (const name of Object.keys(webhooks)) {
    expect((await call('GET', `/event-types/${name}`)).text).toContain(`"sample":${compact}`);
  }
  const answer = await importing(text(webhooks));
  expect(answer.body).toMatchObject({ skipped: 5 });
  // Another number, although readers of JSON round both to the same one.
  const changed = { 'by.example': webhooks['by.example'].replace('0993', '0992') };
  expect((await importing(text(changed))).body.data).toEqual([{ name: 'by.example', result: 'updated' }]);
  const wrapped = { 'by.property': written(`{"schema":{"properties":{"data":{}}},"example":{"data":${sample}}}`) };
  await importing(text(wrapped).replace('"by.example":7,', ''), '?data_property=data');
  expect((await call('GET', '/event-types/by.property')).text).toContain(`"sample":${compact}`);
});

test('a document of four megabytes of numbers holds up nobody for long', async () => {
  const many = JSON.stringify({ filler: Array(1_900_000).fill(1) }).slice(1, -1);
  const text = JSON.stringify(document({ 'pet.created': request({}, {}, { example: 1 }) }));
  const startedAt = performance.now();
  const answer = await importing(`{${many},${text.slice(1)}`);
  expect([answer.status, answer.body.created]).toEqual([200, 1]);
  expect(performance.now() - startedAt).toBeLessThan(3_000);
  expect((await importing(`{${many},${many},${text.slice(1)}`)).status).toBe(413);
});

test("Posthorn's own document makes the same event types elsewhere, in another envelope too", async () => {
  for (const preset of ['call-center', 'isp-communications']) {
    await call('POST', `/event-types/presets/${preset}`, {});
    await call('POST', '/event-types', { name: 'bare' });
    const own = (await call('GET', '/event-types/openapi.json')).body;
    const copied = await call('POST', '/event-types/import', own, { 'x-environment': 'staging' });
    expect([copied.status, copied.body.skipped]).toEqual([200, 0]);
    const [here, there] = await Promise.all(
      ['production', 'staging'].map(async (environment) => {
        const { body } = await call('GET', '/event-types?limit=250', undefined, { 'x-environment': environment });
        return body.data.map(({ name, group, description, schema, sample }: Record<string, unknown>) => {
          const { $id, $schema, ...rest } = (schema ?? {}) as Record<string, unknown>;
          return { name, group, description, schema: rest, sample };
        });
      }),
    );
    expect(there).toEqual(here);
    // What is the same is found to be so.
    const again = await call('POST', '/event-types/import', own, { 'x-environment': 'staging' });
    expect(again.body.skipped).toBe(own === undefined ? 0 : Object.keys(own.webhooks).length);
    for (const environment of ['production', 'staging']) {
      for (const { name } of here)
        await call('DELETE', `/event-types/${name}`, undefined, { 'x-environment': environment });
    }
  }
});

test('OpenAPI 3.0: x-webhooks and callbacks, and schemas in its own words', async () => {
  const answer = await importing({
    openapi: '3.0.3',
    'x-webhooks': {
      'order.paid': request(
        {
          type: 'object',
          nullable: true,
          properties: {
            total: { type: 'number', minimum: 0, exclusiveMinimum: true },
            state: { type: 'string', nullable: true, enum: ['a', 'b'] },
            customer: { $ref: '#/components/schemas/Customer', description: 'Ignored beside a reference.' },
          },
        },
        {},
        { example: { total: 1 } },
      ),
    },
    paths: {
      '/subscribe': {
        post: {
          callbacks: { 'order.shipped': { '{$request.body#/url}': request({ type: 'object' }) } },
          responses: {},
        },
      },
    },
    components: { schemas: { Customer: { type: 'object', example: { id: 1 } } } },
  });
  expect([answer.status, answer.body.created]).toEqual([200, 2]);
  expect(await typeNamed('order.paid')).toMatchObject({
    sample: { total: 1 },
    schema: {
      type: ['object', 'null'],
      properties: {
        total: { type: 'number', exclusiveMinimum: 0 },
        state: { type: ['string', 'null'], enum: ['a', 'b', null] },
        customer: { $ref: '#/$defs/Customer' },
      },
      $defs: { Customer: { type: 'object', examples: [{ id: 1 }] } },
    },
  });
  expect(await typeNamed('order.shipped')).toMatchObject({ schema: { type: 'object' } });
});

test('data_property takes the data out of the envelope that the document describes', async () => {
  const envelope = {
    allOf: [
      { $ref: '#/components/schemas/Envelope' },
      { type: 'object', properties: { data: { $ref: '#/components/schemas/Order' } } },
    ],
  };
  const orders = document(
    { 'order.paid': request(envelope, {}, { example: { id: 'evt_1', data: { total: 5 } } }) },
    {
      schemas: {
        Envelope: { type: 'object', properties: { id: { type: 'string' } } },
        Order: { type: 'object', properties: { total: { type: 'number' } } },
      },
    },
  );
  expect((await importing(orders, '?data_property=data')).status).toBe(200);
  expect(await typeNamed('order.paid')).toMatchObject({
    sample: { total: 5 },
    schema: { properties: { total: { type: 'number' } } },
  });
  const refused = await importing(orders, '?data_property=payload');
  expect(refused.body.error.details.fields[0].path).toBe('webhooks.order.paid.post');
});

describe('what cannot be read is refused with its place, and nothing is written', () => {
  const chain = Object.fromEntries(
    Array.from({ length: 40 }, (_, at) => [`c${at}`, at === 39 ? {} : { $ref: `#/components/schemas/c${at + 1}` }]),
  );
  const wide = Object.fromEntries(
    Array.from({ length: 300 }, (_, at) => [
      `w${at}`,
      { type: 'object', properties: { a: { $ref: `#/components/schemas/w${(at + 1) % 300}` }, b: {}, c: {} } },
    ]),
  );
  const good = { good: request({ type: 'object' }) };
  const cases: [string, object, string][] = [
    ['no OpenAPI document', { swagger: '2.0', webhooks: good }, 'openapi'],
    ['another version', { openapi: '4.0.0', webhooks: good }, 'openapi'],
    ['nothing', { openapi: '3.1.0', paths: {} }, 'webhooks'],
    ['webhooks that are a list', { openapi: '3.1.0', webhooks: [] }, 'webhooks'],
    ['a name', document({ ...good, 'a/b c': request({}) }), 'webhooks.a/b c.post'],
    ['a reserved name', document({ ...good, presets: request({}) }), 'webhooks.presets.post'],
    ['no request', document({ ...good, x: { parameters: [] } }), 'webhooks.x'],
    [
      'a remote reference',
      document({ ...good, x: request({ $ref: 'https://example.com/s.json' }) }),
      'webhooks.x.post',
    ],
    ['a file', document({ ...good, x: request({ properties: { a: { $ref: 'other.json#/a' } } }) }), 'webhooks.x.post'],
    [
      'a reference to nothing',
      document({ ...good, x: request({ $ref: '#/components/schemas/None' }) }),
      'webhooks.x.post',
    ],
    ['a reference to __proto__', document({ ...good, x: request({ $ref: '#/__proto__' }) }), 'webhooks.x.post'],
    ['a reference to itself', document({ ...good, x: { $ref: '#/webhooks/x' } }), 'webhooks.x'],
    [
      'a long chain',
      document({ ...good, x: request({ $ref: '#/components/schemas/c0' }) }, { schemas: chain }),
      'webhooks.x.post',
    ],
    [
      'endless checking',
      document(
        { ...good, x: request({ allOf: [{ $ref: '#/components/schemas/L' }] }) },
        { schemas: { L: { allOf: [{ $ref: '#/components/schemas/L' }] } } },
      ),
      'webhooks.x.post.schema',
    ],
    ['a schema that is none', document({ ...good, x: request({ type: 'text' }) }), 'webhooks.x.post.schema.type'],
    [
      'a long sample',
      document({ ...good, x: request({}, {}, { example: 'x'.repeat(70_000) }) }),
      'webhooks.x.post.sample',
    ],
    ['a description', document({ ...good, x: request({}, { description: 5 }) }), 'webhooks.x.post.description'],
    ['NUL', document({ ...good, x: request({}, { tags: ['a\0'] }) }), 'webhooks.x.post.tags'],
    [
      'twice',
      { ...document(good), paths: { '/a': { post: { callbacks: { good: { '{$url}': request({}) } } } } } },
      'paths./a.post.callbacks.good.{$url}.post',
    ],
    [
      'more copies than are made',
      document(
        Object.fromEntries(
          Array.from({ length: 900 }, (_, at) => [`t.${at}`, request({ $ref: '#/components/schemas/w0' })]),
        ),
        { schemas: wide },
      ),
      'webhooks.t.',
    ],
    [
      'too many',
      document(Object.fromEntries(Array.from({ length: 1_001 }, (_, at) => [`t.${at}`, { post: {} }]))),
      'webhooks.t.1000',
    ],
  ];
  test.each(cases)(
    '%s',
    async (_what, body, path) => {
      const answer = await importing(body);
      expect([answer.status, answer.body.error.code], answer.text.slice(0, 500)).toEqual([422, 'validation_failed']);
      expect(answer.body.error.details.fields[0].path.startsWith(path), answer.body.error.message).toBe(true);
      expect([await names(), await entries()]).toEqual([[], []]);
    },
    30_000,
  );

  test('all of it at once, and a name like any other', async () => {
    const both = await importing(document({ 'a b': request({}), ok: request({}), 'c d': request({}) }));
    expect(both.body.error.details.fields.map(({ path }: { path: string }) => path)).toEqual([
      'webhooks.a b.post',
      'webhooks.c d.post',
    ]);
    const odd = `{"openapi":"3.1.0","webhooks":{"__proto__":${JSON.stringify(request({ $ref: '#/components/schemas/__proto__' }))}},"components":{"schemas":{"__proto__":{"properties":{"__proto__":{"type":"string"}}}}}}`;
    expect((await importing(odd)).status).toBe(200);
    expect(await names()).toEqual(['__proto__']);
    expect((await call('GET', '/event-types/__proto__')).text).toContain(
      '"schema":{"properties":{"__proto__":{"type":"string"}}}',
    );
  });
});

test('needs the permission to change event types, and reaches no other tenant', async () => {
  const { body: key } = await call('POST', '/api-keys', { name: 'reader', role: 'viewer' });
  const refused = await posthorn.call('POST', '/api/v1/event-types/import', PETS, {
    authorization: `Bearer ${key.key}`,
  });
  expect(refused.status).toBe(403);
  await importing(PETS);
  await posthorn.call('POST', '/api/v1/tenants', { name: 'other', slug: `${slug}-other` });
  const elsewhere = await call('GET', '/event-types', undefined, { 'x-tenant-id': `${slug}-other` });
  expect(elsewhere.body.data).toEqual([]);
});
