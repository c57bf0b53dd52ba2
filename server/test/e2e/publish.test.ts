import { once } from 'node:events';
import http from 'node:http';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { eventually } from '../../src/testing/eventually.ts';
import { OPERATOR_KEY, startTestPosthorn, type TestPosthorn } from '../../src/testing/posthorn.ts';
import { type Receiver, startReceiver } from '../../src/testing/receiver.ts';

let posthorn: TestPosthorn;
let receiver: Receiver;
beforeAll(async () => {
  posthorn = await startTestPosthorn();
  receiver = await startReceiver();
  const webhook = { name: 'All orders', url: receiver.url, events: ['order.*'] };
  expect((await posthorn.call('POST', '/api/v1/webhooks', webhook)).status).toBe(201);
});
afterAll(async () => {
  await posthorn.stop();
  await receiver.stop();
});

const publish = (fields: object | string, headers?: Record<string, string>) =>
  posthorn.call(
    'POST',
    '/api/v1/events',
    typeof fields === 'string' ? fields : { event_type: 'order.paid', data: {}, ...fields },
    headers,
  );
const fieldOf = (answer: { body: { error: { details: { fields: { path: string }[] } } } }) =>
  answer.body.error.details.fields[0]?.path;
const countEvents = async () => (await posthorn.call('GET', '/api/v1/events?limit=250')).body.data.length;

test('an event without subscribers is kept, and the answer says so', async () => {
  const answer = await publish({ event_type: 'nobody.cares', data: { kept: true } });
  expect(answer.status).toBe(202);
  expect(answer.body).toMatchObject({ status: 'no_subscribers', deliveries: 0 });
  const kept = await posthorn.call('GET', `/api/v1/events/${answer.body.id}`);
  expect(kept.body).toMatchObject({ event_type: 'nobody.cares', data: { kept: true }, deliveries: [] });
});

test.each([
  ['event_type', 'data'],
  ['event', 'payload'],
  ['type', 'data'],
])('the spellings %s and %s are understood', async (type, data) => {
  const answer = await publish(JSON.stringify({ [type]: 'order.spelled', [data]: { n: 1 } }));
  expect(answer.body).toMatchObject({ event_type: 'order.spelled', status: 'accepted' });
});

describe('publishing the same event again', () => {
  test('with its event_id answers as a duplicate and delivers nothing again', async () => {
    const first = await publish({ event_id: 'order-1', data: { n: 1 } });
    const second = await publish({ event_id: 'order-1', data: { n: 1 } });
    expect(first.body).toMatchObject({ event_id: 'order-1', duplicate: false, deliveries: 1 });
    expect(second.status).toBe(202);
    expect(second.body).toEqual({ ...first.body, duplicate: true });
    const found = await posthorn.call('GET', '/api/v1/events/order-1');
    expect(found.body).toMatchObject({ id: first.body.id, event_id: 'order-1' });
    expect(found.body.deliveries).toHaveLength(1);
  });

  test('with another content is refused, and the first one stays as it is', async () => {
    await publish({ event_id: 'order-2', data: { n: 1 } });
    const second = await publish({ event_id: 'order-2', data: { n: 2 } });
    expect(second.status).toBe(409);
    expect(second.body.error.code).toBe('event_id_reused');
    expect((await posthorn.call('GET', '/api/v1/events/order-2')).body.data).toEqual({ n: 1 });
  });

  test('with its Idempotency-Key is the same, and another body is refused', async () => {
    const headers = { 'idempotency-key': 'key-1' };
    const first = await publish({ data: { n: 1 } }, headers);
    expect((await publish({ data: { n: 1 } }, headers)).body).toEqual({ ...first.body, duplicate: true });
    const other = await publish({ data: { n: 2 } }, headers);
    expect(other.status).toBe(409);
    expect(other.body.error.code).toBe('idempotency_key_reused');
  });

  test.each([
    ['event_id', { event_id: 'rush' }, {}],
    ['Idempotency-Key', {}, { 'idempotency-key': 'rush' }],
  ])('twenty times at once with one %s stores one event', async (_name, fields, headers) => {
    const answers = await Promise.all(
      Array.from({ length: 20 }, () => publish({ ...fields, event_type: 'order.rush' }, headers)),
    );
    expect(answers.map(({ status }) => status)).toEqual(Array(20).fill(202));
    expect(new Set(answers.map(({ body }) => body.id)).size).toBe(1);
    expect(answers.filter(({ body }) => !body.duplicate)).toHaveLength(1);
    const deliveries = await posthorn.call('GET', `/api/v1/deliveries?event_id=${answers[0]?.body.id}`);
    expect(deliveries.body.data).toHaveLength(1);
  });

  test('of twenty at once with different contents one wins and the others are refused', async () => {
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, n) => publish({ event_id: 'contested', data: { n } })),
    );
    expect(answers.filter(({ status }) => status === 202)).toHaveLength(1);
    expect(answers.filter(({ status }) => status === 409)).toHaveLength(19);
  });

  test('in another environment or by another tenant is another event', async () => {
    const first = await publish({ event_id: 'shared' });
    const staging = await publish({ event_id: 'shared', data: { other: true } }, { 'x-environment': 'staging' });
    expect(staging.body).toMatchObject({ event_id: 'shared', duplicate: false });
    expect(staging.body.id).not.toBe(first.body.id);
  });
});

describe('a batch', () => {
  const batch = (events: unknown[], headers?: Record<string, string>) =>
    posthorn.call('POST', '/api/v1/events/batch', { events }, headers);

  test('answers for each event, in order, and delivers all', async () => {
    const before = receiver.requests.length;
    const events = Array.from({ length: 1_000 }, (_, n) => ({ event_type: 'order.batched', data: { n } }));
    const answer = await batch(events);
    expect(answer.status).toBe(202);
    expect(answer.body.data).toHaveLength(1_000);
    const requests = (await receiver.received(before + 1_000)).slice(before);
    expect(requests.map(({ body }) => JSON.parse(body.toString()).data.n).sort((a, b) => a - b)).toEqual(
      events.map(({ data }) => data.n),
    );
  });

  test('is refused whole when one event is wrong, and says which', async () => {
    const before = await countEvents();
    const answer = await batch([{ event_type: 'order.ok', data: 1 }, { event_type: 'order.bad' }]);
    expect(answer.status).toBe(422);
    expect(fieldOf(answer)).toBe('events.1.data');
    expect(await countEvents()).toBe(before);
  });

  test('is refused whole when an event_id of it was used for something else', async () => {
    await publish({ event_id: 'taken', data: { n: 1 } });
    const answer = await batch([
      { event_type: 'order.paid', data: {}, event_id: 'free' },
      { event_type: 'order.paid', data: { n: 2 }, event_id: 'taken' },
    ]);
    expect(answer.status).toBe(409);
    expect((await posthorn.call('GET', '/api/v1/events/free')).status).toBe(404);
    expect((await publish({ event_id: 'free', data: { n: 3 } })).body.duplicate).toBe(false);
  });

  test('that names one event_id twice stores it once', async () => {
    const event = { event_type: 'order.paid', data: { twin: true }, event_id: 'twin' };
    const answer = await batch([event, event]);
    expect(answer.body.data.map(({ duplicate }: { duplicate: boolean }) => duplicate)).toEqual([false, true]);
    expect(answer.body.data[0].id).toBe(answer.body.data[1].id);
  });

  test.each([
    [[], 'events'],
    [Array(1_001).fill({ event_type: 'order.paid', data: 1 }), 'events'],
    // Counted before any of them is judged: a body has room for millions.
    [Array(1_001).fill(0), 'events'],
  ])('of none or more than 1,000 is refused', async (events, path) => {
    const answer = await batch(events);
    expect(answer.status).toBe(422);
    expect(answer.body.error.details.fields.map((field: { path: string }) => field.path)).toEqual([path]);
  });
});

describe('limits and bad input', () => {
  const nested = (depth: number) => '['.repeat(depth) + ']'.repeat(depth);

  test('data of 1 MB passes and one byte more is a 413', async () => {
    const text = (bytes: number) => `"${'x'.repeat(bytes - 2)}"`;
    expect((await publish(`{"event_type":"quiet.big","data":${text(1_048_576)}}`)).status).toBe(202);
    const answer = await publish(`{"event_type":"quiet.big","data":${text(1_048_577)}}`);
    expect([answer.status, answer.body.error.code]).toEqual([413, 'payload_too_large']);
    expect((await publish(`{"event_type":"quiet.big","data":${text(3_000_000)}}`)).status).toBe(413);
  });

  test('data of 64 levels passes and one more is a 422', async () => {
    expect((await publish(`{"event_type":"quiet.deep","data":${nested(64)}}`)).status).toBe(202);
    const answer = await publish(`{"event_type":"quiet.deep","data":${nested(65)}}`);
    expect([answer.status, answer.body.error.code]).toEqual([422, 'too_deep']);
  });

  test.each([
    ['no type', '{"data":1}', 422, 'event_type'],
    [
      'a type with a line break, which would end a header',
      '{"event_type":"a\\r\\nX-Evil: 1","data":1}',
      422,
      'event_type',
    ],
    ['a type with a NUL', '{"event_type":"a\\u0000b","data":1}', 422, 'event_type'],
    ['an ordering key with a NUL', '{"event_type":"a.b","data":1,"ordering_key":"\\u0000"}', 422, 'ordering_key'],
    ['no data', '{"event_type":"order.paid"}', 422, 'data'],
    ['two spellings of the type', '{"event_type":"a.b","event":"a.b","data":1}', 422, 'event'],
    ['two spellings of the data', '{"event_type":"a.b","data":1,"payload":1}', 422, 'payload'],
    ['an unknown field', '{"event_type":"a.b","data":1,"surprise":1}', 422, 'surprise'],
    [
      'a time that does not exist',
      '{"event_type":"a.b","data":1,"timestamp":"2026-02-30T00:00:00Z"}',
      422,
      'timestamp',
    ],
    ['an event_id with a line break', '{"event_type":"a.b","data":1,"event_id":"a\\r\\nb"}', 422, 'event_id'],
    ['metadata that is no object', '{"event_type":"a.b","data":1,"metadata":[]}', 422, 'metadata'],
    ['a priority out of bounds', '{"event_type":"a.b","data":1,"priority":101}', 422, 'priority'],
    [
      'delivery in a year',
      `{"event_type":"a.b","data":1,"deliver_at":"${new Date(Date.now() + 31_536_000_000).toISOString()}"}`,
      422,
      'deliver_at',
    ],
  ])('%s is refused by name', async (_name, body, status, path) => {
    const answer = await publish(body);
    expect(answer.status).toBe(status);
    expect(fieldOf(answer)).toBe(path);
  });

  test.each([
    ['nothing', ''],
    ['half an object', '{"event_type":"a.b","data":'],
    ['bytes that are not UTF-8', Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d])],
  ])('%s is a clear 4xx', async (_name, body) => {
    const answer = await posthorn.call('POST', '/api/v1/events', body);
    expect(answer.status).toBeGreaterThanOrEqual(400);
    expect(answer.status).toBeLessThan(500);
    expect(answer.body.error.message).not.toContain('undefined');
  });

  test('the metadata and both ids of an event are there to see', async () => {
    const answer = await publish({ event_id: 'seen', metadata: { source: 'tests' }, ordering_key: 'k', priority: 5 });
    const { body } = await posthorn.call('GET', `/api/v1/events/${answer.body.id}`);
    expect(body).toMatchObject({ event_id: 'seen', metadata: { source: 'tests' }, ordering_key: 'k', priority: 5 });
  });
});

describe('event types', () => {
  const asStrict = async () => {
    const slug = `strict-${crypto.randomUUID().slice(0, 8)}`;
    expect((await posthorn.call('POST', '/api/v1/tenants', { name: 'Strict', slug })).status).toBe(201);
    return { 'x-tenant-id': slug };
  };

  test('an unknown one is refused with near names, unless the tenant allows it', async () => {
    const headers = await asStrict();
    expect((await posthorn.call('POST', '/api/v1/event-types/presets/call-center', undefined, headers)).status).toBe(
      200,
    );
    const answer = await publish({ event_type: 'lead.craeted' }, headers);
    expect(answer.status).toBe(422);
    expect(answer.body.error.message).toContain('lead.created');
    const allow = await posthorn.call('PATCH', `/api/v1/tenants/${headers['x-tenant-id']}`, {
      settings: { allow_unknown_event_types: true },
    });
    expect(allow.status).toBe(200);
    expect((await publish({ event_type: 'lead.craeted' }, headers)).status).toBe(202);
  });

  test('an enforced schema is enforced, and the fields are named', async () => {
    const headers = await asStrict();
    const schema = { type: 'object', required: ['total'], properties: { total: { type: 'number' } } };
    const type = { name: 'cart.paid', group: 'cart', description: 'A cart was paid.', schema, enforce_schema: true };
    expect((await posthorn.call('POST', '/api/v1/event-types', type, headers)).status).toBe(201);
    const answer = await publish({ event_type: 'cart.paid', data: { total: 'much' } }, headers);
    expect(answer.status).toBe(422);
    expect(fieldOf(answer)).toBe('data.total');
    expect((await publish({ event_type: 'cart.paid', data: { total: 1 } }, headers)).status).toBe(202);
  });
});

async function statusOnOwnConnection(headers: Record<string, string>): Promise<number | undefined> {
  const body = JSON.stringify({ event_type: 'a.b', data: {} });
  const agent = new http.Agent({ keepAlive: true });
  const request = http.request(`${posthorn.url}/api/v1/events`, {
    method: 'POST',
    agent,
    headers: {
      authorization: `Bearer ${OPERATOR_KEY}`,
      'content-type': 'application/json',
      'content-length': body.length,
      ...headers,
    },
  });
  request.end(body);
  const [response] = (await once(request, 'response')) as [http.IncomingMessage];
  response.resume();
  await once(response, 'end');
  agent.destroy();
  return response.statusCode;
}

describe('who is asking', () => {
  const failures: unknown[] = [];
  const note = (failure: unknown) => failures.push(failure);
  beforeAll(() => void process.on('unhandledRejection', note));
  afterAll(() => void process.off('unhandledRejection', note));

  test.each([
    ['a key that nobody has', { authorization: `Bearer ph_prod_${'x'.repeat(43)}` }, 401],
    ['the operator, for a tenant that is not there', { 'x-tenant-id': 'nobody-at-all' }, 404],
    ['the operator, for an environment that is not there', { 'x-environment': 'nowhere' }, 404],
  ])('%s is refused, and the program does not end by it', async (_who, headers, status) => {
    // A connection that carries nothing else is read by the short way, as long as that can answer.
    for (let n = 1; n <= 2; n++) expect(await statusOnOwnConnection(headers)).toBe(status);
    // One turn of the event loop later, what nobody has caught would end the program.
    await new Promise((resolve) => setImmediate(resolve));
    expect(failures).toEqual([]);
  });
});

describe('another tenant', () => {
  test('sees none of it, by list, id, cursor or filter, and learns nothing from the answer', async () => {
    const event = await publish({ event_id: 'private', data: { secret: true } });
    const delivery = await eventually(
      async () => (await posthorn.call('GET', `/api/v1/deliveries?event_id=${event.body.id}`)).body.data[0],
      (row) => row?.status === 'delivered',
    );
    await posthorn.call('POST', '/api/v1/tenants', { name: 'Other', slug: 'other' });
    const other = { 'x-tenant-id': 'other' };
    for (const headers of [other, { 'x-environment': 'staging' }]) {
      const get = (path: string) => posthorn.call('GET', path, undefined, headers);
      for (const list of ['events', 'deliveries', 'dead-letters', `deliveries?event_id=${event.body.id}`]) {
        const data = (await get(`/api/v1/${list}`)).body.data;
        expect(
          data.filter((row: { event_id: string }) => row.event_id === 'private' || row.event_id === event.body.id),
        ).toEqual([]);
      }
      const unknown = await get('/api/v1/events/evt_01h455vb4pex5vsknk084sn02q');
      const foreign = await get(`/api/v1/events/${event.body.id}`);
      expect([foreign.status, foreign.body.error.message]).toEqual([unknown.status, unknown.body.error.message]);
      expect((await get(`/api/v1/deliveries/${delivery.id}`)).status).toBe(404);
      expect((await get(`/api/v1/webhooks/${delivery.webhook_id}/logs`)).status).toBe(404);
      expect((await get(`/api/v1/webhooks/${delivery.webhook_id}/stats`)).status).toBe(404);
      expect((await get(`/api/v1/webhooks/${delivery.webhook_id}/deliveries`)).status).toBe(404);
      expect((await posthorn.call('POST', `/api/v1/deliveries/${delivery.id}/retry`, undefined, headers)).status).toBe(
        404,
      );
      expect((await posthorn.call('POST', `/api/v1/webhooks/${delivery.webhook_id}/test`, {}, headers)).status).toBe(
        404,
      );
    }
  });
});

describe('lists', () => {
  test('run from the newest to the oldest, and their pages neither repeat nor miss a row', async () => {
    const headers = { 'x-environment': 'development' };
    for (let n = 0; n < 7; n++) await publish({ event_type: 'page.made', data: { n } }, headers);
    const ids: string[] = [];
    let cursor = '';
    do {
      const page = (await posthorn.call('GET', `/api/v1/events?limit=3${cursor}`, undefined, headers)).body;
      ids.push(...page.data.map((row: { id: string }) => row.id));
      expect(page.has_more).toBe(page.next_cursor !== null);
      cursor = page.next_cursor === null ? '' : `&cursor=${page.next_cursor}`;
    } while (cursor !== '');
    expect(ids).toHaveLength(7);
    expect([...ids].sort().reverse()).toEqual(ids);
  });

  test.each(['nonsense', '', '%00', "' OR 1=1"])('a cursor %j that was never given is a 400', async (cursor) => {
    expect((await posthorn.call('GET', `/api/v1/events?cursor=${encodeURIComponent(cursor)}`)).body.error.code).toBe(
      'invalid_cursor',
    );
  });

  test.each([
    'events?q=%00',
    'events?event_type=%00',
    'events?since=2016-12-31T23:59:60Z',
    'deliveries?q=%00',
    'deliveries?event_id=%00',
    'deliveries?event_type=%00',
    'deliveries?until=2016-12-31T23:59:60Z',
    'dead-letters?event_type=%00',
  ])('a filter that can match nothing, as in %s, is a 422', async (path) => {
    expect((await posthorn.call('GET', `/api/v1/${path}`)).status).toBe(422);
  });

  test('an id with a NUL is an id that is not there', async () => {
    for (const path of ['events/%00', 'deliveries/%00', 'webhooks/%00/logs', 'events/evt_%00']) {
      expect((await posthorn.call('GET', `/api/v1/${path}`)).status).toBe(404);
    }
  });

  test('a text of the search is a text, whatever it means elsewhere', async () => {
    expect((await posthorn.call('GET', '/api/v1/events?q=%25')).body.data).toEqual([]);
    expect((await posthorn.call('GET', "/api/v1/events?q='%20OR%201=1")).body.data).toEqual([]);
    expect((await posthorn.call('GET', '/api/v1/events?q=rder.ru')).body.data.length).toBeGreaterThan(0);
    expect((await posthorn.call('GET', '/api/v1/deliveries?q=rder.ru')).body.data.length).toBeGreaterThan(0);
    expect((await posthorn.call('GET', '/api/v1/deliveries?q=order_rush')).body.data).toEqual([]);
  });
});
