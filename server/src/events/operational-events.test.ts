import pg from 'pg';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type Clock, systemClock } from '../kernel/clock.ts';
import { parseId } from '../kernel/ids.ts';
import { eventually } from '../testing/eventually.ts';
import { startTestPosthorn, type TestPosthorn } from '../testing/posthorn.ts';
import { type Receiver, startReceiver } from '../testing/receiver.ts';

/** The system's clock, whose hourly timers fire when they are told to. */
const hourly = new Set<() => void>();
const clock: Clock = {
  ...systemClock,
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
let database: pg.Client;

beforeAll(async () => {
  posthorn = await startTestPosthorn({}, clock);
  gone = await startReceiver();
  gone.onRequest = (request) => request.respond(410);
  watching = await startReceiver();
  database = new pg.Client(posthorn.database.connection);
  await database.connect();
});
afterAll(async () => {
  await database.end();
  await Promise.all([gone.stop(), watching.stop()]);
  await posthorn.stop();
});
afterEach(async () => {
  for (const webhook of (await posthorn.call('GET', '/api/v1/webhooks')).body.data) {
    await posthorn.call('DELETE', `/api/v1/webhooks/${webhook.id}`);
  }
  watching.requests.length = 0;
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
    expect(event).toMatchObject({ event_type: 'webhook.disabled', deliveries: 3, is_test: false });
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
