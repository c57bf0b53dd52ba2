import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Caller } from '../http/caller.ts';
import { type CatalogFixture, startCatalogFixture } from './catalog-fixture.ts';
import { EVENT_TYPES_MAX } from './change-catalog.ts';

let catalog: CatalogFixture;
let caller: Caller;

beforeAll(async () => {
  catalog = await startCatalogFixture();
  caller = await catalog.makeCaller();
});

afterAll(() => catalog.stop());

const call = (method: Parameters<CatalogFixture['call']>[1], path: string, body?: unknown) =>
  catalog.call(caller, method, path, body);

function fields(answer: { body: { error: { details: { fields: { path: string; message: string }[] } } } }) {
  return answer.body.error.details.fields;
}

describe('create and read', () => {
  test('an event type with only a name has defaults for the rest', async () => {
    const created = await call('POST', '/event-types', { name: 'plain.created' });
    expect(created.status).toBe(201);
    expect(created.body).toEqual({
      name: 'plain.created',
      group: 'plain',
      description: '',
      enforce_schema: false,
      deprecated: false,
      preset: null,
      created_at: '2026-03-01T10:20:30.456Z',
      updated_at: '2026-03-01T10:20:30.456Z',
      schema: null,
      sample: null,
    });
    expect((await call('GET', '/event-types/plain.created')).text).toBe(created.text);
  });

  test('schema and sample keep key order, number spellings and escapes to the byte', async () => {
    const schema = '{ "type": "object", "properties": {"z": {"minimum": 1.0}, "a": {"maximum": 1e2}} }';
    const sample = '{"z": 1.0, "a": 12345678901234567890, "e": 1e400, "u": "\\u00e9\\u0000", "2": 1, "1": 2}';
    const body = `{"name":"exact.kept","schema": ${schema} ,"sample":${sample}}`;
    const created = await call('POST', '/event-types', body);
    expect(created.status).toBe(201);
    for (const path of ['/event-types/exact.kept', '/event-types?q=exact.kept', '/webhooks/events/exact.kept']) {
      const { text } = await call('GET', path);
      expect(text).toContain(`"schema":${schema}`);
      expect(text).toContain(`"sample":${sample}`);
    }
    const entry = await catalog.directory.lookup(caller, 'exact.kept');
    expect(entry !== 'unknown' && entry.sample?.toString()).toBe(sample);
  });

  test('of members sent twice the last one counts', async () => {
    const created = await call('POST', '/event-types', '{"name":"twice","sample":1,"sample":{"a":2.0}}');
    expect(created.text).toContain('"sample":{"a":2.0}');
  });

  test('a second one of the same name is 409', async () => {
    await call('POST', '/event-types', { name: 'only.once' });
    const second = await call('POST', '/event-types', { name: 'only.once' });
    expect(second.status).toBe(409);
    expect(second.body.error.code).toBe('event_type_exists');
  });

  test('of many created at the same time under one name one is made', async () => {
    const answers = await Promise.all(Array.from({ length: 8 }, () => call('POST', '/event-types', { name: 'raced' })));
    expect(answers.map(({ status }) => status).sort()).toEqual([201, 409, 409, 409, 409, 409, 409, 409]);
  });

  test.each([
    '',
    '.',
    'a..b',
    '.a',
    'a.',
    'a b',
    'a*',
    'ü',
    'a\u0000',
    'a\r\nb',
    'x'.repeat(129),
    'presets',
    'openapi.json',
  ])('the name %j is refused', async (name) => {
    const answer = await call('POST', '/event-types', { name });
    expect(answer.status).toBe(422);
    expect(fields(answer)[0]?.path).toBe('name');
  });

  test.each(['a', 'A-1_b.c', 'x'.repeat(128), 'constructor', '__proto__', '1.2.3'])(
    'the name %j is fine',
    async (name) => {
      expect((await call('POST', '/event-types', { name })).status).toBe(201);
      expect((await call('GET', `/event-types/${name}`)).body.name).toBe(name);
      expect((await call('DELETE', `/event-types/${name}`)).status).toBe(204);
    },
  );

  test.each([
    [{ name: 'bad', group: 'a\u0000' }, 'group'],
    [{ name: 'bad', description: 'x'.repeat(2_001) }, 'description'],
    [{ name: 'bad', schema: [] }, 'schema'],
    [{ name: 'bad', schema: { type: 'text' } }, 'schema.type'],
    [{ name: 'bad', schema: { properties: { a: { pattern: '(?=a)' } } } }, 'schema.properties.a.pattern'],
    [{ name: 'bad', schema: { description: 'x'.repeat(70_000) } }, 'schema'],
    [{ name: 'bad', sample: 'x'.repeat(70_000) }, 'sample'],
    [{ name: 'bad', enforce_schema: true }, 'enforce_schema'],
    [{ name: 'bad', enforced: true }, 'enforced'],
    [{}, 'name'],
  ])('a wrong field is named: %#', async (body, path) => {
    const answer = await call('POST', '/event-types', body);
    expect(answer.status).toBe(422);
    expect(fields(answer)[0]?.path).toBe(path);
  });

  test('a body over the limit is 413', async () => {
    expect((await call('POST', '/event-types', { name: 'big', sample: 'x'.repeat(300_000) })).status).toBe(413);
  });

  test('no body at all is refused', async () => {
    expect((await call('POST', '/event-types')).status).toBe(422);
  });
});

describe('change and delete', () => {
  test.each(['PUT', 'PATCH'] as const)('%s leaves what is absent and clears what is null', async (method) => {
    const name = `change.${method.toLowerCase()}`;
    const full = {
      name,
      group: 'Changes',
      description: 'Before',
      schema: { type: 'object' },
      sample: { a: 1 },
      enforce_schema: true,
      deprecated: true,
    };
    await call('POST', '/event-types', full);
    catalog.setTime(Date.parse('2026-03-02T00:00:00Z'));
    const described = await call(method, `/event-types/${name}`, { description: 'After', name });
    catalog.setTime(Date.parse('2026-03-01T10:20:30.456Z'));
    expect(described.body).toEqual({
      ...full,
      description: 'After',
      preset: null,
      created_at: '2026-03-01T10:20:30.456Z',
      updated_at: '2026-03-02T00:00:00.000Z',
    });
    const nothing = {
      group: null,
      description: null,
      schema: null,
      sample: null,
      enforce_schema: null,
      deprecated: null,
    };
    expect((await call(method, `/event-types/${name}`, nothing)).body).toMatchObject({
      group: 'change',
      description: '',
      schema: null,
      sample: null,
      enforce_schema: false,
      deprecated: false,
    });
  });

  test('the schema cannot be cleared while it is enforced', async () => {
    await call('POST', '/event-types', { name: 'enforced', schema: {}, enforce_schema: true });
    const answer = await call('PATCH', '/event-types/enforced', { schema: null });
    expect(answer.status).toBe(422);
    expect((await call('GET', '/event-types/enforced')).body.schema).toEqual({});
  });

  test('the name never changes', async () => {
    await call('POST', '/event-types', { name: 'fixed' });
    expect((await call('PUT', '/event-types/fixed', { name: 'other' })).status).toBe(422);
  });

  test('what is deleted is gone, and a second delete is 404', async () => {
    await call('POST', '/event-types', { name: 'goes' });
    expect((await call('DELETE', '/event-types/goes')).status).toBe(204);
    expect((await call('GET', '/event-types/goes')).status).toBe(404);
    expect((await call('DELETE', '/event-types/goes')).status).toBe(404);
  });

  test('a path that is no name is an ordinary 404', async () => {
    for (const name of ['nothing', '%00', 'a%20b', '%2e%2e%2fa', 'x'.repeat(200)]) {
      for (const method of ['GET', 'DELETE'] as const) {
        const answer = await call(method, `/event-types/${name}`);
        expect([answer.status, answer.body.error.message]).toEqual([404, 'No such event type.']);
      }
      expect((await call('PATCH', `/event-types/${name}`, { description: 'a' })).status).toBe(404);
      expect((await call('GET', `/webhooks/events/${name}`)).status).toBe(404);
    }
  });
});

describe('lists', () => {
  let lister: Caller;
  const names = ['B.a', 'a-b', 'a.b', 'a_b', 'aa', 'b.created'];

  beforeAll(async () => {
    lister = await catalog.makeCaller();
    for (const name of [...names].reverse()) {
      await catalog.call(lister, 'POST', '/event-types', {
        name,
        description: `It is 100% ${name}_x`,
        group: name.slice(0, 1),
      });
    }
  });

  const list = async (query: string) => {
    const { status, body } = await catalog.call(lister, 'GET', `/event-types?${query}`);
    expect(status).toBe(200);
    return body;
  };

  test('run by name, and pages follow each other without gap or overlap', async () => {
    const seen: string[] = [];
    let cursor = '';
    for (let page = 0; page < 3; page += 1) {
      const body = await list(`limit=2${cursor}`);
      seen.push(...body.data.map(({ name }: { name: string }) => name));
      expect(body.has_more).toBe(page < 2);
      cursor = `&cursor=${body.next_cursor}`;
    }
    expect(seen).toEqual(names);
    expect(cursor).toBe('&cursor=null');
  });

  test.each([
    ['group=b', ['b.created']],
    ['q=CREATED', ['b.created']],
    ['q=100%25', names],
    ['q=a_b_x', ['a_b']],
    ['q=%27%3B--', []],
    ['preset=call-center', []],
    ['group=a&q=aa', ['aa']],
  ])('are filtered by %s', async (query, expected) => {
    expect((await list(query)).data.map(({ name }: { name: string }) => name)).toEqual(expected);
  });

  test.each(['cursor=%00', 'cursor=abc', 'cursor=YS4_', 'cursor='])('%s is 400', async (query) => {
    expect((await catalog.call(lister, 'GET', `/event-types?${query}`)).status).toBe(400);
  });

  test.each(['limit=0', 'limit=251', 'q=%00', 'group=%00', 'preset=%27'])('%s is 422', async (query) => {
    expect((await catalog.call(lister, 'GET', `/event-types?${query}`)).status).toBe(422);
  });

  test('subscribers get all events in one answer, with samples', async () => {
    const { body } = await catalog.call(lister, 'GET', '/webhooks/events');
    expect(body.data.map(({ event_type }: { event_type: string }) => event_type)).toEqual(names);
    expect(body.data[0]).toEqual({
      name: 'B.a',
      event_type: 'B.a',
      group: 'B',
      description: 'It is 100% B.a_x',
      deprecated: false,
      sample: null,
    });
    expect(body).toMatchObject({ next_cursor: null, has_more: false });
  });
});

describe('isolation', () => {
  test("another tenant's and another environment's event types are not found", async () => {
    await call('POST', '/event-types', { name: 'mine.only', schema: {}, sample: 1 });
    const strangers = [await catalog.makeCaller(), await catalog.makeCaller(caller.tenantId)];
    for (const stranger of strangers) {
      const absent = await catalog.call(stranger, 'GET', '/event-types/never.was');
      const withoutId = ({ error: { request_id, ...error } }: { error: { request_id: string } }) => error;
      for (const [method, path] of [
        ['GET', '/event-types/mine.only'],
        ['PATCH', '/event-types/mine.only'],
        ['DELETE', '/event-types/mine.only'],
        ['GET', '/webhooks/events/mine.only'],
      ] as const) {
        const answer = await catalog.call(stranger, method, path, method === 'PATCH' ? {} : undefined);
        expect(answer.status).toBe(404);
        expect(withoutId(answer.body)).toEqual(withoutId(absent.body));
      }
      expect((await catalog.call(stranger, 'GET', '/event-types')).body.data).toEqual([]);
      expect((await catalog.call(stranger, 'GET', '/webhooks/events')).body.data).toEqual([]);
      expect(await catalog.directory.lookup(stranger, 'mine.only')).toBe('unknown');
      expect(await catalog.directory.nearest(stranger, 'mine.onlyy')).toEqual([]);
      // The same name is free to them.
      expect((await catalog.call(stranger, 'POST', '/event-types', { name: 'mine.only' })).status).toBe(201);
    }
    expect((await call('GET', '/event-types/mine.only')).body.sample).toBe(1);
  });

  test('viewers read and change nothing, publishers do not even read', async () => {
    const viewer: Caller = { ...caller, role: 'viewer' };
    const publisher: Caller = { ...caller, role: 'publisher' };
    for (const path of ['/event-types', '/event-types/presets', '/webhooks/events']) {
      expect((await catalog.call(viewer, 'GET', path)).status).toBe(200);
      expect((await catalog.call(publisher, 'GET', path)).status).toBe(403);
    }
    for (const [method, path] of [
      ['POST', '/event-types'],
      ['PUT', '/event-types/plain.created'],
      ['PATCH', '/event-types/plain.created'],
      ['DELETE', '/event-types/plain.created'],
      ['POST', '/event-types/presets/standard'],
    ] as const) {
      expect((await catalog.call(viewer, method, path, method === 'DELETE' ? undefined : {})).status).toBe(403);
    }
  });
});

describe('limits', () => {
  test('an environment has at most a thousand event types, and 1 MB of schemas and samples', async () => {
    const full = await catalog.makeCaller();
    const { tenantId: tenant_id, environmentId: environment_id } = full;
    const now = new Date();
    const row = { tenant_id, environment_id, group_name: 'g', description: '', schema: null, preset: null };
    const rows = Array.from({ length: EVENT_TYPES_MAX }, (_, at) => ({
      ...row,
      name: `type.${at}`,
      sample: at < 15 ? JSON.stringify('x'.repeat(65_000)) : null,
      enforce_schema: false,
      deprecated: false,
      created_at: now,
      updated_at: now,
    }));
    await catalog.handle.db.insertInto('event_types').values(rows).execute();
    const tooMany = await catalog.call(full, 'POST', '/event-types', { name: 'one.more' });
    expect([tooMany.status, tooMany.body.error.code]).toEqual([409, 'catalog_full']);
    const preset = await catalog.call(full, 'POST', '/event-types/presets/call-center');
    expect(preset.status).toBe(409);
    const sample = 'x'.repeat(65_000);
    expect((await catalog.call(full, 'PATCH', '/event-types/type.20', { sample })).status).toBe(200);
    const tooLarge = await catalog.call(full, 'PATCH', '/event-types/type.21', { sample });
    expect([tooLarge.status, tooLarge.body.error.code]).toEqual([409, 'catalog_full']);
    // Nothing of what was refused is kept, and deleting makes room.
    expect((await catalog.call(full, 'GET', '/event-types/one.more')).status).toBe(404);
    expect((await catalog.call(full, 'DELETE', '/event-types/type.20')).status).toBe(204);
    expect((await catalog.call(full, 'POST', '/event-types', { name: 'one.more' })).status).toBe(201);
  });

  test('in an environment that is gone nothing is created', async () => {
    const gone = await catalog.makeCaller();
    await catalog.handle.db
      .deleteFrom('environments')
      .where('tenant_id', '=', gone.tenantId)
      .where('id', '=', gone.environmentId)
      .execute();
    expect((await catalog.call(gone, 'POST', '/event-types', { name: 'late' })).status).toBe(404);
  });
});
