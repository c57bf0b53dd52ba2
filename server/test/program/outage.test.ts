import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../../src/db/embedded.ts';
import { eventually } from '../../src/testing/eventually.ts';
import { makeTemporaryDirectory } from '../../src/testing/temporary-directory.ts';
import { childrenOf, type Folder, makeFolder, queryDatabase } from './folder.ts';
import { type Ledger, startLedger } from './ledger.ts';
import { ENV, type Server, startServer } from './server.ts';
import { publishSteadily } from './steady-publishing.ts';

/** Longer than a node may be silent before others take it for dead. */
const AWAY_MS = 20_000;

let folder: Folder;
let ledger: Ledger;
/** A database that is not Posthorn's own: nobody but the test starts it again. */
let dataDirectory: string;
let postgres: EmbeddedPostgres;

const startPostgres = () => startEmbeddedPostgres({ dataDirectory, onLog: () => {} });

beforeAll(async () => {
  folder = makeFolder();
  ledger = await startLedger();
  dataDirectory = makeTemporaryDirectory();
  postgres = await startPostgres();
});
afterAll(async () => {
  await folder.remove();
  await ledger.stop();
  await postgres.stop();
});

test('a database that is away for 20 seconds: events are refused meanwhile, none is lost, nothing is sent twice, and all goes on by itself', async () => {
  const { connectionString, connection } = postgres;
  const env = { ...ENV, DATABASE_URL: connectionString, POSTHORN_MAX_IN_FLIGHT: '16' };
  const server = await startServer({ cwd: folder.path, env, args: ['--processes', '2'] });
  const webhook = { name: 'Ledger', url: ledger.url, events: ['*'] };
  expect((await server.call('POST', '/api/v1/webhooks', webhook)).status).toBe(201);
  // Some are under way when it goes, and answered while it is away.
  ledger.onArrival = () => ({ status: 200, afterMs: 400 });
  let away = false;
  const publishing = publishSteadily({
    url: server.url,
    eventType: 'order.paid',
    pauseMs: 50,
    mayPublish: (accepted) => away || accepted - ledger.arrivals.length < 100,
  });
  await eventually(
    async () => ledger.arrivals.length,
    (arrived) => arrived >= 60,
  );

  process.kill(postgres.pid, 'SIGKILL');
  await postgres.whenDead;
  away = true;
  const goneAtMs = Date.now();
  const refused = await eventually(
    () => server.call('POST', '/api/v1/events', { event_type: 'order.paid', data: { n: -1 } }),
    ({ status }) => status === 503,
  );
  expect(refused.body.error).toMatchObject({ code: 'unavailable', retry_after: expect.any(String) });
  await eventually(
    () => server.call('GET', '/health/ready'),
    ({ status }) => status === 503,
  );
  expect((await server.call('GET', '/health/live')).status).toBe(200);
  const acceptedBefore = publishing.accepted.size;
  await pause(AWAY_MS - (Date.now() - goneAtMs));
  expect(publishing.accepted.size).toBe(acceptedBefore);
  expect(publishing.answers.get(503)).toBeGreaterThan(20);

  postgres = await startPostgres();
  const backAtMs = Date.now();
  away = false;
  await eventually(
    async () => publishing.accepted.size,
    (accepted) => accepted > acceptedBefore + 20,
    15_000,
  );
  console.log(`accepting again ${Date.now() - backAtMs} ms after the database was back`);
  await publishing.stop();
  const query = <Row extends object>(sql: string) => queryDatabase<Row>(connection, sql);
  await eventually(
    () =>
      query(
        "SELECT id, status, lease_node FROM deliveries WHERE status <> 'delivered' OR lease_node IS NOT NULL LIMIT 9",
      ),
    (rows) => rows.length === 0,
    60_000,
  );
  const numbers = ledger.arrivals.map(({ event }) => event);
  const arrived = new Set(numbers);
  expect([...publishing.accepted.keys()].filter((n) => !arrived.has(n))).toEqual([]);
  expect(numbers.filter((n, at) => numbers.indexOf(n) !== at)).toEqual([]);
  expect(await isReady(server)).toBe(true);
  expect(await server.end('SIGTERM')).toEqual({ code: 0, signal: null });
}, 180_000);

test('a stop while the database does not answer takes the drain time and a few seconds, and what was accepted is delivered later', async () => {
  const { connectionString } = postgres;
  ledger.arrivals.length = 0;
  ledger.onArrival = () => ({ status: 200, afterMs: 0 });
  const env = { ...ENV, DATABASE_URL: connectionString, POSTHORN_DRAIN_SECONDS: '2' };
  const server = await startServer({ cwd: folder.path, env });
  const publish = (n: number) => server.call('POST', '/api/v1/events', { event_type: 'order.late', data: { n } });
  const webhook = { name: 'Late', url: ledger.url, events: ['order.late'] };
  expect((await server.call('POST', '/api/v1/webhooks', webhook)).status).toBe(201);
  for (let n = 1_000_000; n < 1_000_020; n++) expect((await publish(n)).status).toBe(202);
  const processes = [postgres.pid, ...childrenOf(postgres.pid)];
  for (const pid of processes) process.kill(pid, 'SIGSTOP');
  try {
    // Some of the statements are never answered; the publisher is cut off.
    publish(1_000_020).catch(() => {});
    const beganAtMs = performance.now();
    expect(await server.end('SIGTERM')).toEqual({ code: 0, signal: null });
    expect(performance.now() - beganAtMs).toBeLessThan(12_000);
  } finally {
    for (const pid of processes) process.kill(pid, 'SIGCONT');
  }
  const next = await startServer({ cwd: folder.path, env });
  await eventually(
    () =>
      queryDatabase(
        postgres.connection,
        "SELECT FROM deliveries WHERE status <> 'delivered' OR lease_node IS NOT NULL",
      ),
    (rows) => rows.length === 0,
    30_000,
  );
  for (let n = 1_000_000; n < 1_000_020; n++) expect(ledger.arrivals.map(({ event }) => event)).toContain(n);
  expect(await next.end('SIGTERM')).toEqual({ code: 0, signal: null });
}, 90_000);

async function isReady(server: Server): Promise<boolean> {
  return (await server.call('GET', '/health/ready')).status === 200;
}
