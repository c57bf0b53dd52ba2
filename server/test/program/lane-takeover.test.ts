import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { eventually } from '../../src/testing/eventually.ts';
import { childrenOf, type Folder, makeFolder, processEnd } from './folder.ts';
import type { Arrival } from './ledger.ts';
import type { Server } from './server.ts';
import { createSharedDatabase, readUpTo, type SharedDatabase, wasUnderWay } from './shared-database.ts';

/** The promise: from the death of a node until others send to the webhooks that only it sent to. */
const TAKEOVER_MS_MAX = 15_000;

const KEYS = 3;
const CONCURRENCY = 2;
const LIMITS = { ordered: { ordering: { enabled: true } }, limited: { max_concurrency: CONCURRENCY } };
const KINDS = ['ordered', 'limited'] as const;
/** Events that wait behind a slow receiver when the node dies; each goes to every webhook. */
const BACKLOG = 30;

let folder: Folder;
let shared: SharedDatabase;
/** The first event of each webhook, by its name, which is the path that it posts to. */
let firstEvents: Map<string, number>;
let published: number;

beforeAll(() => {
  folder = makeFolder();
});
afterAll(() => folder.remove());

beforeEach(async () => {
  shared = await createSharedDatabase(folder);
  [firstEvents, published] = [new Map(), 0];
});
afterEach(() => shared.remove());

interface OwnedLane {
  name: string;
  node: number | null;
}

const lanes = () =>
  shared.query<OwnedLane>('SELECT w.name, l.node_id AS node FROM lanes l JOIN webhooks w ON w.id = l.webhook_id');

/** Publishes to the nodes in turn, one event after the other, so that their order is known. */
async function publish(nodes: Server[], count: number): Promise<void> {
  for (const end = published + count; published < end; published += 1) {
    const n = published;
    const body = { event_type: 'order.paid', data: { n }, ordering_key: `k${n % KEYS}` };
    const answer = await nodes[n % nodes.length]?.call('POST', '/api/v1/events', body, { connection: 'close' });
    expect(answer?.status).toBe(202);
  }
}

/** Makes ordered and limited webhooks until each node has the lanes of both; who has one is the rows' word. */
async function createLanes(nodes: Server[], nodeIds: number[]): Promise<void> {
  const [at] = nodes;
  expect((await at?.call('POST', '/api/v1/event-types', { name: 'order.paid' }))?.status).toBe(201);
  const hasAll = (owned: OwnedLane[]) =>
    nodeIds.every((id) => KINDS.every((kind) => owned.some(({ name, node }) => node === id && name.startsWith(kind))));
  do {
    for (const kind of KINDS) {
      const name = `${kind}-${firstEvents.size}`;
      const webhook = { name, url: `${shared.ledger.url}/${name}`, events: ['*'], ...LIMITS[kind] };
      expect((await at?.call('POST', '/api/v1/webhooks', webhook))?.status).toBe(201);
      firstEvents.set(name, published);
    }
    await publish(nodes, 1);
  } while (!hasAll(await eventually(lanes, (owned) => owned.filter(isOwned).length === firstEvents.size)));
}

const isOwned = ({ node }: OwnedLane) => node !== null;

/** Requests at once to a webhook of that name. */
const underWayMax = (name: string) => (name.startsWith('ordered') ? KEYS : CONCURRENCY);

const arrivalsAt = (name: string) => shared.ledger.arrivals.filter(({ path }) => path === `/${name}`);

/**
 * Lets events wait for every lane, kills a node, and expects that others take its lanes and send what waits in them in
 * time, in order, within the limits, and again only what was under way.
 *
 * @param kill kills a node and gives its number.
 */
async function expectLanesMove(nodes: Server[], kill: () => Promise<number>): Promise<void> {
  const held = Promise.withResolvers<void>();
  shared.ledger.onArrival = () => ({ status: 200, afterMs: 0, heldUntil: held.promise });
  await publish(nodes, BACKLOG);
  const underWay = (name: string) => arrivalsAt(name).filter(({ answeredAtMs }) => answeredAtMs === undefined);
  await eventually(
    async () => [...firstEvents.keys()].filter((name) => underWay(name).length !== underWayMax(name)),
    (others) => others.length === 0,
  );
  const owned = await lanes();
  const killedAtMs = Date.now();
  const dead = await kill();
  const deadAtMs = await readUpTo();
  shared.ledger.onArrival = () => ({ status: 200, afterMs: 20 });
  held.resolve();
  const doomed = owned.filter(({ node }) => node === dead).map(({ name }) => name);
  for (const kind of KINDS) expect(doomed.filter((name) => name.startsWith(kind))).not.toEqual([]);
  for (const name of doomed) expect(arrivalsAt(name).length, `${name} has events waiting`).toBeLessThan(BACKLOG / 2);

  await eventually(lanes, (now) => now.every(({ node }) => node !== dead), 2 * TAKEOVER_MS_MAX);
  const movedMs = Date.now() - killedAtMs;
  await eventually(
    async () => [...firstEvents].filter(([name, first]) => numbersAt(name).size < published - first),
    (incomplete) => incomplete.length === 0,
    2 * TAKEOVER_MS_MAX,
  );
  await eventually(
    () => shared.query<{ count: number }>('SELECT count(*)::int AS count FROM deliveries WHERE completed_at IS NULL'),
    ([row]) => row?.count === 0,
  );
  const lastAtMs = Math.max(...doomed.flatMap((name) => arrivalsAt(name).map(({ atMs }) => atMs)));
  console.log(
    `lanes had another node after ${movedMs} ms; what waited in them had come after ${lastAtMs - killedAtMs} ms`,
  );
  expect(movedMs).toBeLessThan(TAKEOVER_MS_MAX);
  expect(lastAtMs - killedAtMs).toBeLessThan(TAKEOVER_MS_MAX);
  await eventually(lanes, (now) => now.every((lane) => isOwned(lane) && lane.node !== dead));
  for (const name of firstEvents.keys()) {
    expectKept(name, deadAtMs);
    expectSentOnce(name, (first) => doomed.includes(name) && wasUnderWay(first, killedAtMs, deadAtMs));
  }
}

const numbersAt = (name: string) => new Set(arrivalsAt(name).map(({ event }) => event));

/** The order of each key, and the concurrency. Not counted is what the dead node still had under way. */
function expectKept(name: string, deadAtMs: number): void {
  const arrivals = arrivalsAt(name);
  if (name.startsWith('ordered')) {
    for (const [key, ofKey] of Map.groupBy(arrivals, ({ event }) => event % KEYS)) {
      const numbers = ofKey.map(({ event }) => event);
      expect([name, key, numbers]).toEqual([name, key, numbers.toSorted((a, b) => a - b)]);
    }
    return;
  }
  const after = arrivals.filter(({ atMs }) => atMs > deadAtMs);
  for (const each of after) {
    const atOnce = after.filter((other) => other.atMs <= each.atMs && (other.answeredAtMs ?? 0) > each.atMs);
    expect(atOnce.length, `${name} at once`).toBeLessThanOrEqual(CONCURRENCY);
  }
}

/** @param mayComeAgain of the first arrival of an event: whether its node was killed meanwhile. */
function expectSentOnce(name: string, mayComeAgain: (first: Arrival | undefined) => boolean): void {
  const again = [...Map.groupBy(arrivalsAt(name), ({ event }) => event).values()].filter(({ length }) => length > 1);
  expect([name, again.filter(([first]) => !mayComeAgain(first))]).toEqual([name, []]);
  expect(again.length, name).toBeLessThanOrEqual(underWayMax(name));
}

test('of two programs, the lanes of a killed one are the other’s within 15 seconds, with their order and limits', async () => {
  const doomed = await shared.startNode({});
  const [dead = 0] = await shared.nodeIds();
  const heir = await shared.startNode({});
  await createLanes([doomed, heir], await shared.nodeIds());
  await expectLanesMove([doomed, heir], async () => {
    await doomed.end('SIGKILL');
    return dead;
  });
  expect(await heir.end('SIGTERM')).toEqual({ code: 0, signal: null });
}, 120_000);

test('of two processes, the lanes of a killed one are another’s within 15 seconds, with their order and limits', async () => {
  const server = await shared.startNode({}, ['--processes', '2']);
  const nodeIds = await shared.nodeIds();
  expect(nodeIds).toHaveLength(2);
  await createLanes([server], nodeIds);
  const [doomed = 0] = childrenOf(server.pid);
  await expectLanesMove([server], async () => {
    process.kill(doomed, 'SIGKILL');
    await processEnd(doomed);
    const left = await eventually(shared.nodeIds, (ids) => nodeIds.some((id) => !ids.includes(id)));
    return nodeIds.find((id) => !left.includes(id)) ?? 0;
  });
  expect(await server.end('SIGTERM')).toEqual({ code: 0, signal: null });
}, 120_000);
