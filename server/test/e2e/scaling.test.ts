import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { readConfig } from '../../src/config.ts';
import { systemClock } from '../../src/kernel/clock.ts';
import { eventually } from '../../src/testing/eventually.ts';
import { OPERATOR_KEY, startTestPosthorn, type TestPosthorn } from '../../src/testing/posthorn.ts';
import { type Receiver, startReceiver } from '../../src/testing/receiver.ts';
import { queryDatabase } from '../program/folder.ts';
import { publishPlainly } from './plain-publish.ts';

/** The names of call-center.md, "Scaling Configuration": each changes what it says. */

let receiver: Receiver;
let held: (() => void)[];
const running: TestPosthorn[] = [];
beforeEach(async () => {
  receiver = await startReceiver();
  held = [];
});
afterEach(async () => {
  letGo();
  for (const posthorn of running.splice(0)) await posthorn.stop();
  await receiver.stop();
});

/** Requests get no answer until `letGo`. */
const hold = () => {
  receiver.onRequest = (request) => held.push(() => request.respond(200));
};
const letGo = () => {
  receiver.onRequest = (request) => request.respond(200);
  for (const answer of held.splice(0)) answer();
};

/** The program as an environment with this variable configures it, with a webhook for everything. */
async function start(env: NodeJS.ProcessEnv, webhook: object = {}, clock = systemClock) {
  const usual: object = readConfig('dev', {});
  const changes = Object.entries(readConfig('dev', env)).filter(
    ([name, value]) => typeof value === 'number' && (usual as Record<string, unknown>)[name] !== value,
  );
  const posthorn = await startTestPosthorn(Object.fromEntries(changes), clock);
  running.push(posthorn);
  const created = await posthorn.call('POST', '/api/v1/webhooks', {
    name: 'All',
    url: receiver.url,
    events: ['*'],
    timeout_seconds: 60,
    ...webhook,
  });
  expect(created.status).toBe(201);
  return { posthorn, webhookId: created.body.id as string };
}

/** The system's clock, which notes what it was asked to wait for. */
function recordingClock() {
  const delays: number[] = [];
  const after = (delayMs: number, task: () => void) => {
    delays.push(delayMs);
    return systemClock.after(delayMs, task);
  };
  return { clock: { ...systemClock, after }, delays };
}

const publish = (posthorn: TestPosthorn, fields: object = {}, headers?: Record<string, string>) =>
  posthorn.call('POST', '/api/v1/events', { event_type: 'call.ended', data: { n: 1 }, ...fields }, headers);
const publishMany = async (posthorn: TestPosthorn, count: number) => {
  const events = Array.from({ length: count }, () => ({ event_type: 'call.ended', data: {} }));
  expect((await posthorn.call('POST', '/api/v1/events/batch', { events })).status).toBe(202);
};
const gauge = async (posthorn: TestPosthorn, name: string) => {
  const { text } = await posthorn.call('GET', '/metrics');
  return Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(text)?.[1]);
};

test.each([
  ['1', 1],
  // One tenant leaves as many places as it takes, for whoever comes.
  ['6', 3],
])('max_concurrent_deliveries: with %s, %i requests to a single tenant are under way', async (max, expected) => {
  hold();
  const { posthorn } = await start({ POSTHORN_MAX_CONCURRENT_DELIVERIES: max });
  await publishMany(posthorn, 10);
  await receiver.received(expected);
  const [inFlight, queued] = ['posthorn_requests_in_flight', 'posthorn_deliveries_queued'];
  expect([await gauge(posthorn, inFlight), await gauge(posthorn, queued)]).toEqual([expected, 10 - expected]);
  expect(receiver.requests).toHaveLength(expected);
  letGo();
  await receiver.received(10);
});

test('connection_pool_size: so many connections are open to a receiver, and the other requests wait for one', async () => {
  hold();
  const { posthorn } = await start({ POSTHORN_CONNECTION_POOL_SIZE: '2' });
  await publishMany(posthorn, 10);
  await receiver.received(2);
  await eventually(
    () => gauge(posthorn, 'posthorn_requests_in_flight'),
    (count) => count > 2,
  );
  expect(receiver.requests).toHaveLength(2);
  letGo();
  await receiver.received(10);
});

test.each([
  ['5', 5],
  ['200', 100],
])('batch_size: with %s, waiting deliveries are taken %i at a time', async (size, expected) => {
  const { posthorn, webhookId } = await start({ POSTHORN_BATCH_SIZE: size });
  await posthorn.call('POST', `/api/v1/webhooks/${webhookId}/pause`);
  await publishMany(posthorn, 100);
  await queryDatabase(
    posthorn.database.connection,
    `CREATE TABLE taken (count int);
     CREATE FUNCTION note_taken() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
       INSERT INTO taken SELECT count(*) FROM now_so WHERE lease_node IS NOT NULL AND due_at IS NULL AND attempt_count = 0
         AND status = 'pending' HAVING count(*) > 0;
       RETURN NULL;
     END $$;
     CREATE TRIGGER note_taken AFTER UPDATE ON deliveries REFERENCING NEW TABLE AS now_so
       FOR EACH STATEMENT EXECUTE FUNCTION note_taken()`,
  );
  await posthorn.call('POST', `/api/v1/webhooks/${webhookId}/resume`);
  await receiver.received(100);
  const [taken] = await queryDatabase(posthorn.database.connection, 'SELECT max(count), sum(count)::int FROM taken');
  expect(taken).toEqual({ max: expected, sum: 100 });
});

test('queue_check_interval: what a process was not told of is found after so long', async () => {
  const usual = recordingClock();
  const { posthorn } = await start({ POSTHORN_QUEUE_CHECK_INTERVAL: '1' }, {}, usual.clock);
  const inAnHour = new Date(Date.now() + 3_600_000).toISOString();
  await publish(posthorn, { deliver_at: inAnHour });
  // Nobody is told, as when the process that knew has ended.
  await queryDatabase(posthorn.database.connection, 'UPDATE deliveries SET due_at = now()');
  const startedAt = performance.now();
  await receiver.received(1);
  expect(performance.now() - startedAt).toBeLessThan(4_000);
  const seldom = recordingClock();
  await start({ POSTHORN_QUEUE_CHECK_INTERVAL: '299' }, {}, seldom.clock);
  expect([usual, seldom].map(({ delays }) => delays.includes(299_000))).toEqual([false, true]);
});

test('dead_letter_threshold: so many attempts make a dead letter, although the webhook allows more', async () => {
  receiver.onRequest = (request) => request.respond(500);
  const policy = { schedule_seconds: [0], max_attempts: 6, jitter: 0 };
  const { posthorn } = await start({ POSTHORN_DEAD_LETTER_THRESHOLD: '2' }, { retry_policy: policy });
  const { body: event } = await publish(posthorn);
  const dead = await eventually(
    async () => (await posthorn.call('GET', `/api/v1/deliveries?event_id=${event.id}`)).body.data[0],
    (delivery) => delivery?.status === 'dead',
  );
  expect([dead.attempt_count, receiver.requests.length]).toEqual([2, 2]);
  expect((await posthorn.call('GET', '/api/v1/dead-letters')).body.data).toHaveLength(1);
});

test('cleanup_interval: maintenance and retention come round after so long', async () => {
  const { clock, delays } = recordingClock();
  const { posthorn } = await start({ POSTHORN_CLEANUP_INTERVAL: '7700' }, {}, clock);
  expect([delays.includes(7_700_000), delays.includes(3_600_000)]).toEqual([true, false]);
  expect((await posthorn.call('POST', '/api/v1/retention/run')).status).toBeLessThan(300);
  await eventually(
    async () => delays.filter((delayMs) => delayMs === 7_700_000).length,
    (count) => count === 2,
  );
});

describe('max_queue_size', () => {
  const BOUND = { POSTHORN_MAX_QUEUE_SIZE: '5', POSTHORN_QUEUE_CHECK_INTERVAL: '1' };
  const refusedWith = (answer: Awaited<ReturnType<typeof publish>>) => [
    answer.status,
    answer.body.error.code,
    answer.headers.get('retry-after'),
  ];

  test('refuses events of a tenant whose queue is full by each way, and nothing accepted is lost', async () => {
    hold();
    const { posthorn } = await start(BOUND);
    for (let n = 0; n < 5; n += 1) expect((await publish(posthorn, { event_id: `e${n}` })).status).toBe(202);
    expect(refusedWith(await publish(posthorn))).toEqual([429, 'queue_full', '5']);
    const plain = await publishPlainly(posthorn.url, OPERATOR_KEY, { event_type: 'call.ended', data: 1 });
    expect([plain.status, plain.body.error.code, plain.headers['retry-after']]).toEqual([429, 'queue_full', '5']);
    expect(refusedWith(await publish(posthorn, {}, { 'idempotency-key': 'again' }))).toEqual([429, 'queue_full', '5']);
    const batch = await posthorn.call('POST', '/api/v1/events/batch', { events: [{ event_type: 'a', data: 1 }] });
    expect(refusedWith(batch)).toEqual([429, 'queue_full', '5']);
    expect((await posthorn.call('GET', '/api/v1/events')).body.data).toHaveLength(5);

    await posthorn.call('POST', '/api/v1/tenants', { name: 'Other', slug: 'other' });
    await posthorn.call('POST', '/api/v1/event-types', { name: 'call.ended' }, { 'x-tenant-id': 'other' });
    expect((await publish(posthorn, {}, { 'x-tenant-id': 'other' })).status).toBe(202);

    letGo();
    await receiver.received(5);
    const again = await eventually(
      () => publish(posthorn, {}, { 'idempotency-key': 'again' }),
      ({ status }) => status === 202,
    );
    expect(again.body.duplicate).toBe(false);
    await receiver.received(6);
  });

  test('counts what waits for a retry in its row, also after a restart, and not what is held', async () => {
    receiver.onRequest = (request) => request.respond(500);
    const policy = { schedule_seconds: [3_600], max_attempts: 3 };
    const { posthorn, webhookId } = await start(BOUND, { retry_policy: policy });
    await publishMany(posthorn, 7);
    await eventually(
      async () => (await posthorn.call('GET', '/api/v1/deliveries?status=failed')).body.data.length,
      (count) => count === 7,
    );
    await posthorn.restart();
    expect(refusedWith(await publish(posthorn))).toEqual([429, 'queue_full', '5']);

    for (const { id } of (await posthorn.call('GET', '/api/v1/deliveries')).body.data) {
      await posthorn.call('POST', `/api/v1/deliveries/${id}/cancel`);
    }
    await posthorn.call('POST', `/api/v1/webhooks/${webhookId}/pause`);
    await eventually(
      () => publish(posthorn),
      ({ status }) => status === 202,
    );
    for (let n = 0; n < 8; n += 1) expect((await publish(posthorn)).status).toBe(202);
    await posthorn.restart();
    expect((await publish(posthorn)).status).toBe(202);
  });

  test('is no bound unless it is set', async () => {
    hold();
    const { posthorn } = await start({ POSTHORN_QUEUE_CHECK_INTERVAL: '1' });
    await publishMany(posthorn, 500);
    expect((await publish(posthorn)).status).toBe(202);
    letGo();
  });
});
