import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { type ProgramFixture, startProgram } from './program-fixture.ts';

let program: ProgramFixture;
// biome-ignore lint/suspicious/noExplicitAny: an answer that tests look into
let webhook: any;
beforeAll(async () => {
  program = await startProgram();
});
afterAll(() => program.stop());
beforeEach(async () => {
  program.receiver.requests.length = 0;
  program.receiver.onRequest = (request) => request.respond(500);
  await program.post('/dead-letters/purge');
  webhook = await program.createWebhook();
  return () => program.posthorn.call('DELETE', `/api/v1/webhooks/${webhook.id}`);
});

/** Publishes an event whose delivery dies; gives the event's id. */
async function die(eventType = 'order.paid', headers?: Record<string, string>): Promise<string> {
  const id = await program.publish({ event_type: eventType }, headers);
  await expect.poll(async () => (await letters('', headers)).includes(id)).toBe(true);
  return id;
}
const letters = async (query = '', headers?: Record<string, string>): Promise<string[]> =>
  (await program.get(`/dead-letters?limit=250&${query}`, headers)).data.map(
    (row: { event_id: string }) => row.event_id,
  );
/** A time after all deliveries so far and before all that follow. */
async function now(): Promise<string> {
  const before = Date.now();
  await expect.poll(() => Date.now()).toBeGreaterThan(before);
  return new Date().toISOString();
}

test('the list is filtered by webhook, type and time', async () => {
  const first = await die();
  const between = await now();
  const second = await die('order.lost');
  expect(await letters()).toEqual([second, first]);
  expect(await letters(`since=${between}`)).toEqual([second]);
  expect(await letters(`until=${between}`)).toEqual([first]);
  expect(await letters(`webhook_id=${webhook.id}&event_type=order.lost&since=${between}`)).toEqual([second]);
  const refused = await program.posthorn.call('GET', '/api/v1/dead-letters?since=2016-12-31T23:59:60Z');
  expect(refused.status).toBe(422);
});

test('replay delivers those that the filter means, marked as replays, and leaves the others', async () => {
  const first = await die();
  const lost = await die('order.lost');
  const between = await now();
  const late = await die();
  program.receiver.onRequest = (request) => request.respond(200);
  const filter = { webhook_id: webhook.id, event_type: 'order.paid', until: between };
  const answer = await program.post('/dead-letters/replay', filter);
  expect(answer.status).toBe(202);
  expect(answer.body).toMatchObject({
    trigger: 'dead_letters',
    estimated_deliveries: 1,
    filter: { ...filter, status: ['dead'], since: null },
  });
  expect(await program.ended(answer.body.id)).toMatchObject({ status: 'completed', replayed: 1 });
  const delivery = await program.deliveryIn('delivered', first);
  expect((await program.get(`/deliveries/${delivery.id}`)).attempts[1]).toMatchObject({ number: 2, trigger: 'replay' });
  expect(await letters()).toEqual([late, lost]);
});

test.each([
  ['without a body', undefined],
  ['with an empty one', {}],
])('replay %s means all of the environment', async (_name, body) => {
  const events = [await die(), await die('order.lost')];
  const stranger = await program.addTenant(`letters-${body === undefined ? 1 : 2}`);
  await program.createWebhook({}, stranger);
  const theirs = await die('order.paid', stranger);
  program.receiver.onRequest = (request) => request.respond(200);
  const dry = await program.post('/dead-letters/replay', { dry_run: true });
  expect([dry.status, dry.body.estimated_deliveries]).toEqual([200, 2]);
  const answer = await program.post('/dead-letters/replay', body);
  await program.ended(answer.body.id);
  for (const event of events) await program.deliveryIn('delivered', event);
  expect(await letters()).toEqual([]);
  expect(await letters('', stranger)).toEqual([theirs]);
});

test('purge removes those that the filter means; their deliveries stay dead on record', async () => {
  const first = await die();
  const lost = await die('order.lost');
  const between = await now();
  const late = await die();
  const purge = async (body?: object) => (await program.post('/dead-letters/purge', body)).body;
  expect(await purge({ webhook_id: webhook.id, event_type: 'order.paid', until: between })).toEqual({ purged: 1 });
  expect(await letters()).toEqual([late, lost]);
  expect(await purge()).toEqual({ purged: 2 });
  expect(await purge({})).toEqual({ purged: 0 });
  for (const event of [first, lost, late]) {
    expect(await program.deliveryIn('dead', event)).toMatchObject({ status_reason: 'attempts_used_up' });
  }
});

test('what was purged is taken up by no replay job, and still by a retry by hand', async () => {
  const event = await die();
  const { id } = await program.deliveryIn('dead', event);
  await program.post('/dead-letters/purge');
  program.receiver.onRequest = (request) => request.respond(200);
  const range = { since: '2020-01-01T00:00:00Z', until: '2099-01-01T00:00:00Z', webhook_id: webhook.id };
  const all = await program.post('/replays', range);
  expect(await program.ended(all.body.id)).toMatchObject({ replayed: 0, skipped: 1 });
  const dead = await program.post('/replays', { ...range, status: 'dead' });
  expect(await program.ended(dead.body.id)).toMatchObject({ replayed: 0, skipped: 0 });
  expect((await program.post(`/deliveries/${id}/retry`)).status).toBe(202);
  await program.deliveryIn('delivered', event);
});

test('the dead letters of a deleted webhook can be purged', async () => {
  const event = await die();
  await program.posthorn.call('DELETE', `/api/v1/webhooks/${webhook.id}`);
  expect(await letters()).toEqual([event]);
  const answer = await program.post('/dead-letters/purge', { webhook_id: webhook.id });
  expect(answer.body).toEqual({ purged: 1 });
});

test('another tenant or environment can neither replay nor purge them, nor can viewers and publishers', async () => {
  const event = await die();
  const stranger = await program.addTenant('letters-stranger');
  for (const headers of [stranger, { 'x-environment': 'staging' }]) {
    const replay = await program.post('/dead-letters/replay', { webhook_id: webhook.id }, headers);
    expect([replay.status, replay.body.error.details.fields[0].path]).toEqual([422, 'webhook_id']);
    for (const body of [{ webhook_id: webhook.id }, {}]) {
      expect((await program.post('/dead-letters/purge', body, headers)).body).toEqual({ purged: 0 });
    }
  }
  for (const role of ['viewer', 'publisher']) {
    const headers = await program.keyOf(role);
    for (const path of ['/dead-letters/replay', '/dead-letters/purge']) {
      expect((await program.post(path, {}, headers)).status).toBe(403);
    }
  }
  for (const path of ['/dead-letters/replay', '/dead-letters/purge']) {
    for (const body of [{ webhook_id: 'x' }, { since: '2098-01-01T00:00:00Z' }, { limit: 1 }]) {
      expect((await program.post(path, body)).status).toBe(422);
    }
  }
  expect(await letters()).toEqual([event]);
});
