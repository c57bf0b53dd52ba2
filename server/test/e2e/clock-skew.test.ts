import { afterAll, beforeAll, expect, test } from 'vitest';
import { type RunningPosthorn, startPosthorn } from '../../src/app.ts';
import { readConfig } from '../../src/config.ts';
import { type Clock, systemClock } from '../../src/kernel/clock.ts';
import { createLogger } from '../../src/kernel/logger.ts';
import { verifyStandard } from '../../src/signing/verify.ts';
import { createTestDatabase, type TestDatabase } from '../../src/testing/database.ts';
import { eventually } from '../../src/testing/eventually.ts';
import { OPERATOR_KEY } from '../../src/testing/posthorn.ts';
import { type ReceivedRequest, type Receiver, startReceiver } from '../../src/testing/receiver.ts';
import { queryDatabase } from '../program/folder.ts';

const SKEW_MS = 5_000;

/** A busy machine may be that late beside the skew. */
const LATE_MS_MAX = 4_000;

let database: TestDatabase;
let receiver: Receiver;
/** One goes five seconds fast, one goes right. */
let nodes: RunningPosthorn[];
let nodeIds: number[];

interface Arrival {
  n: number;
  attempt: number;
  atMs: number;
  request: ReceivedRequest;
}

const arrivals: Arrival[] = [];

const skewed = (byMs: number): Clock => ({ ...systemClock, now: () => systemClock.now() + byMs });

const query = <Row extends object>(sql: string) => queryDatabase<Row>(database.connection, sql);

const readNodeIds = async () => (await query<{ id: number }>('SELECT id FROM nodes ORDER BY id')).map(({ id }) => id);

beforeAll(async () => {
  database = await createTestDatabase();
  receiver = await startReceiver();
  receiver.onRequest = (request) => {
    const { data } = JSON.parse(request.body.toString());
    const attempt = Number(request.headers['x-webhook-attempt']);
    arrivals.push({ n: data.n, attempt, atMs: Date.now(), request });
    request.respond(data.fails === true && attempt === 1 ? 503 : 200);
  };
  const config = {
    ...readConfig('dev', {}),
    port: 0,
    databaseUrl: database.connectionString,
    operatorKey: OPERATOR_KEY,
    encryptionKey: Buffer.alloc(32, 7),
    drainSeconds: 5,
  };
  const logger = createLogger('silent');
  nodes = [
    await startPosthorn(config, { logger, clock: skewed(SKEW_MS) }),
    await startPosthorn(config, { logger, clock: skewed(0) }),
  ];
  nodeIds = await readNodeIds();
});
afterAll(async () => {
  await Promise.all(nodes.map((node) => node.stop()));
  await receiver.stop();
  await database.drop();
});

async function call(node: number, method: string, path: string, body?: unknown) {
  const response = await fetch(nodes[node % nodes.length]?.url + path, {
    method,
    headers: {
      authorization: `Bearer ${OPERATOR_KEY}`,
      ...(body !== undefined && { 'content-type': 'application/json' }),
    },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  });
  expect(response.ok, `${method} ${path}`).toBe(true);
  // biome-ignore lint/suspicious/noExplicitAny: the body's shape is what the test is about
  return (await response.json()) as any;
}

const publish = (node: number, n: number, data: object = {}, fields: object = {}) =>
  call(node, 'POST', '/api/v1/events', { event_type: 'order.paid', data: { n, ...data }, ...fields });

const arrived = (from: number, count: number, attempt = 1) =>
  eventually(
    async () =>
      arrivals.filter((arrival) => arrival.n >= from && arrival.n < from + count && arrival.attempt === attempt),
    (found) => found.length >= count,
    30_000,
  );

const allDelivered = () =>
  eventually(
    () => query("SELECT id, status FROM deliveries WHERE status <> 'delivered' OR lease_node IS NOT NULL"),
    (rows) => rows.length === 0,
    30_000,
  );

test('events published at either node are delivered once, and neither node takes the other for dead', async () => {
  const { id } = await call(0, 'POST', '/api/v1/webhooks', {
    name: 'Skewed',
    url: receiver.url,
    events: ['*'],
    retry_policy: { schedule_seconds: [7], jitter: 0 },
  });
  expect((await call(1, 'GET', `/api/v1/webhooks/${id}`)).status).toBe('active');
  for (let n = 0; n < 40; n++) await publish(n, n);
  await arrived(0, 40);
  await allDelivered();
  expect(arrivals).toHaveLength(40);
  expect(await readNodeIds()).toEqual(nodeIds);
});

test('a retry, and what waits for its time, comes at most five seconds early or late, whoever sends it, and once', async () => {
  const deliverAtMs = Date.now() + 7_000;
  for (let n = 100; n < 120; n++) await publish(n, n, { fails: true });
  for (let n = 200; n < 220; n++) await publish(n, n, {}, { deliver_at: new Date(deliverAtMs).toISOString() });
  const first = await arrived(100, 20, 1);
  const second = await arrived(100, 20, 2);
  for (const { n, atMs } of second) {
    const failedAtMs = first.find((arrival) => arrival.n === n)?.atMs ?? Number.NaN;
    expect(atMs - failedAtMs).toBeGreaterThan(7_000 - SKEW_MS - 100);
    expect(atMs - failedAtMs).toBeLessThan(7_000 + SKEW_MS + LATE_MS_MAX);
  }
  for (const { atMs } of await arrived(200, 20)) {
    expect(atMs).toBeGreaterThan(deliverAtMs - SKEW_MS - 100);
    expect(atMs).toBeLessThan(deliverAtMs + SKEW_MS + LATE_MS_MAX);
  }
  await allDelivered();
  expect(arrivals.filter(({ n }) => n >= 100 && n < 120)).toHaveLength(40);
  expect(arrivals.filter(({ n }) => n >= 200 && n < 220)).toHaveLength(20);
}, 60_000);

test('a secret that was replaced signs on at both nodes until its grace is over', async () => {
  const { data: webhooks } = await call(0, 'GET', '/api/v1/webhooks');
  const path = `/api/v1/webhooks/${webhooks[0].id}/secret`;
  const old = (await call(1, 'GET', path)).secret;
  const { secret } = await call(0, 'POST', `${path}/rotate`, { grace_period_seconds: 3_600 });
  expect((await call(1, 'GET', path)).secret).toBe(secret);
  for (let n = 300; n < 304; n++) await publish(n, n);
  for (const { request } of await arrived(300, 4)) {
    const { headers, body } = request;
    for (const each of [old, secret]) {
      expect(verifyStandard(headers as Record<string, string>, body, each, Date.now()).valid).toBe(true);
    }
  }
  await call(1, 'POST', `${path}/rotate`, { grace_period_seconds: 0 });
  await publish(0, 310);
  await publish(1, 311);
  for (const { request } of await arrived(310, 2)) {
    const { headers, body } = request;
    expect(verifyStandard(headers as Record<string, string>, body, old, Date.now()).valid).toBe(true);
    expect(verifyStandard(headers as Record<string, string>, body, secret, Date.now()).valid).toBe(false);
  }
});

test('what a dead node had in hand is sent by a living one, once, and the living ones stay who they are', async () => {
  const inADay = new Date(Date.now() + 86_400_000).toISOString();
  for (let n = 400; n < 410; n++) await publish(n, n, {}, { deliver_at: inADay });
  const [dead] = await query<{ id: number }>(
    `INSERT INTO nodes (started_at, heartbeat_at, oldest_leased_id)
     VALUES (now(), now() - interval '1 minute', '00000000-0000-0000-0000-000000000000') RETURNING id`,
  );
  await query(`UPDATE deliveries SET lease_node = ${dead?.id}, due_at = NULL WHERE due_at > now() + interval '1 hour'`);
  await arrived(400, 10);
  await allDelivered();
  expect(arrivals.filter(({ n }) => n >= 400)).toHaveLength(10);
  expect(await readNodeIds()).toEqual(nodeIds);
});

test.for([
  ['keeps an order', 500, { ordering: { enabled: true, key_path: 'key' } }],
  ['has a rate limit', 600, { rate_limit_per_minute: 6_000 }],
] as const)(
  'an event for a webhook that %s is sent at once, whichever node accepts it and whichever sends',
  async ([what, from, limits]) => {
    const type = `bound.${from}`;
    // Of so many webhooks either node has some.
    const names = Array.from({ length: 16 }, (_, at) => `${what} ${at}`);
    for (const name of names)
      await call(0, 'POST', '/api/v1/webhooks', { name, url: receiver.url, events: [type], ...limits });
    for (const node of [0, 1]) {
      const acceptedAtMs = Date.now();
      await call(node, 'POST', '/api/v1/events', { event_type: type, data: { n: from + node, key: 'k' } });
      // The first test's webhook takes every event.
      const arrivedAtMs = (await arrived(from + node, 1 + names.length)).map(({ atMs }) => atMs);
      expect(Math.max(...arrivedAtMs) - acceptedAtMs).toBeLessThan(2_500);
    }
    await allDelivered();
    expect(await query('SELECT DISTINCT node_id FROM lanes WHERE node_id IS NOT NULL')).toHaveLength(2);
  },
);
