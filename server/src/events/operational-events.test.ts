import pg from 'pg';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type Clock, systemClock } from '../kernel/clock.ts';
import { parseId } from '../kernel/ids.ts';
import { eventually } from '../testing/eventually.ts';
import { startTestPosthorn, type TestPosthorn } from '../testing/posthorn.ts';
import { type Receiver, startReceiver } from '../testing/receiver.ts';

/** The system's clock, whose hourly timers fire when they are told to. */
const hourly = new Set<() => void>();
let aheadMs = 0;
const clock: Clock = {
  ...systemClock,
  now: () => systemClock.now() + aheadMs,
  after(delayMs, task) {
    if (delayMs !== 3_600_000) return systemClock.after(delayMs, task);
    hourly.add(task);
    return () => hourly.delete(task);
  },
};

let posthorn: TestPosthorn;
/** Answers 410. */
let gone: Receiver;
/** Takes everything. */
let watching: Receiver;
/** Answers as it is told. */
let failing: Receiver;
let database: pg.Client;

beforeAll(async () => {
  posthorn = await startTestPosthorn({}, clock);
  gone = await startReceiver();
  gone.onRequest = (request) => request.respond(410);
  watching = await startReceiver();
  failing = await startReceiver();
  database = new pg.Client(posthorn.database.connection);
  await database.connect();
});
afterAll(async () => {
  await database.end();
  await Promise.all([gone.stop(), watching.stop(), failing.stop()]);
  await posthorn.stop();
});
afterEach(async () => {
  for (const webhook of (await posthorn.call('GET', '/api/v1/webhooks?limit=250')).body.data) {
    await posthorn.call('DELETE', `/api/v1/webhooks/${webhook.id}`);
  }
  watching.requests.length = 0;
  failing.requests.length = 0;
});

async function createWebhook(fields: Record<string, unknown>) {
  const answer = await posthorn.call('POST', '/api/v1/webhooks', { name: 'W', url: watching.url, ...fields });
  expect(answer.status, answer.text).toBe(201);
  return answer.body;
}
const publish = (type: string) => posthorn.call('POST', '/api/v1/events', { event_type: type, data: {} });
const watchedPaths = () => watching.requests.map((request) => request.path).sort();
const bodyOf = (path: string) =>
  JSON.parse(watching.requests.find((request) => request.path === path)?.body.toString() ?? '{}');
const operationalEvents = async () =>
  (await posthorn.call('GET', '/api/v1/events?event_type=webhook.disabled')).body.data;

describe('webhook.disabled', () => {
  it('is published when a receiver answers 410, to those that ask for it by name, and never to *', async () => {
    await createWebhook({ url: `${watching.url}/exact`, events: ['webhook.disabled'] });
    await createWebhook({ url: `${watching.url}/prefix`, events: ['webhook.*'] });
    await createWebhook({ url: `${watching.url}/both`, events: ['*', 'webhook.disabled'] });
    await createWebhook({ url: `${watching.url}/all`, events: ['*'] });
    const disabled = await createWebhook({
      name: 'CRM',
      owner: 'ann',
      url: `${gone.url}/crm?token=secret`,
      events: ['order.paid', 'webhook.disabled'],
    });
    await publish('order.paid');
    const [event] = await eventually(operationalEvents, (events) => events.length === 1);
    expect(event).toMatchObject({ event_type: 'webhook.disabled', delivery_count: 3, is_test: false });
    const expected = ['/all', '/both', '/both', '/exact', '/prefix'];
    await eventually(
      async () => watchedPaths(),
      (paths) => paths.length >= expected.length,
    );
    expect(watchedPaths()).toEqual(expected);
    expect(bodyOf('/all').type).toBe('order.paid');

    const shown = (await posthorn.call('GET', `/api/v1/webhooks/${disabled.id}`)).body;
    expect(shown).toMatchObject({ status: 'disabled', status_reason: 'gone' });
    expect(bodyOf('/exact')).toEqual({
      type: 'webhook.disabled',
      timestamp: event.timestamp,
      data: {
        webhook_id: disabled.id,
        name: 'CRM',
        url: `${gone.url}/crm`,
        owner: 'ann',
        reason: 'gone',
        failing_since: null,
        disabled_at: event.timestamp,
      },
    });
    const held = await posthorn.call('GET', `/api/v1/deliveries?webhook_id=${disabled.id}`);
    expect(held.body.data.map((delivery: { event_type: string }) => delivery.event_type)).toEqual(['order.paid']);
  });

  it('is published by the hourly maintenance when a webhook has failed for days', async () => {
    const before = (await operationalEvents()).length;
    await createWebhook({ url: `${watching.url}/ops`, events: ['webhook.disabled'] });
    const failing = await createWebhook({ name: 'Dead', events: ['order.paid'] });
    await database.query(
      `INSERT INTO webhook_totals (tenant_id, webhook_id, last_triggered_at, failing_since, failing_days, last_failure_at)
       SELECT tenant_id, id, now(), now() - interval '6 days', 4, now() FROM webhooks WHERE id = $1`,
      [parseId('webhook', failing.id)],
    );
    for (const fire of hourly) fire();
    await watching.received(1);
    const { data } = bodyOf('/ops');
    expect(data).toMatchObject({ webhook_id: failing.id, name: 'Dead', reason: 'failing' });
    const failedMs = Date.parse(data.disabled_at) - Date.parse(data.failing_since);
    expect(Math.round(failedMs / 86_400_000)).toBe(6);
    expect(await operationalEvents()).toHaveLength(before + 1);
  });

  it('is not lost when it cannot be published at first', async () => {
    const before = (await operationalEvents()).length;
    await createWebhook({ url: `${watching.url}/ops`, events: ['webhook.disabled'] });
    const disabled = await createWebhook({ url: gone.url, events: ['order.paid'] });
    // The database refuses events with an id of their own, as an operational one is; a sequence counts in spite of it.
    await database.query(`
      CREATE SEQUENCE refusals MINVALUE 0;
      CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql
        AS $$ BEGIN PERFORM nextval('refusals'); RAISE 'refused by the test'; END $$;
      CREATE TRIGGER refuse BEFORE INSERT ON event_keys EXECUTE FUNCTION refuse()`);
    await publish('order.paid');
    const refusals = async () => Number((await database.query('SELECT last_value FROM refusals')).rows[0].last_value);
    await eventually(refusals, (count) => count >= 1);
    expect(await operationalEvents()).toHaveLength(before);
    await database.query('DROP TRIGGER refuse ON event_keys');
    await watching.received(1);
    expect(bodyOf('/ops').data.webhook_id).toBe(disabled.id);
    expect(await operationalEvents()).toHaveLength(before + 1);
  });

  it('goes to the tenant and environment of the webhook only', async () => {
    await posthorn.call('POST', '/api/v1/tenants', { name: 'Other', slug: 'other' });
    const elsewhere: Record<string, string>[] = [{ 'x-tenant-id': 'other' }, { 'x-environment': 'staging' }];
    const stranger = { name: 'S', url: `${watching.url}/stranger`, events: ['webhook.disabled'] };
    for (const headers of elsewhere) {
      expect((await posthorn.call('POST', '/api/v1/webhooks', stranger, headers)).status).toBe(201);
    }
    await createWebhook({ url: `${watching.url}/own`, events: ['webhook.disabled'] });
    await createWebhook({ url: gone.url, events: ['order.paid'] });
    await publish('order.paid');
    await watching.received(1);
    for (const headers of elsewhere) {
      expect((await posthorn.call('GET', '/api/v1/events', undefined, headers)).body.data).toEqual([]);
    }
    expect(watchedPaths()).toEqual(['/own']);
  });

  it('may be asked for where unknown event types are refused', async () => {
    const settings = { allow_unknown_event_types: false };
    await posthorn.call('POST', '/api/v1/tenants', { name: 'Strict', slug: 'strict', settings });
    const ask = async (events: string[]) => {
      const webhook = { name: 'S', url: watching.url, events };
      return (await posthorn.call('POST', '/api/v1/webhooks', webhook, { 'x-tenant-id': 'strict' })).status;
    };
    expect(await Promise.all([['webhook.disabled'], ['webhook.*'], ['webhook.disabeld'], ['web.*']].map(ask))).toEqual([
      201, 201, 422, 422,
    ]);
  });
});

/** Answers with this status, whatever is asked. */
const answering = (status: number) => {
  failing.onRequest = (request) => request.respond(status);
};
const requestsOf = (path: string) => watching.requests.filter((request) => request.path === path);
const dataOf = (path: string) => requestsOf(path).map((request) => JSON.parse(request.body.toString()).data);
const eventsOf = async (type: string) =>
  (await posthorn.call('GET', `/api/v1/events?limit=250&event_type=${type}`)).body.data;

describe('delivery.dead', () => {
  it('is told to the others that ask for it, and of an owner to this owner and to nobody', async () => {
    answering(500);
    await createWebhook({ url: `${watching.url}/ops`, events: ['delivery.dead'] });
    await createWebhook({ url: `${watching.url}/prefix`, events: ['delivery.*'], owner: 'ann' });
    await createWebhook({ url: `${watching.url}/bob`, events: ['delivery.dead'], owner: 'bob' });
    await createWebhook({ url: `${watching.url}/all`, events: ['*'] });
    const dying = await createWebhook({
      ...{ name: 'CRM', owner: 'ann', url: `${failing.url}/crm?token=secret`, retry_policy: { max_attempts: 1 } },
      events: ['order.dies', 'delivery.dead'],
    });
    const event = (await publish('order.dies')).body;
    await eventually(
      async () => [requestsOf('/ops').length, requestsOf('/prefix').length],
      ([ops, prefix]) => ops === 1 && prefix === 1,
    );
    const [delivery] = (await posthorn.call('GET', `/api/v1/deliveries?webhook_id=${dying.id}`)).body.data;
    expect(dataOf('/ops')).toEqual([
      {
        delivery_id: delivery.id,
        event_id: event.id,
        event_type: 'order.dies',
        reason: 'attempts_used_up',
        attempt_count: 1,
        response_status: 500,
        error_class: 'response',
        dead_at: delivery.completed_at,
        webhook: { webhook_id: dying.id, name: 'CRM', url: `${failing.url}/crm`, owner: 'ann' },
        omitted_before: 0,
      },
    ]);
    expect([requestsOf('/bob').length, failing.requests.length]).toEqual([0, 1]);
    // Tried again by hand, it dies again.
    await posthorn.call('POST', `/api/v1/deliveries/${delivery.id}/retry`);
    await eventually(
      async () => requestsOf('/ops').length,
      (count) => count === 2,
    );
    expect(dataOf('/ops')[1].attempt_count).toBe(2);
  });

  it('makes no event where nobody asks for it, nor of a test', async () => {
    answering(500);
    const before = (await eventsOf('delivery.dead')).length;
    const dying = await createWebhook({ url: failing.url, events: ['order.dies'], retry_policy: { max_attempts: 1 } });
    await publish('order.dies');
    await createWebhook({ url: `${watching.url}/late`, events: ['order.last'] });
    await eventually(
      async () => (await posthorn.call('GET', `/api/v1/dead-letters?webhook_id=${dying.id}`)).body.data,
      (letters) => letters.length === 1,
    );
    await createWebhook({ url: `${watching.url}/ops`, events: ['delivery.dead'] });
    await posthorn.call('POST', `/api/v1/webhooks/${dying.id}/test`, {});
    await publish('order.dies');
    await eventually(
      async () => requestsOf('/ops').length,
      (count) => count === 1,
    );
    expect(await eventsOf('delivery.dead')).toHaveLength(before + 1);
  });

  it('is never the cause of another one', async () => {
    answering(500);
    const before = (await eventsOf('delivery.dead')).length;
    const policy = { retry_policy: { max_attempts: 1 } };
    for (let count = 0; count < 3; count += 1) {
      await createWebhook({ url: `${failing.url}/ops`, events: ['delivery.dead'], ...policy });
    }
    await createWebhook({ url: failing.url, events: ['order.dies'], ...policy });
    await publish('order.dies');
    await eventually(
      async () => (await posthorn.call('GET', '/api/v1/deliveries?event_type=delivery.dead&status=dead')).body.data,
      (dead) => dead.length >= 3,
    );
    // One more, which would come after any that these had caused.
    await publish('order.dies');
    await eventually(
      () => eventsOf('delivery.dead'),
      (events) => events.length >= before + 2,
    );
    expect(await eventsOf('delivery.dead')).toHaveLength(before + 2);
  });

  it('is told of a hundred times a minute, and then how many were left out', async () => {
    answering(500);
    await createWebhook({ url: `${watching.url}/ops`, events: ['delivery.dead'] });
    await createWebhook({
      url: failing.url,
      events: ['flood.*'],
      retry_policy: { max_attempts: 1 },
      circuit_breaker: { enabled: false },
    });
    const atMs = Date.now();
    const events = Array.from({ length: 400 }, () => ({ event_type: 'flood.dies', data: {} }));
    expect((await posthorn.call('POST', '/api/v1/events/batch', { events })).status).toBe(202);
    const dead = async () =>
      Number((await database.query(`SELECT count(*) FROM dead_letters WHERE event_type = 'flood.dies'`)).rows[0].count);
    await eventually(dead, (count) => count === 400);
    // What is still being told of would leave no room for one more.
    const untold = async () => Number((await database.query('SELECT count(*) FROM announcements')).rows[0].count);
    await eventually(untold, (count) => count === 0);
    const minutes = 1 + Math.floor(Date.now() / 60_000) - Math.floor(atMs / 60_000);
    aheadMs = 60_000;
    await publish('flood.dies');
    const omitted = () => dataOf('/ops').reduce((sum, { omitted_before }) => sum + omitted_before, 0);
    await eventually(
      async () => requestsOf('/ops').length + omitted(),
      (count) => count >= 401,
    );
    expect(requestsOf('/ops').length).toBeLessThanOrEqual(100 * minutes + 1);
    expect(requestsOf('/ops').length).toBeGreaterThan(50);
  });
});

describe('webhook.recovered', () => {
  it('is told when a circuit is closed, and once in a while only', async () => {
    answering(500);
    await createWebhook({ url: `${watching.url}/ops`, events: ['webhook.recovered'] });
    const circuit_breaker = { failure_rate: 0.5, minimum_requests: 2, window_seconds: 10, open_seconds: 1 };
    const flaky = await createWebhook({
      ...{ name: 'Flaky', url: failing.url, events: ['order.flaky', 'webhook.recovered'], circuit_breaker },
      retry_policy: { initial_delay_seconds: 1, max_delay_seconds: 1, jitter: 0, max_attempts: 20 },
    });
    for (let count = 0; count < 4; count += 1) await publish('order.flaky');
    await eventually(
      async () => (await posthorn.call('GET', `/api/v1/webhooks/${flaky.id}`)).body.circuit_state,
      (state) => state !== 'closed',
    );
    answering(200);
    await eventually(
      async () => requestsOf('/ops').length,
      (count) => count > 0,
    );
    expect(dataOf('/ops')).toEqual([
      {
        webhook_id: flaky.id,
        ...{ name: 'Flaky', url: `${failing.url}/`, owner: null },
        reason: 'circuit_closed',
        recovered_at: expect.any(String),
      },
    ]);
  });

  it('is told when somebody enables what Posthorn had disabled, and not what a person had', async () => {
    await createWebhook({ url: `${watching.url}/ops`, events: ['webhook.*'] });
    const [off, byHand] = [
      await createWebhook({ url: gone.url, events: ['order.off'] }),
      await createWebhook({ events: ['a.b'] }),
    ];
    await publish('order.off');
    await eventually(
      async () => requestsOf('/ops').length,
      (count) => count === 1,
    );
    await posthorn.call('PATCH', `/api/v1/webhooks/${byHand.id}`, { status: 'disabled' });
    await posthorn.call('POST', `/api/v1/webhooks/${byHand.id}/enable`);
    await posthorn.call('POST', `/api/v1/webhooks/${off.id}/enable`);
    await eventually(
      async () => requestsOf('/ops').length,
      (count) => count === 2,
    );
    expect(dataOf('/ops')[1]).toMatchObject({ webhook_id: off.id, reason: 'enabled' });
  });
});
