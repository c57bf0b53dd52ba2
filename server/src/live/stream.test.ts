import pg from 'pg';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { type Clock, systemClock } from '../kernel/clock.ts';
import { createIdSource, firstIdAt, parseId } from '../kernel/ids.ts';
import { eventually } from '../testing/eventually.ts';
import { OPERATOR_KEY, startTestPosthorn, type TestPosthorn } from '../testing/posthorn.ts';
import { type Receiver, startReceiver } from '../testing/receiver.ts';
import { HEARTBEAT_MS, STREAMS_OF_TENANT_MAX } from './hub.ts';
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

let posthorn: TestPosthorn;
let receiver: Receiver;
let database: pg.Client;
const open = new Set<StreamClient>();
const newId = createIdSource();

beforeAll(async () => {
  posthorn = await startTestPosthorn({}, clock);
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

describe('a stream that is resumed', () => {
  test('goes on after the last message that the client has, in order and without a hole', async () => {
    await create();
    const first = await listen();
    for (const name of ['a.one', 'a.two', 'a.three']) await publish(name);
    await messages(first, 3);
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

  test('says what is missing after ten thousand messages', async () => {
    const webhook = await create();
    await publish('a.first');
    await eventually(
      () => posthorn.call('GET', `/api/v1/deliveries?webhook_id=${webhook.id}`),
      ({ body }) => body.data[0]?.status === 'delivered',
    );
    const before = firstIdAt(Date.now() - 60_000);
    // As many rows as there would be, each a little later than the one before.
    await database.query(
      `INSERT INTO attempts SELECT a.tenant_id, a.environment_id,
         (lpad(to_hex($2::bigint + n / 1000), 12, '0') || '7' || lpad(to_hex(n % 1000), 3, '0') || '8' || substr(md5(n::text), 1, 15))::uuid,
         a.delivery_id, a.event_id, a.webhook_id, a.event_type, 2, a.trigger, a.url, a.http_method, a.request_headers,
         a.envelope, a.response_status, a.response_headers, a.response_body, a.response_truncated, a.error_class,
         a.error_message, a.duration_ms
       FROM attempts a, generate_series(1, 10600) n WHERE a.webhook_id = $1`,
      [parseId('webhook', webhook.id), Date.now() - 50_000],
    );
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
  }, 30_000);
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
    const expires_at = new Date(Date.now() + 1_000).toISOString();
    const made = await posthorn.call('POST', '/api/v1/api-keys', { name: 'K', role: 'viewer', expires_at });
    const stream = await listen('', { authorization: `Bearer ${made.body.key}` });
    expect(stream.status).toBe(200);
    await eventually(
      async () => {
        beat();
        return stream.ended;
      },
      (ended) => ended,
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
    expect(Date.now() - before).toBeLessThan(4_000);
    expect(stream.received.at(-1)).toMatchObject({ type: 'end', data: { reason: 'stopping' } });
    expect(stream.ended).toBe(true);
  });
});
