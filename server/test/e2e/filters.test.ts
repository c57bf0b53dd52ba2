import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type ProgramFixture, startProgram } from '../../src/delivery/recovery/program-fixture.ts';
import { eventually } from '../../src/testing/eventually.ts';

let program: ProgramFixture;
beforeAll(async () => {
  program = await startProgram();
});
afterAll(() => program.stop());

const wants = (field_path: string, operator: string, value?: unknown) => ({ field_path, operator, value });
const hot = { filters: [wants('data.lead.score', 'greater_than', 80)] };

/** An environment of its own for each test, so that each counts its own. */
let headers: Record<string, string>;
let tenants = 0;
beforeEach(async () => {
  program.receiver.requests.length = 0;
  program.receiver.onRequest = (request) => request.respond(200);
  tenants += 1;
  headers = await program.addTenant(`filters-${tenants}`);
});

// biome-ignore lint/suspicious/noExplicitAny: answers that tests look into
type Shown = any;
const create = (fields: object): Promise<Shown> => program.createWebhook({ events: ['lead.*'], ...fields }, headers);
const publish = async (data: unknown, fields: object = {}): Promise<Shown> => {
  const answer = await program.post('/events', { event_type: 'lead.created', data, ...fields }, headers);
  expect([answer.status, answer.text]).toEqual([202, answer.text]);
  return answer.body;
};
const get = (path: string): Promise<Shown> => program.get(path, headers);
const filteredBy = async ({ id }: { id: string }) => (await get(`/webhooks/${id}`)).filtered_deliveries;
const deliveriesOf = async ({ id }: { id: string }) => (await get(`/deliveries?webhook_id=${id}`)).data;

describe('a publish', () => {
  test('makes no delivery for a webhook whose filter does not match, and counts it there', async () => {
    const filtered = await create(hot);
    const plain = await create({});
    expect(await publish({ lead: { score: 10 } })).toMatchObject({
      status: 'accepted',
      deliveries: 1,
      filtered: 1,
      duplicate: false,
    });
    const accepted = await publish({ lead: { score: 90 } });
    expect(accepted).toMatchObject({ status: 'accepted', deliveries: 2 });
    expect(accepted).not.toHaveProperty('filtered');
    await program.receiver.received(3);
    expect(await deliveriesOf(filtered)).toHaveLength(1);
    expect(await deliveriesOf(plain)).toHaveLength(2);
    expect([await filteredBy(filtered), await filteredBy(plain)]).toEqual([1, 0]);
    expect(await get(`/webhooks/${filtered.id}/stats`)).toMatchObject({ filtered_deliveries: 1 });
    const [listed] = (await get('/webhooks')).data.filter(({ id }: { id: string }) => id === filtered.id);
    expect(listed.filtered_deliveries).toBe(1);
  });

  test('that filters keep from everybody is kept, and says that it goes nowhere', async () => {
    const webhook = await create(hot);
    const { id, ...rest } = await publish({ lead: { score: 1 } }, { event_id: 'lead-1' });
    expect(rest).toMatchObject({ status: 'no_subscribers', deliveries: 0, filtered: 1 });
    expect(await get(`/events/${id}`)).toMatchObject({
      delivery_count: 0,
      deliveries: [],
      data: { lead: { score: 1 } },
    });
    expect(await filteredBy(webhook)).toBe(1);
    expect(await get(`/webhooks/${webhook.id}`)).toMatchObject({ last_triggered_at: null, total_deliveries: 0 });
  });

  test('a second time counts nothing a second time', async () => {
    const webhook = await create(hot);
    await publish({ lead: { score: 1 } }, { event_id: 'same' });
    const again = await publish({ lead: { score: 1 } }, { event_id: 'same' });
    expect(again).toMatchObject({ duplicate: true, deliveries: 0 });
    expect(await filteredBy(webhook)).toBe(1);
  });

  test('in a batch is judged event by event', async () => {
    const webhook = await create(hot);
    const events = [1, 90, 2, 91, 3].map((score) => ({ event_type: 'lead.created', data: { lead: { score } } }));
    const { body } = await program.post('/events/batch', { events }, headers);
    expect(body.data.map((each: Shown) => [each.deliveries, each.filtered])).toEqual([
      [0, 1],
      [1, undefined],
      [0, 1],
      [1, undefined],
      [0, 1],
    ]);
    expect(await filteredBy(webhook)).toBe(3);
  });

  test('looks at the digits as they were published', async () => {
    const webhook = await create({ filters: [wants('id', 'equals', '9007199254740993')] });
    for (const id of ['9007199254740992', '9007199254740993', '9007199254740994']) {
      await program.post('/events', `{"event_type":"lead.created","data":{"id":${id}}}`, {
        ...headers,
        'content-type': 'application/json',
      });
    }
    const [only] = await deliveriesOf(webhook);
    expect((await get(`/deliveries/${only.id}`)).attempts).toBeDefined();
    expect(await deliveriesOf(webhook)).toHaveLength(1);
    expect(await filteredBy(webhook)).toBe(2);
  });

  test('by any of several filters, or by all of them', async () => {
    const filters = [wants('a', 'equals', 1), wants('b', 'equals', 1)];
    const [any, all] = [await create({ filters, filter_mode: 'any' }), await create({ filters })];
    await publish({ a: 1, b: 1 });
    await publish({ a: 1, b: 2 });
    await publish({ a: 2, b: 2 });
    expect([await filteredBy(any), await filteredBy(all)]).toEqual([1, 2]);
  });

  test('asks the type, the publisher’s id and the metadata as well', async () => {
    const filters = [
      wants('event_type', 'ends_with', '.lost'),
      wants('event_id', 'exists'),
      wants('metadata.a', 'equals', 1),
    ];
    const webhook = await create({ filters });
    await publish({}, { event_type: 'lead.lost', event_id: 'lost-1', metadata: { a: 1.0 } });
    await publish({}, { event_type: 'lead.lost', event_id: 'lost-2' });
    await publish({}, { event_type: 'lead.lost', metadata: { a: 1 } });
    await publish({}, { event_type: 'lead.won', event_id: 'won-1', metadata: { a: 1 } });
    expect(await deliveriesOf(webhook)).toHaveLength(1);
    expect(await filteredBy(webhook)).toBe(3);
  });

  test('to a paused webhook holds only what it wants', async () => {
    const webhook = await create(hot);
    await program.post(`/webhooks/${webhook.id}/pause`, undefined, headers);
    await publish({ lead: { score: 1 } });
    await publish({ lead: { score: 99 } });
    expect((await deliveriesOf(webhook)).map(({ status }: Shown) => status)).toEqual(['held']);
    expect(await filteredBy(webhook)).toBe(1);
  });

  test('follows a change of the filters at once', async () => {
    const webhook = await create(hot);
    await publish({ lead: { score: 1 } });
    await program.posthorn.call('PATCH', `/api/v1/webhooks/${webhook.id}`, { filters: [] }, headers);
    expect(await publish({ lead: { score: 1 } })).toMatchObject({ deliveries: 1 });
    expect(await filteredBy(webhook)).toBe(1);
  });

  test('on many webhooks with a costly pattern is answered all the same', async () => {
    const filters = [wants('text', 'matches', '[ab]*a[ab]{40}$')];
    for (let n = 0; n < 8; n += 1) await create({ filters });
    const text = 'ab'.repeat(250_000);
    const answer = await publish({ text });
    expect(answer.deliveries + (answer.filtered ?? 0)).toBe(8);
  });
});

describe('the count', () => {
  test('is there after a restart, and of many events once each', async () => {
    const webhook = await create(hot);
    await Promise.all(Array.from({ length: 60 }, (_, n) => publish({ lead: { score: n } })));
    expect(await filteredBy(webhook)).toBe(60);
    await program.posthorn.restart();
    expect(await filteredBy(webhook)).toBe(60);
    await publish({ lead: { score: 0 } });
    expect(await filteredBy(webhook)).toBe(61);
    const { text } = await program.posthorn.call('GET', '/metrics');
    expect(text).toMatch(/^posthorn_deliveries_filtered_total 1$/m);
  });

  test('goes with the webhook', async () => {
    const webhook = await create(hot);
    await publish({ lead: { score: 0 } });
    await program.posthorn.call('DELETE', `/api/v1/webhooks/${webhook.id}`, undefined, headers);
    const next = await create(hot);
    expect(await filteredBy(next)).toBe(0);
  });
});

describe('what a person asks for', () => {
  test('a test is sent whatever the filters are, and says what they say', async () => {
    const webhook = await create(hot);
    const send = async (score: number) =>
      (await program.post(`/webhooks/${webhook.id}/test`, { payload: { lead: { score } } }, headers)).body;
    expect(await send(10)).toMatchObject({ is_success: true, trigger: 'test', filters_match: false });
    expect(await send(90)).toMatchObject({ is_success: true, filters_match: true });
    const plain = await create({});
    expect((await program.post(`/webhooks/${plain.id}/test`, {}, headers)).body).toMatchObject({ filters_match: true });
    expect(await filteredBy(webhook)).toBe(0);
  });

  test('a replay to all who are subscribed asks the filters of now, one to a webhook that is named does not', async () => {
    const { id } = await publish({ lead: { score: 10 } });
    const [filtered, plain] = [await create(hot), await create({})];
    const all = await program.post(`/events/${id}/replay`, {}, headers);
    expect(all.body).toMatchObject({ deliveries: 1, filtered: 1 });
    expect([(await deliveriesOf(filtered)).length, (await deliveriesOf(plain)).length]).toEqual([0, 1]);
    expect(await filteredBy(filtered)).toBe(1);
    const named = await program.post(`/events/${id}/replay`, { webhook_ids: [filtered.id] }, headers);
    expect(named.body).toMatchObject({ deliveries: 1 });
    expect(named.body).not.toHaveProperty('filtered');
    expect(await deliveriesOf(filtered)).toHaveLength(1);
    expect(await filteredBy(filtered)).toBe(1);
  });

  test('a recovery brings back what was meant for the webhook, whatever its filters are now', async () => {
    program.receiver.onRequest = (request) => request.respond(500);
    const webhook = await create({});
    await publish({ lead: { score: 10 } });
    await eventually(
      () => deliveriesOf(webhook),
      ([delivery]) => delivery?.status === 'dead',
    );
    program.receiver.onRequest = (request) => request.respond(200);
    await program.posthorn.call('PATCH', `/api/v1/webhooks/${webhook.id}`, hot, headers);
    await program.post(`/webhooks/${webhook.id}/recover`, { since: '2020-01-01T00:00:00Z' }, headers);
    await eventually(
      () => deliveriesOf(webhook),
      ([delivery]) => delivery?.status === 'delivered',
    );
  });
});

describe('operational events', () => {
  test('reach a webhook whose filters are made for other events', async () => {
    const gone = await create({ events: ['lead.created'], url: `${program.receiver.url}/gone` });
    const watcher = await create({ events: ['webhook.disabled'], ...hot });
    program.receiver.onRequest = (request) => request.respond(request.path === '/gone' ? 410 : 200);
    await publish({ lead: { score: 1 } });
    await eventually(
      () => get(`/webhooks/${gone.id}`),
      ({ status }) => status === 'disabled',
    );
    await eventually(
      () => deliveriesOf(watcher),
      ([delivery]) => delivery?.status === 'delivered',
    );
    expect(await filteredBy(watcher)).toBe(0);
  });
});

describe('POST /api/v1/filters/test', () => {
  const ask = (body: unknown, as: Record<string, string> = headers) => program.post('/filters/test', body, as);

  test('says of data what each filter finds and makes of it', async () => {
    const filters = [
      wants('data.lead.score', 'greater_than', 80),
      wants('data.items.*.sku', 'equals', 'B-2'),
      wants('data.absent', 'not_exists'),
      wants('data.big', 'equals', '1'),
      wants('event_type', 'equals', 'lead.created'),
    ];
    const data = '{"lead":{"score":85},"items":[{"sku":"A-1"},{"sku":"B-2"}],"big":9007199254740993}';
    const body = `{"filters":${JSON.stringify(filters)},"data":${data},"event_type":"lead.created"}`;
    const { status, text } = await ask(body, { ...headers, 'content-type': 'application/json' });
    expect(status).toBe(200);
    expect(text).toContain('"actual":9007199254740993');
    expect(JSON.parse(text)).toEqual({
      matches: false,
      results: [
        { field_path: 'data.lead.score', operator: 'greater_than', matches: true, actual: 85 },
        { field_path: 'data.items.*.sku', operator: 'equals', matches: true, actual: ['A-1', 'B-2'] },
        { field_path: 'data.absent', operator: 'not_exists', matches: true },
        { field_path: 'data.big', operator: 'equals', matches: false, actual: expect.any(Number) },
        { field_path: 'event_type', operator: 'equals', matches: true, actual: 'lead.created' },
      ],
    });
    const any = await ask({ filters, filter_mode: 'any', data: JSON.parse(data) });
    expect(any.body.matches).toBe(true);
    expect((await ask({ filters: [], data: null })).body).toEqual({ matches: true, results: [] });
  });

  test('takes one filter by itself, as the paths of webhooks do', async () => {
    const [one] = hot.filters;
    expect((await ask({ filters: one, data: { lead: { score: 81 } } })).body).toEqual({
      matches: true,
      results: [{ field_path: 'data.lead.score', operator: 'greater_than', matches: true, actual: 81 }],
    });
    const { body } = await ask({ filters: { ...one, value: [] }, data: {} });
    expect(body.error.details.fields).toEqual([{ path: 'filters.value', message: expect.any(String) }]);
    for (const path of ['/endpoints', '/api/communications/webhooks/', '/api/v1/webhooks/']) {
      const input = { name: 'One', url: program.receiver.url, events: ['lead.*'], filters: one };
      const made = await program.posthorn.call('POST', path, input, headers);
      expect([made.status, made.body.filters]).toEqual([201, [{ ...one, case_sensitive: true }]]);
    }
    expect(await publish({ lead: { score: 1 } })).toMatchObject({ deliveries: 0, filtered: 3 });
  });

  test('looks at an event that was published, by either id', async () => {
    const { id } = await publish({ lead: { score: 90 } }, { event_id: 'mine', metadata: { a: 1 } });
    for (const event_id of [id, 'mine']) {
      const { body } = await ask({ filters: [...hot.filters, wants('metadata.a', 'equals', 1)], event_id });
      expect(body).toMatchObject({ matches: true, results: [{ actual: 90 }, { actual: 1 }] });
    }
  });

  test('another tenant’s event is not there, nor one that never was', async () => {
    const { id } = await publish({ lead: { score: 90 } }, { event_id: 'theirs' });
    const stranger = await program.addTenant(`stranger-${tenants}`);
    const unknown = id.replace(/.$/, id.endsWith('0') ? '1' : '0');
    const answers = await Promise.all([id, 'theirs', unknown].map((event_id) => ask({ ...hot, event_id }, stranger)));
    expect(answers.map(({ status, body }) => [status, body.error.code, body.error.message])).toEqual(
      Array(3).fill([404, 'not_found', 'No such event.']),
    );
  });

  test('an erased payload is said to be erased', async () => {
    const { id } = await publish({ lead: { score: 90 } });
    await program.posthorn.call('DELETE', `/api/v1/events/${id}/payload`, undefined, headers);
    expect(await ask({ ...hot, event_id: id })).toMatchObject({
      status: 409,
      body: { error: { code: 'payload_erased' } },
    });
  });

  test('shows what is there masked to those who see events masked', async () => {
    const { id } = await publish({ password: 'hunter2', list: ['a'], long: 'x'.repeat(5_000) });
    const filters = [
      wants('password', 'equals', 'hunter2'),
      wants('$', 'exists'),
      wants('long', 'starts_with', 'x'),
      wants('list', 'contains', 'a'),
    ];
    const developer = await program.keyOf('developer', headers);
    const { text, body } = await ask({ filters, event_id: id }, developer);
    expect(body.matches).toBe(true);
    expect(text).not.toContain('hunter2');
    expect(body.results[0].actual).toBe('***');
    expect(body.results[2]).not.toHaveProperty('actual');
    expect(body.results[3].actual).toEqual(['a']);
    const owner = await program.keyOf('owner', headers);
    expect((await ask({ filters, event_id: id }, owner)).body.results[0].actual).toBe('hunter2');
  });

  test('a viewer and a publisher may not ask', async () => {
    for (const role of ['viewer', 'publisher']) {
      expect((await ask({ ...hot, data: {} }, await program.keyOf(role, headers))).status).toBe(403);
    }
  });

  test.each<[string, object, number, string?]>([
    ['neither data nor an event', hot, 422, 'data'],
    ['both', { ...hot, data: 1, event_id: 'x' }, 422, 'data'],
    ['a type with an event', { ...hot, event_type: 'a.b', event_id: 'x' }, 422, 'event_type'],
    ['a filter that cannot be', { filters: [wants('a..b', 'exists')], data: 1 }, 422, 'filters.0.field_path'],
    ['an operator that is none', { filters: [wants('a', 'is')], data: 1 }, 422, 'filters.0.operator'],
    ['no filters', { data: 1 }, 422, 'filters'],
    ['too much data', { ...hot, data: 'x'.repeat(1_048_576) }, 413],
    ['an id of no event', { ...hot, event_id: 'a\0b' }, 404],
  ])('refuses %s', async (_name, body, status, path) => {
    const answer = await ask(body);
    expect(answer.status).toBe(status);
    if (path !== undefined) expect(answer.body.error.details.fields[0].path).toBe(path);
  });

  test('leaves nothing behind', async () => {
    const webhook = await create(hot);
    await ask({ ...hot, data: { lead: { score: 1 } } });
    expect(await filteredBy(webhook)).toBe(0);
    expect((await get('/events')).data).toEqual([]);
  });
});
