import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type ProgramFixture, startProgram } from './program-fixture.ts';

/** Dead letters are filtered as deliveries are: `event_id`, `response_status` and `q`. */

let program: ProgramFixture;
// biome-ignore lint/suspicious/noExplicitAny: an answer that tests look into
let webhook: any;
beforeAll(async () => {
  program = await startProgram();
});
afterAll(() => program.stop());
beforeEach(async () => {
  await program.post('/dead-letters/purge');
  webhook = await program.createWebhook();
  return () => program.posthorn.call('DELETE', `/api/v1/webhooks/${webhook.id}`);
});

let made = 0;

/** Publishes an event whose delivery dies of this status; gives the event's id. */
async function die(eventType: string, status: number, fields = {}, headers?: Record<string, string>): Promise<string> {
  program.receiver.onRequest = (request) => request.respond(status);
  const id = await program.publish({ event_type: eventType, ...fields }, headers);
  await expect.poll(async () => (await letters({}, headers)).includes(id)).toBe(true);
  return id;
}

type Filter = Record<string, string | number>;
const asQuery = (filter: Filter) =>
  new URLSearchParams(Object.entries(filter).map(([name, value]) => [name, `${value}`]));
const events = async (path: string, headers?: Record<string, string>): Promise<string[]> =>
  (await program.get(path, headers)).data.map((row: { event_id: string }) => row.event_id);
const letters = (filter: Filter = {}, headers?: Record<string, string>) =>
  events(`/dead-letters?limit=250&${asQuery(filter)}`, headers);

/** Four dead letters. `own` is the publisher's id of the first. */
async function addLetters() {
  made += 1;
  const own = `paid-${made}`;
  const paid = await die('order.paid', 404, { event_id: own });
  const late = await die('order.paid_late', 500);
  const invoice = await die('invoice.paid', 404);
  const lost = await die('order.lost', 500);
  return { own, paid, late, invoice, lost };
}
type Letters = Awaited<ReturnType<typeof addLetters>>;

/** What is asked for, and the letters that it means, newest first. */
const FILTERS: [string, (of: Letters) => Filter, (of: Letters) => string[]][] = [
  ['an event', ({ paid }) => ({ event_id: paid }), ({ paid }) => [paid]],
  ["an event by its publisher's id", ({ own }) => ({ event_id: own }), ({ paid }) => [paid]],
  ['a response status', () => ({ response_status: 404 }), ({ invoice, paid }) => [invoice, paid]],
  ['a response status that is none’s', () => ({ response_status: 503 }), () => []],
  ['a part of the type', () => ({ q: 'PAID' }), ({ invoice, late, paid }) => [invoice, late, paid]],
  ['a part that LIKE would take for a pattern', () => ({ q: 'd_l' }), ({ late }) => [late]],
  ['a part that would match all', () => ({ q: '%' }), () => []],
  ['status and part', () => ({ response_status: 500, q: 'order.' }), ({ lost, late }) => [lost, late]],
  ['event and another status', ({ paid }) => ({ event_id: paid, response_status: 500 }), () => []],
  ['event and a part it has not', ({ paid }) => ({ event_id: paid, q: 'invoice' }), () => []],
  [
    'all of them, with webhook, type and time',
    ({ paid }) => ({
      event_id: paid,
      response_status: 404,
      q: 'paid',
      webhook_id: webhook.id,
      event_type: 'order.paid',
      since: '2020-01-01T00:00:00Z',
    }),
    ({ paid }) => [paid],
  ],
];

describe.each(FILTERS)('by %s', (_name, filterOf, meantOf) => {
  let all: Letters;
  let filter: Filter;
  let meant: string[];
  let others: string[];
  beforeEach(async () => {
    all = await addLetters();
    [filter, meant] = [filterOf(all), meantOf(all)];
    others = [all.lost, all.invoice, all.late, all.paid].filter((id) => !meant.includes(id));
  });

  test('the list is that of the dead deliveries, and a replay does what its dry run says, to these alone', async () => {
    expect(await letters(filter)).toEqual(meant);
    const dead = await events(`/deliveries?${asQuery({ ...filter, status: 'dead', webhook_id: webhook.id })}`);
    expect(dead).toEqual(meant);
    const dry = await program.post('/dead-letters/replay', { ...filter, dry_run: true });
    expect(dry.body).toMatchObject({ estimated_deliveries: meant.length, estimate_is_exact: true });
    program.receiver.onRequest = (request) => request.respond(200);
    const { status, body } = await program.post('/dead-letters/replay', filter);
    expect([status, body.estimated_deliveries]).toEqual([202, meant.length]);
    expect(await program.ended(body.id)).toMatchObject({ status: 'completed', replayed: meant.length, skipped: 0 });
    for (const event of meant) await program.deliveryIn('delivered', event);
    expect(await letters()).toEqual(others);
  });

  test('a purge removes these alone', async () => {
    expect((await program.post('/dead-letters/purge', filter)).body).toEqual({ purged: meant.length });
    expect(await letters()).toEqual(others);
  });
});

test('a job and the audit log say what was meant, the event by the id that Posthorn gave it', async () => {
  const { own, paid } = await addLetters();
  const asked = { event_id: own, response_status: 404, q: 'paid' };
  const meant = { ...asked, event_id: paid };
  program.receiver.onRequest = (request) => request.respond(404);
  const { body } = await program.post('/dead-letters/replay', asked);
  expect(body.filter).toMatchObject(meant);
  expect((await program.get(`/replays/${body.id}`)).filter).toEqual(body.filter);
  const newest = async () => (await program.get('/audit?limit=1')).data[0];
  expect(await newest()).toMatchObject({ action: 'replay.created', after: { filter: meant } });
  expect(await program.ended(body.id)).toMatchObject({ replayed: 1 });
  await expect.poll(() => letters(meant)).toEqual([paid]);
  await program.post('/dead-letters/purge', asked);
  expect(await newest()).toMatchObject({ action: 'dead_letters.purged', details: { count: 1, filter: meant } });
});

test('the response status is that of the last attempt, and a letter shows it', async () => {
  const event = await die('order.paid', 404);
  const { id } = await program.deliveryIn('dead', event);
  program.receiver.onRequest = (request) => request.respond(500);
  await program.post(`/deliveries/${id}/retry`);
  await expect.poll(() => letters({ response_status: 500 })).toEqual([event]);
  expect(await letters({ response_status: 404 })).toEqual([]);
  expect((await program.get('/dead-letters')).data).toMatchObject([{ event_id: event, response_status: 500 }]);
  program.receiver.onRequest = (request) => request.reset();
  await program.post(`/deliveries/${id}/retry`);
  await expect.poll(async () => (await program.get('/dead-letters')).data).toMatchObject([{ response_status: null }]);
});

test("another tenant's, environment's or owner's event is as none: an empty list, and nothing to replay or purge", async () => {
  const own = `secret-${Date.now()}`;
  const event = await die('order.paid', 404, { event_id: own });
  const stranger = await program.addTenant('letter-filters-stranger');
  await program.createWebhook({}, stranger);
  const theirs = await die('order.paid', 404, {}, stranger);
  const { token } = (await program.post('/portal-tokens', { owner: 'anna', access: 'manage' })).body;
  const anna = { authorization: `Bearer ${token}` };
  for (const headers of [stranger, { 'x-environment': 'staging' }, anna]) {
    const refusals: unknown[] = [];
    for (const id of [event, own, 'nobodys']) {
      expect(await letters({ event_id: id }, headers)).toEqual([]);
      for (const [path, body] of [
        ['/dead-letters/replay', {}],
        ['/dead-letters/replay', { dry_run: true }],
        ['/dead-letters/purge', {}],
        ['/replays', { since: '2020-01-01T00:00:00Z', until: '2099-01-01T00:00:00Z' }],
      ] as const) {
        if (headers === anna && path === '/replays') continue;
        const answer = await program.post(path, { ...body, event_id: id }, headers);
        refusals.push([answer.status, { ...answer.body.error, request_id: '' }]);
      }
    }
    expect(new Set(refusals.map((each) => JSON.stringify(each))).size).toBe(1);
    expect(refusals[0]).toMatchObject([422, { details: { fields: [{ path: 'event_id' }] } }]);
  }
  expect([await letters(), await letters({}, stranger)]).toEqual([[event], [theirs]]);
});

test.each([
  ['event_id', ['', 'x'.repeat(257), 'a\0b']],
  ['response_status', [99, 600, 404.5, 'missing', '']],
  ['q', ['', 'x'.repeat(257), 'a\0b']],
])('%s takes nothing that it cannot be', async (name, values) => {
  const event = await die('order.paid', 404);
  for (const value of values) {
    const list = await program.posthorn.call('GET', `/api/v1/dead-letters?${asQuery({ [name]: value })}`);
    expect([list.status, list.body.error.details.fields[0].path]).toEqual([422, name]);
    for (const path of ['/dead-letters/replay', '/dead-letters/purge', '/replays']) {
      const range = path === '/replays' ? { since: '2020-01-01T00:00:00Z', until: '2099-01-01T00:00:00Z' } : {};
      const { status, body } = await program.post(path, { ...range, [name]: value });
      expect([path, value, status, body.error?.details.fields[0].path]).toEqual([path, value, 422, name]);
    }
  }
  expect(await letters()).toEqual([event]);
});

test('null is the same as absent', async () => {
  const all = await addLetters();
  const nothing = { event_id: null, response_status: null, q: null };
  const range = { since: '2020-01-01T00:00:00Z', until: '2099-01-01T00:00:00Z', webhook_id: webhook.id };
  for (const [path, body] of [
    ['/dead-letters/replay', {}],
    ['/replays', range],
  ] as const) {
    const { body: dry } = await program.post(path, { ...body, ...nothing, dry_run: true });
    expect(dry).toMatchObject({ estimated_deliveries: 4, filter: nothing });
  }
  const last = await program.post('/dead-letters/purge', { ...nothing, response_status: 404 });
  expect(last.body).toEqual({ purged: 2 });
  expect((await program.post('/dead-letters/purge', nothing)).body).toEqual({ purged: 2 });
  expect(await letters()).not.toContain(all.paid);
});

test('a replay of a time range goes by them as well, whatever the status is', async () => {
  const { paid, late } = await addLetters();
  program.receiver.onRequest = (request) => request.respond(200);
  const fine = await program.publish({ event_type: 'order.paid' });
  await program.deliveryIn('delivered', fine);
  const range = { since: '2020-01-01T00:00:00Z', until: '2099-01-01T00:00:00Z', webhook_id: webhook.id };
  const counts: number[] = [];
  for (const filter of [
    { response_status: 200 },
    { q: 'order.paid' },
    { event_id: fine },
    { event_id: fine, q: 'x' },
  ]) {
    counts.push((await program.post('/replays', { ...range, ...filter, dry_run: true })).body.estimated_deliveries);
  }
  expect(counts).toEqual([1, 3, 1, 0]);
  const other = await program.createWebhook({ events: ['nothing.here'] });
  const elsewhere = { ...range, webhook_id: other.id, event_id: fine, dry_run: true };
  expect((await program.post('/replays', elsewhere)).body.estimated_deliveries).toBe(0);
  await program.posthorn.call('DELETE', `/api/v1/webhooks/${other.id}`);
  const { body } = await program.post('/replays', { ...range, q: 'order.paid', response_status: 404 });
  expect(await program.ended(body.id)).toMatchObject({ replayed: 1, skipped: 0 });
  await program.deliveryIn('delivered', paid);
  expect(await letters()).toContain(late);
});
