import net from 'node:net';
import pg from 'pg';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { type Clock, systemClock } from '../kernel/clock.ts';
import { createIdSource, firstIdAt, parseId } from '../kernel/ids.ts';
import { eventually } from '../testing/eventually.ts';
import { OPERATOR_KEY, startTestPosthorn, type TestPosthorn } from '../testing/posthorn.ts';
import { type Receiver, startReceiver } from '../testing/receiver.ts';
import { HEARTBEAT_MS, STREAMS_MAX, STREAMS_OF_TENANT_MAX } from './hub.ts';
import { BACKLOG_BYTES_MAX } from './listener.ts';
import { openStream, type StreamClient } from './stream-fixture.ts';

/** The system's clock, whose heartbeats come when they are told to. */
const beats = new Set<() => void>();
const clock: Clock = {
  ...systemClock,
  after(delayMs, task) {
    if (delayMs !== HEARTBEAT_MS) return systemClock.after(delayMs, task);
    beats.add(task);
    return () => beats.delete(task);
  },
};
const beat = () => {
  const due = [...beats];
  beats.clear();
  for (const task of due) task();
};

/** So long that a stop that waited for it would be told from one on a slow machine. */
const DRAIN_SECONDS = 60;

let posthorn: TestPosthorn;
let receiver: Receiver;
let database: pg.Client;
const open = new Set<StreamClient>();
const newId = createIdSource();

beforeAll(async () => {
  posthorn = await startTestPosthorn({ drainSeconds: DRAIN_SECONDS }, clock);
  receiver = await startReceiver();
  receiver.onRequest = (request) => request.respond(request.path === '/bad' ? 500 : 200);
  database = new pg.Client(posthorn.database.connection);
  await database.connect();
});
afterAll(async () => {
  await database.end();
  await receiver.stop();
  await posthorn.stop();
});
afterEach(async () => {
  for (const stream of open) stream.close();
  open.clear();
  for (const webhook of (await posthorn.call('GET', '/api/v1/webhooks?limit=250')).body.data) {
    await posthorn.call('DELETE', `/api/v1/webhooks/${webhook.id}`);
  }
});

async function listen(query = '', headers: Record<string, string> = {}): Promise<StreamClient> {
  const stream = await openStream(`${posthorn.url}/api/v1/stream${query}`, {
    authorization: `Bearer ${OPERATOR_KEY}`,
    ...headers,
  });
  open.add(stream);
  return stream;
}

async function create(fields: Record<string, unknown> = {}, headers: Record<string, string> = {}) {
  const body = { name: 'W', url: receiver.url, events: ['*'], ...fields };
  const answer = await posthorn.call('POST', '/api/v1/webhooks', body, headers);
  expect(answer.status, answer.text).toBe(201);
  return answer.body;
}

async function publish(type: string, headers: Record<string, string> = {}) {
  const answer = await posthorn.call(
    'POST',
    '/api/v1/events',
    { event_type: type, data: { secret: 'payload' } },
    headers,
  );
  expect(answer.status, answer.text).toBe(202);
  return answer.body;
}

const messages = (stream: StreamClient, count: number, type = 'delivery') =>
  eventually(
    async () => stream.of(type),
    (found) => found.length >= count,
  );

async function apiKey(headers: Record<string, string> = {}) {
  const made = await posthorn.call('POST', '/api/v1/api-keys', { name: 'K', role: 'viewer' }, headers);
  return { id: made.body.id, headers: { authorization: `Bearer ${made.body.key}` } };
}

async function makeTenant(): Promise<Record<string, string>> {
  const slug = `t-${newId().slice(24)}`;
  const body = { slug, name: slug, settings: { allow_unknown_event_types: true } };
  expect((await posthorn.call('POST', '/api/v1/tenants', body)).status).toBe(201);
  return { 'x-tenant-id': slug };
}

describe('the live stream', () => {
  test('tells of a delivery that succeeds, without its payload', async () => {
    const stream = await listen();
    expect(stream.status).toBe(200);
    expect(stream.headers.get('content-type')).toBe('text/event-stream; charset=utf-8');
    expect(stream.headers.get('cache-control')).toBe('no-store');
    expect(stream.headers.get('x-request-id')).toBeTruthy();
    const webhook = await create();
    const event = await publish('order.paid');
    const [message] = await messages(stream, 1);
    expect(stream.received[0]).toMatchObject({ type: 'ready', data: { resumed: false } });
    expect(message).toEqual({
      lastId: parseId('attempt', message?.data.attempt_id),
      hasId: true,
      type: 'delivery.delivered',
      data: {
        delivery_id: expect.stringMatching(/^dlv_/),
        event_id: event.id,
        webhook_id: webhook.id,
        event_type: 'order.paid',
        status: 'delivered',
        status_reason: null,
        attempt_id: expect.stringMatching(/^att_/),
        attempt: 1,
        trigger: 'scheduled',
        response_status: 200,
        response_time_ms: expect.any(Number),
        error_class: null,
        next_attempt_at: null,
        at: expect.any(String),
      },
    });
    expect(JSON.stringify(stream.received)).not.toContain('secret');
  });

  test('tells of each failed attempt, of death and of a cancellation', async () => {
    const stream = await listen();
    const retry_policy = { max_attempts: 2, initial_delay_seconds: 1, jitter: 0 };
    await create({ url: `${receiver.url}/bad`, events: ['a.dies'], retry_policy });
    await create({ url: `${receiver.url}/bad`, events: ['a.waits'], retry_policy: { initial_delay_seconds: 3_600 } });
    await publish('a.dies');
    await publish('a.waits');
    const [waiting] = await eventually(
      async () => stream.of('delivery.failed').filter(({ data }) => data.event_type === 'a.waits'),
      (found) => found.length === 1,
    );
    expect(waiting?.data).toMatchObject({ response_status: 500, error_class: 'response', attempt: 1 });
    expect(Date.parse(waiting?.data.next_attempt_at) - Date.now()).toBeGreaterThan(3_000_000);
    const { delivery_id } = waiting?.data ?? {};
    expect((await posthorn.call('POST', `/api/v1/deliveries/${delivery_id}/cancel`)).status).toBe(200);
    const [cancelled] = await messages(stream, 1, 'delivery.cancelled');
    expect(cancelled?.data).toMatchObject({ delivery_id, status: 'cancelled', event_type: 'a.waits', attempt: 1 });
    const [dead] = await messages(stream, 1, 'delivery.dead');
    expect(dead?.data).toMatchObject({ event_type: 'a.dies', status_reason: 'attempts_used_up', attempt: 2 });
    const failed = stream.of('delivery.failed').filter(({ data }) => data.event_type === 'a.dies');
    expect(failed.map(({ data }) => [data.attempt, data.status])).toEqual([[1, 'failed']]);
  });

  test('sends what the filters ask for', async () => {
    const good = await create();
    const bad = await create({ url: `${receiver.url}/bad`, retry_policy: { max_attempts: 1 } });
    const streams = {
      all: await listen(),
      dead: await listen('?status=dead,cancelled'),
      types: await listen('?types=delivery.dead,alert.*'),
      alerts: await listen('?types=alert'),
      webhook: await listen(`?webhook_id=${good.id}`),
      prefix: await listen('?event_type=order.*'),
      exact: await listen('?event_type=lead.created&types=delivery'),
    };
    await publish('order.paid');
    await publish('lead.created');
    await messages(streams.all, 4);
    // One more, to know that what is not there by then has not been sent.
    await publish('last.one');
    await messages(streams.all, 6);
    const seen = (stream: StreamClient) =>
      stream.of('delivery').map(({ data }) => `${data.event_type} ${data.webhook_id === bad.id ? 'bad' : 'good'}`);
    const sorted = (name: keyof typeof streams) => seen(streams[name]).sort();
    // Each is read by itself.
    await Promise.all(['dead', 'types', 'webhook'].map((name) => messages(streams[name as keyof typeof streams], 3)));
    await Promise.all(['prefix', 'exact'].map((name) => messages(streams[name as keyof typeof streams], 2)));
    expect(sorted('dead')).toEqual(['last.one bad', 'lead.created bad', 'order.paid bad']);
    expect(sorted('types')).toEqual(sorted('dead'));
    expect(sorted('alerts')).toEqual([]);
    expect(sorted('webhook')).toEqual(['last.one good', 'lead.created good', 'order.paid good']);
    expect(sorted('prefix')).toEqual(['order.paid bad', 'order.paid good']);
    expect(sorted('exact')).toEqual(['lead.created bad', 'lead.created good']);
  });

  test.each([
    ['?types=nothing', 422],
    ['?types=', 422],
    ['?status=pending', 422],
    ['?event_type=%20', 422],
    ['?event_type=*.paid', 422],
    ['?webhook_id=whk_00000000000000000000000000', 404],
    ['?webhook_id=nothing', 404],
    ['?last_event_id=nothing', 400],
  ])('refuses %s', async (query, status) => {
    expect((await listen(query)).status).toBe(status);
  });

  test('is no answer to a HEAD', async () => {
    const headers = { authorization: `Bearer ${OPERATOR_KEY}` };
    expect((await fetch(`${posthorn.url}/api/v1/stream`, { method: 'HEAD', headers })).status).toBe(404);
  });
});

describe('what no attempt tells of', () => {
  /** Messages of these types as their type, event type, reason and attempts. */
  const told = (stream: StreamClient) =>
    [...stream.of('delivery.held'), ...stream.of('delivery.discarded')].map(({ type, data }) =>
      [type, data.event_type, data.status_reason, data.attempt].join(' '),
    );
  const entries = async () => (await database.query('SELECT type FROM stream_entries')).rows.map(({ type }) => type);

  test('that a delivery is held is told of, when it is published, when a node has it in hand, and of a replay', async () => {
    const stream = await listen('?types=delivery.held');
    await messages(stream, 1, 'ready');
    const webhook = await create({ events: ['a.*'], owner: 'ann' });
    const path = `/api/v1/webhooks/${webhook.id}`;
    const event = await publish('a.sent');
    await eventually(
      () => posthorn.call('GET', '/api/v1/deliveries?event_type=a.sent'),
      ({ body }) => body.data[0]?.status === 'delivered',
    );
    const answers: (() => void)[] = [];
    receiver.onRequest = (request) => void answers.push(() => request.respond(200));
    const limit = { max_concurrency: 1 };
    expect((await posthorn.call('PATCH', path, limit)).status).toBe(200);
    await publish('a.under-way');
    await eventually(
      async () => answers.length,
      (count) => count === 1,
    );
    await publish('a.queued');
    expect((await posthorn.call('POST', `${path}/pause`)).status).toBe(200);
    for (const answer of answers) answer();
    receiver.onRequest = (request) => request.respond(request.path === '/bad' ? 500 : 200);
    await publish('a.born');
    expect((await posthorn.call('POST', `/api/v1/events/${event.id}/replay`, {})).status).toBeLessThan(300);
    await messages(stream, 3, 'delivery.held');
    expect(told(stream).sort()).toEqual([
      'delivery.held a.born  0',
      'delivery.held a.queued  0',
      'delivery.held a.sent  0',
    ]);
    const [born] = stream.of('delivery').filter(({ data }) => data.event_type === 'a.born');
    expect(born).toMatchObject({ hasId: true, lastId: expect.stringMatching(/^[0-9a-f-]{13}-7[0-9a-f]{3}-[89ab]/) });
    expect(born?.data).toEqual({
      delivery_id: expect.stringMatching(/^dlv_/),
      event_id: expect.stringMatching(/^evt_/),
      webhook_id: webhook.id,
      ...{ event_type: 'a.born', status: 'held', status_reason: null, attempt: 0, at: expect.any(String) },
    });
  });

  test('that a delivery is discarded is told of: its webhook or payload is gone, or a transform wants none', async () => {
    const { token } = (await posthorn.call('POST', '/api/v1/portal-tokens', { access: 'read', owner: 'ann' })).body;
    const [stream, anns] = [
      await listen('?status=discarded&event_type=gone.*'),
      await listen('?status=discarded&event_type=gone.*', { authorization: `Bearer ${token}` }),
    ];
    for (const each of [stream, anns]) await messages(each, 1, 'ready');
    const transformation = { enabled: true, language: 'javascript', template: '() => ({ cancel: true })' };
    await create({ events: ['gone.unwanted'], transformation });
    await publish('gone.unwanted');
    const later = { deliver_at: new Date(Date.now() + 3_600_000).toISOString() };
    const [deleted] = [
      await create({ events: ['gone.deleted'], owner: 'ann' }),
      await create({ events: ['gone.erased'] }),
    ];
    const waits = async (event_type: string) => {
      const answer = await posthorn.call('POST', '/api/v1/events', { event_type, data: {}, ...later });
      expect(answer.status, answer.text).toBe(202);
      return answer.body;
    };
    await waits('gone.deleted');
    const erased = await waits('gone.erased');
    expect((await posthorn.call('DELETE', `/api/v1/webhooks/${deleted.id}`)).status).toBe(204);
    expect((await posthorn.call('DELETE', `/api/v1/events/${erased.id}/payload`)).status).toBeLessThan(300);
    await messages(stream, 3, 'delivery.discarded');
    expect(told(stream).sort()).toEqual([
      'delivery.discarded gone.deleted webhook_deleted 0',
      'delivery.discarded gone.erased payload_erased 0',
      'delivery.discarded gone.unwanted cancelled_by_transform 0',
    ]);
    await messages(anns, 1, 'delivery.discarded');
    expect(told(anns)).toEqual(['delivery.discarded gone.deleted webhook_deleted 0']);
    // A stream that comes back is told the same.
    const again = await listen('?event_type=gone.*', { 'last-event-id': stream.received[0]?.lastId ?? '' });
    await messages(again, 3, 'delivery.discarded');
    expect(told(again).sort()).toEqual(told(stream).sort());
  });

  test('of many that one change discards the first thousand are told of', async () => {
    const stream = await listen('?status=discarded&event_type=many.*');
    await messages(stream, 1, 'ready');
    const webhook = await create({ events: ['many.gone'], status: 'paused' });
    const events = Array.from({ length: 510 }, () => ({ event_type: 'many.gone', data: {} }));
    for (const each of [events, events]) {
      expect((await posthorn.call('POST', '/api/v1/events/batch', { events: each })).status).toBe(202);
    }
    expect((await posthorn.call('DELETE', `/api/v1/webhooks/${webhook.id}`)).status).toBe(204);
    await messages(stream, 1_000, 'delivery.discarded');
    expect((await entries()).filter((type) => type === 'delivery.discarded').length).toBeGreaterThanOrEqual(1_000);
    const left = await posthorn.call('GET', '/api/v1/deliveries?event_type=many.gone&status=held');
    expect(left.body.data).toEqual([]);
  });

  test.each<[string, Record<string, unknown>]>([
    ['held', { status: 'paused' }],
    ['discarded', { transformation: { enabled: true, language: 'javascript', template: '() => ({ cancel: true })' } }],
  ])(
    'of a flood that is %s one by one some are told of',
    async (status, fields) => {
      const tenant = await makeTenant();
      await messages(await listen('', tenant), 1, 'ready');
      await create(fields, tenant);
      const events = Array.from({ length: 700 }, () => ({ event_type: 'flood', data: {} }));
      const startMs = performance.now();
      for (const each of [events, events]) {
        expect((await posthorn.call('POST', '/api/v1/events/batch', { events: each }, tenant)).status).toBe(202);
      }
      await eventually(
        () =>
          database.query('SELECT count(*)::int AS n FROM deliveries WHERE event_type = $1 AND status = $2', [
            'flood',
            status,
          ]),
        ({ rows }) => rows[0].n === 1_400,
        // Each of those that are discarded is a run of the transform.
        60_000,
      );
      const told = await database.query(
        `SELECT FROM stream_entries WHERE type = $1 AND data->>'event_type' = 'flood'`,
        [`delivery.${status}`],
      );
      expect(told.rowCount).toBeGreaterThanOrEqual(1_000);
      // Those that come at once, and a hundred a minute.
      const minutes = Math.ceil((performance.now() - startMs) / 60_000);
      expect(told.rowCount).toBeLessThan(1_000 + 100 * minutes);
    },
    90_000,
  );

  test('nothing is written of it where nobody has listened for a day', async () => {
    await database.query('DELETE FROM stream_entries; DELETE FROM stream_listeners');
    const tenant = await makeTenant();
    const webhook = await create({ status: 'paused' }, tenant);
    await publish('a.held', tenant);
    expect((await posthorn.call('DELETE', `/api/v1/webhooks/${webhook.id}`, undefined, tenant)).status).toBe(204);
    expect(await entries()).toEqual([]);
    // Of other tenants that are listened to it is.
    await database.query(`DELETE FROM stream_entries`);
    const stream = await listen('', await makeTenant());
    await messages(stream, 1, 'ready');
    const later = await create({ status: 'paused' }, tenant);
    await publish('a.held', tenant);
    await posthorn.call('DELETE', `/api/v1/webhooks/${later.id}`, undefined, tenant);
    expect(await entries()).toEqual([]);
    const until = await database.query('SELECT until FROM stream_listeners');
    expect(until.rows).toHaveLength(1);
    expect(until.rows[0].until.getTime() - Date.now()).toBeGreaterThan(86_400_000);
  });
});

/** As many attempts as there would be, each a little later than the one before, from 50 seconds ago on. */
async function attemptBefore(count: number, eventType: string): Promise<void> {
  const webhook = await create();
  await publish('a.before');
  await eventually(
    () => posthorn.call('GET', `/api/v1/deliveries?webhook_id=${webhook.id}`),
    ({ body }) => body.data[0]?.status === 'delivered',
  );
  await database.query(
    `INSERT INTO attempts SELECT a.tenant_id, a.environment_id,
       (lpad(to_hex($2::bigint + n / 1000), 12, '0') || '7' || lpad(to_hex(n % 1000), 3, '0') || '8' || substr(md5(n::text), 1, 15))::uuid,
       a.delivery_id, a.event_id, a.webhook_id, $4, 2, a.trigger, a.url, a.http_method, a.request_headers,
       a.envelope, a.response_status, a.response_headers, a.response_body, a.response_truncated, a.error_class,
       a.error_message, a.duration_ms
     FROM attempts a, generate_series(1, $3::int) n WHERE a.webhook_id = $1`,
    [parseId('webhook', webhook.id), Date.now() - 50_000, count, eventType],
  );
}

describe('a stream that is resumed', () => {
  test('goes on after the last message that the client has, in order and without a hole', async () => {
    await create();
    const first = await listen();
    for (const [at, name] of ['a.one', 'a.two', 'a.three'].entries()) {
      await publish(name);
      await messages(first, at + 1);
    }
    const [one] = first.of('delivery');
    first.close();
    await publish('a.four');
    await eventually(
      () => posthorn.call('GET', '/api/v1/deliveries?event_type=a.four'),
      ({ body }) => body.data[0]?.status === 'delivered',
    );
    const again = await listen('', { 'last-event-id': one?.lastId ?? '' });
    const rest = await messages(again, 3);
    expect(again.received[0]).toMatchObject({ type: 'ready', data: { resumed: true } });
    await publish('a.five');
    await messages(again, 4);
    expect(again.of('delivery').map(({ data }) => data.event_type)).toEqual([
      ...first
        .of('delivery')
        .slice(1)
        .map(({ data }) => data.event_type),
      'a.four',
      'a.five',
    ]);
    expect(rest.map(({ lastId }) => lastId)).toEqual(rest.map(({ lastId }) => lastId).sort());
    const byQuery = await listen(`?last_event_id=${one?.lastId?.toUpperCase()}`);
    expect((await messages(byQuery, 4)).map(({ data }) => data.event_type)).toEqual(
      again.of('delivery').map(({ data }) => data.event_type),
    );
  });

  test('says that it cannot go on from a message of more than a day ago', async () => {
    const stream = await listen('', { 'last-event-id': firstIdAt(Date.now() - 86_400_000 - 60_000) });
    const [gap] = await messages(stream, 1, 'gap');
    expect(stream.received[0]).toMatchObject({ type: 'ready', data: { resumed: false } });
    expect(gap?.data).toMatchObject({ reason: 'too_old' });
    expect(Date.parse(gap?.data.until) - Date.parse(gap?.data.since)).toBeGreaterThan(86_400_000);
    await create();
    await publish('after.gap');
    await messages(stream, 1);
  });

  test.each([
    ['a word', 'nothing'],
    ['digits', '0'.repeat(36)],
    ['more than an id', "01a222bd-527e-7bc9-aaa6-100357e65565' OR true"],
    ['two ids', '01a222bd-527e-7bc9-aaa6-100357e65565, 01a222bd-527e-7bc9-aaa6-100357e65565'],
    ['a flood', 'x'.repeat(4_000)],
  ])('is refused from what is no id of a message: %s', async (_, last) => {
    expect((await listen('', { 'last-event-id': last })).status).toBe(400);
  });

  test('begins anew where the id is of a time to come, and says so', async () => {
    const ahead = firstIdAt(Date.now() + 86_400_000);
    const [stream, little] = [
      await listen('', { 'last-event-id': ahead }),
      // Another node's clock may be a little ahead.
      await listen('', { 'last-event-id': firstIdAt(Date.now() + 2_000) }),
    ];
    await create();
    await publish('a.next');
    for (const each of [stream, little]) await messages(each, 1);
    expect(stream.received[0]).toMatchObject({ type: 'ready', data: { resumed: false } });
    expect(little.received[0]).toMatchObject({ type: 'ready', data: { resumed: true } });
    expect(stream.lastId).toBe(stream.of('delivery').at(-1)?.lastId);
    expect((stream.lastId ?? '') < ahead).toBe(true);
  });

  test('says what is missing after ten thousand messages', async () => {
    const before = firstIdAt(Date.now() - 60_000);
    await attemptBefore(10_600, 'a.first');
    const stream = await listen('', { 'last-event-id': before });
    const [gap] = await messages(stream, 1, 'gap');
    expect(gap?.data.reason).toBe('too_much');
    expect(stream.of('delivery')).toHaveLength(10_000);
    const ids = stream.of('delivery').map(({ lastId }) => lastId);
    expect(new Set(ids).size).toBe(10_000);
    expect(ids).toEqual([...ids].sort());
    await publish('after.gap');
    await eventually(
      async () => stream.of('delivery').at(-1)?.data.event_type,
      (type) => type === 'after.gap',
    );
  });

  test('is sent late what was stored late, and the place to resume from stays', async () => {
    const webhook = await create();
    const stream = await listen();
    await publish('a.first');
    await messages(stream, 1);
    const [first] = stream.of('delivery');
    // Between the beginning of the stream and its last message.
    const atMs = Date.parse(first?.data.at) - 1;
    await database.query(
      `INSERT INTO attempts SELECT tenant_id, environment_id, $2, delivery_id, event_id, webhook_id, 'a.late', 2, trigger,
         url, http_method, request_headers, envelope, response_status, response_headers, response_body,
         response_truncated, error_class, error_message, duration_ms
       FROM attempts WHERE webhook_id = $1`,
      [parseId('webhook', webhook.id), firstIdAt(atMs).replace('-0000-0000-', '-7000-8000-')],
    );
    const [, late] = await eventually(
      async () => stream.of('delivery'),
      (found) => found.length === 2,
      15_000,
    );
    expect(late).toMatchObject({ hasId: false, data: { event_type: 'a.late' } });
  });
});

describe('who may listen to what', () => {
  test("nobody hears of another tenant's or environment's deliveries", async () => {
    const other = await makeTenant();
    const theirs = await create({}, other);
    const own = await create();
    const staging = await listen('', { 'x-environment': 'staging' });
    const [mine, others] = [await listen(), await listen('', other)];
    await publish('of.theirs', other);
    await publish('of.mine');
    await messages(mine, 1);
    await messages(others, 1);
    expect(mine.of('delivery').map(({ data }) => data.webhook_id)).toEqual([own.id]);
    expect(others.of('delivery').map(({ data }) => data.webhook_id)).toEqual([theirs.id]);
    expect(staging.of('delivery')).toEqual([]);
    const asked = await posthorn.call('GET', `/api/v1/stream?webhook_id=${theirs.id}`);
    const nobodys = await posthorn.call('GET', '/api/v1/stream?webhook_id=whk_01h455vb4pex5vsknk084sn02q');
    expect({ ...asked.body.error, request_id: '' }).toEqual({ ...nobodys.body.error, request_id: '' });
    expect(asked.status).toBe(404);
    // Nor by the id of a message that is not his.
    const stolen = await listen('', { ...other, 'last-event-id': firstIdAt(Date.now() - 60_000) });
    await messages(stolen, 1);
    expect(stolen.of('delivery').map(({ data }) => data.webhook_id)).toEqual([theirs.id]);
  });

  test("a portal token for an owner hears of this owner's webhooks only", async () => {
    const anns = await create({ owner: 'ann' });
    const bobs = await create({ owner: 'bob' });
    await create({ owner: null });
    const { token } = (await posthorn.call('POST', '/api/v1/portal-tokens', { access: 'read', owner: 'ann' })).body;
    const as = { authorization: `Bearer ${token}` };
    const [ann, all] = [await listen('', as), await listen()];
    await publish('order.paid');
    await messages(all, 3);
    await publish('order.paid');
    await messages(ann, 2);
    expect(new Set(ann.of('delivery').map(({ data }) => data.webhook_id))).toEqual(new Set([anns.id]));
    expect((await listen(`?webhook_id=${bobs.id}`, as)).status).toBe(404);
  });

  test('a stream ends when its key is revoked, and those of other keys go on', async () => {
    const [key, other] = [await apiKey(), await apiKey()];
    const [ends, stays] = [await listen('', key.headers), await listen('', other.headers)];
    expect((await posthorn.call('DELETE', `/api/v1/api-keys/${key.id}`)).status).toBe(204);
    await eventually(
      async () => ends.ended,
      (ended) => ended,
    );
    expect(ends.received.at(-1)).toMatchObject({ type: 'end', data: { reason: 'access_ended' } });
    expect((await listen('', key.headers)).status).toBe(401);
    await create();
    await publish('order.paid');
    await messages(stays, 1);
  });

  test('a stream ends when its key expires, without a notice', async () => {
    let [stream, forMs] = [await listen('', { authorization: 'Bearer of nobody' }), 500];
    // A slow machine may take longer than it lives to open a stream with it.
    while (stream.status !== 200) {
      forMs *= 2;
      const expires_at = new Date(Date.now() + forMs).toISOString();
      const made = await posthorn.call('POST', '/api/v1/api-keys', { name: 'K', role: 'viewer', expires_at });
      stream = await listen('', { authorization: `Bearer ${made.body.key}` });
    }
    await eventually(
      async () => {
        beat();
        return stream.ended;
      },
      (ended) => ended,
      forMs + 10_000,
    );
    expect(stream.received.at(-1)?.type).toBe('end');
  });

  test("a suspended tenant's streams end, but not the operator's", async () => {
    const tenant = await makeTenant();
    const key = await apiKey(tenant);
    const [theirs, operators] = [await listen('', key.headers), await listen('', tenant)];
    expect((await posthorn.call('POST', `/api/v1/tenants/${tenant['x-tenant-id']}/suspend`, {})).status).toBe(200);
    await eventually(
      async () => theirs.ended,
      (ended) => ended,
    );
    expect(operators.ended).toBe(false);
    expect((await listen('', key.headers)).status).toBe(403);
  });

  test('all streams end when their tenant or environment is removed, also those of the operator', async () => {
    const tenant = await makeTenant();
    const slug = tenant['x-tenant-id'];
    const key = await apiKey(tenant);
    const added = await posthorn.call('POST', `/api/v1/tenants/${slug}/environments`, { name: 'qa' });
    expect(added.status, added.text).toBe(201);
    const [ofEnvironment, theirs, operators] = [
      await listen('', { ...tenant, 'x-environment': 'qa' }),
      await listen('', key.headers),
      await listen('', tenant),
    ];
    for (const stream of [ofEnvironment, theirs, operators]) await messages(stream, 1, 'ready');
    const ends = (...streams: StreamClient[]) =>
      eventually(
        async () => streams.every(({ ended }) => ended),
        (ended) => ended,
      );
    const gone = await posthorn.call('DELETE', `/api/v1/tenants/${slug}/environments/qa`);
    expect(gone.status, gone.text).toBeLessThan(300);
    await ends(ofEnvironment);
    expect([theirs.ended, operators.ended]).toEqual([false, false]);
    const removed = await posthorn.call('DELETE', `/api/v1/tenants/${slug}?confirm=${slug}`);
    expect(removed.status, removed.text).toBeLessThan(300);
    await ends(theirs, operators);
    for (const stream of [ofEnvironment, theirs, operators]) {
      expect(stream.received.at(-1)).toMatchObject({ type: 'end', data: { reason: 'access_ended' } });
    }
  });

  test('the server has five hundred streams at most, and all of them are told', async () => {
    const tenants: Record<string, string>[] = [];
    for (let count = 0; count < STREAMS_MAX / STREAMS_OF_TENANT_MAX; count += 1) tenants.push(await makeTenant());
    await eventually(
      () => posthorn.call('GET', '/metrics'),
      ({ text }) => /^posthorn_streams_open 0$/m.test(text),
    );
    const streams: StreamClient[] = [];
    for (const tenant of tenants) {
      const places = Array.from({ length: STREAMS_OF_TENANT_MAX }, () => listen('', tenant));
      streams.push(...(await Promise.all(places)));
    }
    expect(streams.filter(({ status }) => status !== 200)).toEqual([]);
    const refused = await posthorn.call('GET', '/api/v1/stream');
    expect([refused.status, refused.body.error.message]).toEqual([
      429,
      'Too many live streams are open on this server.',
    ]);
    for (const tenant of tenants.slice(-2)) {
      await create({}, tenant);
      await publish('a.all', tenant);
    }
    await Promise.all(streams.slice(-2 * STREAMS_OF_TENANT_MAX).map((stream) => messages(stream, 1)));
    expect(streams.slice(0, -2 * STREAMS_OF_TENANT_MAX).flatMap((stream) => stream.of('delivery'))).toEqual([]);
    for (const stream of streams) stream.close();
    await eventually(
      () => posthorn.call('GET', '/metrics'),
      ({ text }) => /^posthorn_streams_open 0$/m.test(text),
    );
  }, 60_000);

  test('a tenant has twenty streams at most, and a place is free again when one goes', async () => {
    const tenant = await makeTenant();
    const key = await apiKey(tenant);
    const streams: StreamClient[] = [];
    for (let count = 0; count < STREAMS_OF_TENANT_MAX; count += 1) streams.push(await listen('', key.headers));
    const refused = await posthorn.call('GET', '/api/v1/stream', undefined, key.headers);
    expect([refused.status, refused.body.error.code]).toEqual([429, 'too_many_streams']);
    expect(refused.headers.get('retry-after')).toBe('30');
    expect((await listen()).status).toBe(200);
    streams[0]?.close();
    await eventually(
      async () => (await listen('', key.headers)).status,
      (status) => status === 200,
    );
  });
});

describe('an open stream', () => {
  test('of a client that does not read keeps little in memory, and is cut off', async () => {
    const figure = async (name: string) =>
      Number(new RegExp(`^posthorn_${name} (\\d+)$`, 'm').exec((await posthorn.call('GET', '/metrics')).text)?.[1]);
    const cutBefore = await figure('streams_cut_total');
    const before = firstIdAt(Date.now() - 60_000);
    await attemptBefore(9_900, `a.${'x'.repeat(400)}`);
    const socket = net.connect(Number(new URL(posthorn.url).port), '127.0.0.1');
    socket.on('error', () => {});
    socket.pause();
    socket.write(
      `GET /api/v1/stream HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${OPERATOR_KEY}\r\nLast-Event-ID: ${before}\r\n\r\n`,
    );
    await eventually(
      () => figure('stream_backlog_bytes'),
      (bytes) => bytes > 0,
    );
    for (let looks = 0; looks < 20; looks += 1) {
      expect(await figure('stream_backlog_bytes')).toBeLessThanOrEqual(BACKLOG_BYTES_MAX);
    }
    await eventually(
      async () => {
        beat();
        return figure('streams_cut_total');
      },
      (cut) => cut === cutBefore + 1,
    );
    expect(await figure('stream_backlog_bytes')).toBe(0);
    socket.destroy();
  });

  test('has heartbeats, which move the place to resume from', async () => {
    const stream = await listen();
    await eventually(
      async () => stream.received.length,
      (count) => count === 1,
    );
    const [ready] = stream.received;
    await eventually(
      async () => {
        beat();
        return stream;
      },
      ({ lastId }) => (lastId ?? '') > (ready?.lastId ?? ''),
    );
    expect(stream.beats).toBeGreaterThan(0);
    expect(stream.received).toHaveLength(1);
  });

  test('is told when the program stops, and does not hold it up', async () => {
    const stream = await listen();
    const before = Date.now();
    await posthorn.restart();
    expect(Date.now() - before).toBeLessThan((DRAIN_SECONDS * 1_000) / 2);
    expect(stream.received.at(-1)).toMatchObject({ type: 'end', data: { reason: 'stopping' } });
    expect(stream.ended).toBe(true);
  }, 90_000);
});
