import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createIdSource } from '../../src/kernel/ids.ts';
import { eventually } from '../../src/testing/eventually.ts';
import { startTestPosthorn, type TestPosthorn } from '../../src/testing/posthorn.ts';
import { type Receiver, startReceiver } from '../../src/testing/receiver.ts';
import { queryDatabase } from '../program/folder.ts';

let posthorn: TestPosthorn;
let receiver: Receiver;
const newId = createIdSource();

beforeAll(async () => {
  [posthorn, receiver] = await Promise.all([startTestPosthorn(), startReceiver()]);
  receiver.onRequest = (request) => {
    if (request.path === '/silent') return;
    const status = Number(request.path.slice(1));
    if (status === 0) request.reset();
    else request.respond(status);
  };
});
afterAll(() => Promise.all([posthorn.stop(), receiver.stop()]));

/** A tenant of its own for a test. */
async function makeTenant() {
  const slug = `t-${newId().slice(24)}`;
  const headers = { 'x-tenant-id': slug };
  const settings = { allow_unknown_event_types: true };
  expect((await posthorn.call('POST', '/api/v1/tenants', { slug, name: slug, settings })).status).toBe(201);
  const ask = async (path: string, status = 200) => {
    const answer = await posthorn.call('GET', path, undefined, headers);
    expect(answer.status, answer.text).toBe(status);
    return answer.body;
  };
  return {
    headers,
    ask,
    /** `path`: what the receiver does; its number is the status that it answers. */
    async addWebhook(path: string, fields: object = {}): Promise<string> {
      const body = {
        name: path,
        url: `${receiver.url}/${path}`,
        events: ['*'],
        retry_policy: { enabled: false },
        ...fields,
      };
      const answer = await posthorn.call('POST', '/api/v1/webhooks', body, headers);
      expect(answer.status, answer.text).toBe(201);
      return answer.body.id;
    },
    async publish(types: string[]): Promise<void> {
      const events = types.map((event_type) => ({ event_type, data: { n: 1 } }));
      expect((await posthorn.call('POST', '/api/v1/events/batch', { events }, headers)).status).toBe(202);
    },
    /** Waits until so many attempts are counted. */
    counted: (attempts: number, query = '') =>
      eventually(
        () => ask(`/api/v1/analytics/overview${query}`),
        (overview) => overview.total_attempts >= attempts,
      ),
  };
}

describe('an overview', () => {
  test('says of nothing that there is nothing, and rates nothing', async () => {
    const { ask } = await makeTenant();
    expect(await ask('/api/v1/analytics/overview')).toMatchObject({
      total_deliveries: 0,
      success_rate: null,
      total_attempts: 0,
      failure_rate: null,
      average_response_time_ms: null,
      p50_response_time_ms: null,
      p95_response_time_ms: null,
      p99_response_time_ms: null,
      by_error_class: {},
      queue_depth: 0,
      queue_depth_is_exact: true,
      oldest_waiting_seconds: null,
      held_deliveries: 0,
      dead_letters: 0,
      webhooks: { total: 0, active: 0, paused: 0, disabled: 0, circuits_open: 0 },
      event_types: [],
    });
  });

  test('has every attempt as soon as it is recorded, by status, error and type', async () => {
    const tenant = await makeTenant();
    await tenant.addWebhook('200');
    await tenant.addWebhook('503');
    await tenant.addWebhook('404', { events: ['order.lost'] });
    await tenant.addWebhook('0', { events: ['order.lost'] });
    await tenant.publish(['order.paid', 'order.paid', 'order.lost']);
    const overview = await tenant.counted(8);
    expect(overview).toMatchObject({
      total_deliveries: 8,
      successful_deliveries: 3,
      failed_deliveries: 5,
      success_rate: 37.5,
      total_attempts: 8,
      failed_attempts: 5,
      failure_rate: 62.5,
      average_response_time_ms: expect.any(Number),
      p99_response_time_ms: expect.any(Number),
      by_status_class: { '2xx': 3, '3xx': 0, '4xx': 1, '5xx': 3, other: 0, none: 1 },
      by_error_class: { response: 4, reset: 1 },
      queue_depth: 0,
      dead_letters: 5,
      webhooks: { total: 4, active: 4, paused: 0, disabled: 0, circuits_open: 0 },
    });
    expect(overview.event_types).toMatchObject([
      { event_type: 'order.lost', share: 50, total_attempts: 4, failed_attempts: 3 },
      { event_type: 'order.paid', share: 50, total_attempts: 4, failed_attempts: 2 },
    ]);
    expect(await tenant.ask('/api/v1/analytics/errors')).toMatchObject({
      total_attempts: 8,
      failed_attempts: 5,
      failure_rate: 62.5,
      by_error_class: { response: 4, reset: 1 },
      by_response_status: { '404': 1, '503': 3 },
      data: expect.arrayContaining([
        { error_class: 'response', response_status: 503, attempts: 3, share: 60 },
        { error_class: 'response', response_status: 404, attempts: 1, share: 20 },
        { error_class: 'reset', response_status: null, attempts: 1, share: 20 },
      ]),
    });
    expect((await tenant.ask('/api/v1/analytics/errors?event_type=order.paid')).failed_attempts).toBe(2);
    const types = await tenant.ask('/api/v1/analytics/event-types');
    expect(types.data.map((type: { event_type: string }) => type.event_type)).toEqual(['order.lost', 'order.paid']);
  });

  test('counts retries as attempts and the delivery once', async () => {
    const tenant = await makeTenant();
    const retry = { max_attempts: 3, schedule_seconds: [0, 0], jitter: 0 };
    await tenant.addWebhook('500', { retry_policy: retry, circuit_breaker: { enabled: false } });
    await tenant.publish(['order.paid']);
    expect(await tenant.counted(3)).toMatchObject({
      total_deliveries: 1,
      failed_deliveries: 1,
      success_rate: 0,
      total_attempts: 3,
      failed_attempts: 3,
    });
  });

  test('has what waits: under way, for a retry, and held', async () => {
    const tenant = await makeTenant();
    await tenant.addWebhook('silent', { events: ['under.way'] });
    await tenant.addWebhook('500', { events: ['later'], retry_policy: { max_attempts: 3, schedule_seconds: [3_600] } });
    const paused = await tenant.addWebhook('200', { events: ['kept'] });
    await posthorn.call('POST', `/api/v1/webhooks/${paused}/pause`, undefined, tenant.headers);
    await tenant.publish(['under.way', 'under.way', 'later', 'kept', 'kept', 'kept']);
    await tenant.counted(1);
    const overview = await tenant.ask('/api/v1/analytics/overview');
    expect(overview).toMatchObject({
      queue_depth: 3,
      queue_depth_is_exact: true,
      held_deliveries: 3,
      oldest_waiting_seconds: expect.any(Number),
      webhooks: { total: 3, active: 2, paused: 1 },
    });
    expect(overview.oldest_waiting_seconds).toBeLessThan(60);
    expect(await tenant.ask(`/api/v1/analytics/webhooks/${paused}`)).toMatchObject({
      queue_depth: 0,
      oldest_waiting_seconds: null,
      held_deliveries: 3,
    });
  });
});

test('a webhook has its own figures, by itself and in the list of all', async () => {
  const tenant = await makeTenant();
  const good = await tenant.addWebhook('200');
  const bad = await tenant.addWebhook('500');
  const idle = await tenant.addWebhook('200', { events: ['never.happens'] });
  await tenant.publish(['order.paid', 'order.lost', 'order.lost']);
  await tenant.counted(6);
  expect(await tenant.ask(`/api/v1/analytics/webhooks/${bad}`)).toMatchObject({
    webhook_id: bad,
    total_attempts: 3,
    success_rate: 0,
    dead_letters: 3,
    event_types: [
      { event_type: 'order.lost', share: 66.67, total_attempts: 2 },
      { event_type: 'order.paid', share: 33.33, total_attempts: 1 },
    ],
    errors: [{ error_class: 'response', response_status: 500, attempts: 3, share: 100 }],
  });
  const list = await tenant.ask('/api/v1/analytics/webhooks?limit=2');
  expect(list.data).toMatchObject([
    { webhook_id: idle, total_attempts: 0, success_rate: null },
    { webhook_id: bad, name: '500', status: 'active', total_attempts: 3, success_rate: 0 },
  ]);
  const rest = await tenant.ask(`/api/v1/analytics/webhooks?limit=2&cursor=${list.next_cursor}`);
  expect(rest.data).toMatchObject([{ webhook_id: good, total_attempts: 3, success_rate: 100 }]);
  expect(rest.has_more).toBe(false);
  expect(await tenant.ask(`/api/v1/webhooks/${good}/stats?window=1h`)).toMatchObject({
    webhook_id: good,
    total_deliveries: 3,
    success_rate: 100,
    period: { total_deliveries: 3, success_rate: 100, p95_response_time_ms: expect.any(Number) },
  });
  expect((await tenant.ask(`/api/v1/analytics/event-types?webhook_id=${bad}`)).data[0].total_attempts).toBe(2);
});

describe('trends', () => {
  test('have a point for each interval, and say why nothing can be told of what is to come', async () => {
    const tenant = await makeTenant();
    await tenant.addWebhook('200');
    await tenant.publish(['order.paid']);
    await tenant.counted(1);
    for (const [interval, count] of [
      ['minute', 60],
      ['hour', 24],
      ['day', 30],
    ] as const) {
      const trends = await tenant.ask(`/api/v1/analytics/trends?interval=${interval}`);
      expect(trends.points).toHaveLength(count);
      // The attempt may have been before the interval that is under way.
      const attempts = trends.points.map((point: { total_attempts: number }) => point.total_attempts);
      expect(attempts.slice(-2).reduce((sum: number, n: number) => sum + n)).toBe(1);
      expect(trends.points[0]).toMatchObject({ total_attempts: 0, success_rate: null, p95_response_time_ms: null });
      expect(trends).toMatchObject({ interval, forecast: null, forecast_reason: { code: expect.any(String) } });
    }
    const one = await tenant.ask('/api/v1/analytics/trends?interval=hour&event_type=order.lost');
    expect(one.points.every((point: { total_attempts: number }) => point.total_attempts === 0)).toBe(true);
  });

  test('go on with the season that they have', async () => {
    const tenant = await makeTenant();
    // Busy by day and quiet by night, for ten days: 10 ms an attempt, each answered with 200.
    await queryDatabase(
      posthorn.database.connection,
      `INSERT INTO rollups_hour
       SELECT e.tenant_id, e.id, '00000000-0000-0000-0000-000000000000', '', hour, '{-1,11,1200}', ARRAY[10 * n, n, n]
       FROM tenants t JOIN environments e ON e.tenant_id = t.id AND e.name = 'production',
         generate_series(date_trunc('hour', now()) - interval '10 days', now() - interval '1 hour', '1 hour') hour,
         LATERAL (SELECT CASE WHEN extract(hour FROM hour AT TIME ZONE 'UTC') BETWEEN 8 AND 17 THEN 100 ELSE 10 END) l (n)
       WHERE t.slug = '${tenant.headers['x-tenant-id']}'`,
    );
    const trends = await tenant.ask('/api/v1/analytics/trends?interval=hour&window=10d&horizon=24');
    expect(trends.forecast_reason).toBeNull();
    expect(trends.forecast).toMatchObject({ model: 'holt_winters', probability: 0.95 });
    expect(trends.forecast.points).toHaveLength(24);
    expect(trends.forecast.points[0].at).toBe(trends.points.at(-1).at);
    for (const { at, total_attempts } of trends.forecast.points) {
      const hour = new Date(at).getUTCHours();
      expect(Math.abs(total_attempts.value - (hour >= 8 && hour <= 17 ? 100 : 10))).toBeLessThan(3);
    }
  });
});

test('a time that cannot be looked at is refused with what would be right', async () => {
  const { ask } = await makeTenant();
  const [now, old] = [new Date().toISOString(), '2001-01-01T00:00:00Z'];
  const problem = async (path: string) => (await ask(`/api/v1/analytics/${path}`, 422)).error.details.fields[0].path;
  expect(await problem('overview?window=0h')).toBe('window');
  expect(await problem('overview?window=24')).toBe('window');
  expect(await problem('overview?window=999999d')).toBe('window');
  expect(await problem(`overview?window=24h&since=${now}`)).toBe('window');
  expect(await problem(`overview?since=${old}`)).toBe('since');
  expect(await problem(`overview?since=2099-01-01T00:00:00Z`)).toBe('since');
  expect(await problem(`overview?since=2016-12-31T23:59:60Z`)).toBe('since');
  expect(await problem(`overview?since=${now}&until=${old}`)).toBe('since');
  expect(await problem('trends?interval=week')).toBe('interval');
  expect(await problem('trends?interval=minute&window=2d')).toBe('window');
  expect(await problem('trends?interval=minute&window=4d')).toBe('window');
  expect(await problem('trends?interval=hour&window=80d')).toBe('window');
  expect(await problem('trends?interval=day&window=800d')).toBe('window');
  expect(await problem('trends?horizon=0')).toBe('horizon');
  expect(await problem('trends?horizon=1000')).toBe('horizon');
  for (const path of [
    'overview?window=90d',
    'overview?window=729d',
    'trends?interval=minute&window=24h',
    'trends?interval=day&window=729d',
  ]) {
    await ask(`/api/v1/analytics/${path}`);
  }
  const { since, until } = await ask('/api/v1/analytics/overview?window=10d');
  expect(since).toMatch(/:00:00\.000Z$/);
  expect(Date.parse(until)).toBeGreaterThan(Date.parse(now) - 1);
});

describe('nobody sees', () => {
  test("another tenant's figures, nor that its webhooks exist", async () => {
    const [mine, other] = [await makeTenant(), await makeTenant()];
    const theirs = await other.addWebhook('200');
    await other.publish(['order.paid']);
    await other.counted(1);
    expect(await mine.ask('/api/v1/analytics/overview')).toMatchObject({ total_attempts: 0, event_types: [] });
    const absent = 'whk_01h455vb4pex5vsknk084sn02q';
    for (const path of [
      (id: string) => `/api/v1/analytics/webhooks/${id}`,
      (id: string) => `/api/v1/webhooks/${id}/stats`,
      (id: string) => `/api/v1/analytics/trends?webhook_id=${id}`,
      (id: string) => `/api/v1/analytics/errors?webhook_id=${id}`,
      (id: string) => `/api/v1/analytics/event-types?webhook_id=${id}`,
    ]) {
      const [refused, unknown] = [await mine.ask(path(theirs), 404), await mine.ask(path(absent), 404)];
      expect(refused.error.message).toBe(unknown.error.message);
      await mine.ask(path('nonsense'), 404);
      await other.ask(path(theirs));
    }
  });

  test("another environment's figures", async () => {
    const tenant = await makeTenant();
    await tenant.addWebhook('200');
    await tenant.publish(['order.paid']);
    await tenant.counted(1);
    const headers = { ...tenant.headers, 'x-environment': 'staging' };
    const { body } = await posthorn.call('GET', '/api/v1/analytics/overview', undefined, headers);
    expect(body).toMatchObject({ total_attempts: 0, webhooks: { total: 0 } });
  });

  test("with a portal token for an owner, what is not the owner's", async () => {
    const tenant = await makeTenant();
    const hers = await tenant.addWebhook('200', { owner: 'anna' });
    const his = await tenant.addWebhook('500', { owner: 'bert' });
    await tenant.publish(['order.paid', 'order.lost']);
    await tenant.counted(4);
    const tokenFor = async (owner: string) =>
      (await posthorn.call('POST', '/api/v1/portal-tokens', { access: 'read', owner }, tenant.headers)).body.token;
    const askAs = async (owner: string, path: string) =>
      posthorn.call('GET', `/api/v1/analytics/${path}`, undefined, {
        authorization: `Bearer ${await tokenFor(owner)}`,
      });
    expect((await askAs('anna', 'overview')).body).toMatchObject({
      total_attempts: 2,
      success_rate: 100,
      dead_letters: 0,
      webhooks: { total: 1 },
      event_types: [
        { event_type: 'order.lost', total_attempts: 1 },
        { event_type: 'order.paid', total_attempts: 1 },
      ],
    });
    expect((await askAs('bert', 'overview')).body).toMatchObject({
      total_attempts: 2,
      success_rate: 0,
      dead_letters: 2,
    });
    expect((await askAs('nobody', 'overview')).body).toMatchObject({
      total_attempts: 0,
      queue_depth: 0,
      dead_letters: 0,
    });
    expect((await askAs('nobody', 'trends')).body.points).toHaveLength(24);
    expect((await askAs('anna', 'errors')).body.failed_attempts).toBe(0);
    expect((await askAs('anna', 'webhooks')).body.data).toMatchObject([{ webhook_id: hers, total_attempts: 2 }]);
    expect((await askAs('anna', `webhooks/${hers}`)).status).toBe(200);
    expect((await askAs('anna', `webhooks/${his}`)).status).toBe(404);
    expect((await askAs('anna', `trends?webhook_id=${his}`)).status).toBe(404);
    expect((await askAs('anna', `errors?webhook_id=${his}`)).status).toBe(404);
  });
});

test('figures outlive a restart, and the webhook in those of its environment', async () => {
  const tenant = await makeTenant();
  const webhook = await tenant.addWebhook('200');
  await tenant.publish(['order.paid', 'order.paid']);
  await tenant.counted(2);
  await posthorn.restart();
  expect(await tenant.ask('/api/v1/analytics/overview')).toMatchObject({ total_attempts: 2 });
  expect((await posthorn.call('DELETE', `/api/v1/webhooks/${webhook}`, undefined, tenant.headers)).status).toBe(204);
  expect(await tenant.ask('/api/v1/analytics/overview')).toMatchObject({ total_attempts: 2, webhooks: { total: 0 } });
  await tenant.ask(`/api/v1/analytics/webhooks/${webhook}`, 404);
});
