import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { NODE_SILENCE_MS_MAX } from '../../src/delivery/nodes/node-registry.ts';
import { eventually } from '../../src/testing/eventually.ts';
import { childrenOf, type Folder, makeFolder, processEnd } from './folder.ts';
import type { Server } from './server.ts';
import { createSharedDatabase, readUpTo, type SharedDatabase, wasUnderWay } from './shared-database.ts';

const EVENTS = 80;
const IN_FLIGHT_MAX = 4;

/** The promise: from the death of a node until another one sends what it had in hand. */
const TAKEOVER_MS_MAX = 15_000;

let folder: Folder;
let shared: SharedDatabase;

beforeAll(() => {
  folder = makeFolder();
});
afterAll(() => folder.remove());

beforeEach(async () => {
  shared = await createSharedDatabase(folder);
});
afterEach(() => shared.remove());

interface Leased {
  event: number;
  node: number;
}

/** Who has which event's delivery in hand. */
const leases = () =>
  shared.query<Leased>(`
    SELECT (convert_from(e.data, 'UTF8')::jsonb ->> 'n')::int AS event, d.lease_node AS node
    FROM deliveries d JOIN events e ON e.id = d.event_id WHERE d.lease_node IS NOT NULL ORDER BY 1`);

async function subscribe(at: Server): Promise<void> {
  expect((await at.call('POST', '/api/v1/event-types', { name: 'order.paid' })).status).toBe(201);
  const webhook = { name: 'Ledger', url: shared.ledger.url, events: ['*'] };
  expect((await at.call('POST', '/api/v1/webhooks', webhook)).status).toBe(201);
}

/** Publishes in turn to each, while the receiver answers nothing, so that all of it stays in hand. Gives the answers. */
async function publishTo(servers: Server[]): Promise<() => void> {
  const { promise: heldUntil, resolve: answer } = Promise.withResolvers<void>();
  shared.ledger.onArrival = () => ({ status: 200, afterMs: 0, heldUntil });
  const publish = async (n: number) => {
    const server = servers[n % servers.length];
    const headers = { connection: 'close' };
    const answer = await server?.call('POST', '/api/v1/events', { event_type: 'order.paid', data: { n } }, headers);
    expect(answer?.status).toBe(202);
  };
  for (let n = 0; n < EVENTS; n += 8) await Promise.all(Array.from({ length: 8 }, (_, at) => publish(n + at)));
  // A tenant has half of the places of each of the two.
  await eventually(
    async () => shared.ledger.arrivals.length,
    (arrived) => arrived === IN_FLIGHT_MAX,
  );
  return answer;
}

/** Kills, and gives how long it took until another node had sent something of the dead one's, and all of it was free. */
async function takeoverMs(
  answer: () => void,
  kill: () => Promise<unknown>,
  dead: () => Promise<number>,
): Promise<number> {
  const inHand = await leases();
  const arrivedBefore = new Set(shared.ledger.arrivals.map(({ event }) => event));
  const killedAtMs = Date.now();
  await kill();
  const deadAtMs = await readUpTo();
  shared.ledger.onArrival = () => ({ status: 200, afterMs: 0 });
  answer();
  const node = await dead();
  const waiting = inHand.filter((lease) => lease.node === node && !arrivedBefore.has(lease.event));
  expect(waiting.length, 'it had something in hand').toBeGreaterThan(IN_FLIGHT_MAX);
  const events = new Set(waiting.map(({ event }) => event));
  const first = await eventually(
    async () => shared.ledger.arrivals.find(({ event, atMs }) => events.has(event) && atMs > deadAtMs),
    (arrival) => arrival !== undefined,
    2 * TAKEOVER_MS_MAX,
  );
  await eventually(
    async () => (await leases()).filter((lease) => lease.node === node),
    (left) => left.length === 0,
  );
  await expectAllOnce(killedAtMs, deadAtMs);
  return (first?.atMs ?? Number.NaN) - killedAtMs;
}

/** Everything is delivered, and what came twice had been under way at the kill. */
async function expectAllOnce(killedAtMs: number, deadAtMs: number): Promise<void> {
  await eventually(
    () => shared.query<{ count: number }>("SELECT count(*)::int AS count FROM deliveries WHERE status = 'delivered'"),
    ([row]) => row?.count === EVENTS,
    30_000,
  );
  const byEvent = Map.groupBy(shared.ledger.arrivals, ({ event }) => event);
  expect(byEvent.size).toBe(EVENTS);
  const twice = [...byEvent.values()].filter((arrivals) => arrivals.length > 1);
  expect(twice.filter(([first]) => !wasUnderWay(first, killedAtMs, deadAtMs))).toEqual([]);
  expect(twice.length).toBeLessThanOrEqual(IN_FLIGHT_MAX);
}

test('of two programs on one database, what a killed one had in hand is sent by the other within 15 seconds', async () => {
  const inFlight = { POSTHORN_MAX_IN_FLIGHT: String(IN_FLIGHT_MAX) };
  const doomed = await shared.startNode(inFlight);
  const [dead = 0] = await shared.nodeIds();
  const heir = await shared.startNode(inFlight);
  await subscribe(doomed);
  const answer = await publishTo([doomed, heir]);
  const ms = await takeoverMs(
    answer,
    () => doomed.end('SIGKILL'),
    async () => dead,
  );
  console.log(`takeover from a killed program: ${ms} ms`);
  expect(ms).toBeLessThan(TAKEOVER_MS_MAX);
  expect(await shared.nodeIds()).not.toContain(dead);
  expect(await heir.end('SIGTERM')).toEqual({ code: 0, signal: null });
}, 180_000);

test('of two processes of one program, what a killed one had in hand is sent before its silence would tell', async () => {
  const server = await shared.startNode({ POSTHORN_MAX_IN_FLIGHT: String(2 * IN_FLIGHT_MAX) }, ['--processes', '2']);
  const nodes = await shared.nodeIds();
  expect(nodes).toHaveLength(2);
  await subscribe(server);
  const answer = await publishTo([server]);
  const [doomed = 0] = childrenOf(server.pid);
  const ms = await takeoverMs(
    answer,
    async () => {
      process.kill(doomed, 'SIGKILL');
      await processEnd(doomed);
    },
    async () => {
      const left = await eventually(shared.nodeIds, (ids) => nodes.some((id) => !ids.includes(id)));
      return nodes.find((id) => !left.includes(id)) ?? 0;
    },
  );
  console.log(`takeover from a killed process: ${ms} ms`);
  expect(ms).toBeLessThan(NODE_SILENCE_MS_MAX);
  const ready = await eventually(
    async () => (await server.call('GET', '/health/ready')).body.checks.processes,
    (processes) => processes === '2 of 2 running',
    30_000,
  );
  expect(ready).toBe('2 of 2 running');
  expect(await server.end('SIGTERM')).toEqual({ code: 0, signal: null });
}, 180_000);
