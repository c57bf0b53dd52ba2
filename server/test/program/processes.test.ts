import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import { createTestDatabase } from '../../src/testing/database.ts';
import { eventually } from '../../src/testing/eventually.ts';
import { childrenOf, type Folder, isAlive, makeFolder, processEnd } from './folder.ts';
import { type Ledger, startLedger } from './ledger.ts';
import { runToEnd } from './program.ts';
import { ENV, OPERATOR_KEY, type Server, startServer } from './server.ts';

const PROCESSES = { ...ENV, POSTHORN_PROCESSES: '2', POSTHORN_MAX_IN_FLIGHT: '16' };

// Each start is that of three processes.
vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

let folder: Folder;
let ledger: Ledger;
/** Each test takes over what the last one left running. */
let server: Server;

beforeAll(async () => {
  folder = makeFolder();
  ledger = await startLedger();
  server = await startServer({ cwd: folder.path, env: PROCESSES });
  const webhook = { name: 'Ledger', url: ledger.url, events: ['*'] };
  expect((await server.call('POST', '/api/v1/webhooks', webhook)).status).toBe(201);
});
afterAll(async () => {
  await folder.remove();
  await ledger.stop();
});
beforeEach(() => {
  ledger.arrivals.length = 0;
  ledger.onArrival = () => ({ status: 200, afterMs: 0 });
});

const workers = () => childrenOf(server.pid).filter((pid) => pid !== folder.postmasterPid());

/** On a connection of its own, so that the processes take turns. */
const callAnew = (method: string, where: string, body?: unknown) =>
  server.call(method, where, body, { connection: 'close' });

async function publish(from: number, count: number): Promise<void> {
  const numbers = Array.from({ length: count }, (_, at) => from + at);
  const answers = await Promise.all(
    numbers.map((n) => callAnew('POST', '/api/v1/events', { event_type: 'order.paid', data: { n } })),
  );
  expect(answers.map(({ status }) => status)).toEqual(numbers.map(() => 202));
}

async function acceptedTotal(): Promise<number> {
  const { text } = await callAnew('GET', '/metrics');
  return Number(/^posthorn_events_accepted_total (\d+)$/m.exec(text)?.[1]);
}

async function bothRun(): Promise<void> {
  await eventually(
    async () => (await callAnew('GET', '/health/ready')).body.checks?.processes,
    (processes) => processes === '2 of 2 running',
    30_000,
  );
}

test('two processes serve one port, and what the person who started them needs is printed once', async () => {
  expect(workers()).toHaveLength(2);
  expect(server.output().match(/ is running\. Ctrl-C stops it\./g)).toHaveLength(1);
  expect(server.output().match(/curl -sS/g)).toHaveLength(1);
  await publish(0, 40);
  await eventually(
    async () => new Set(ledger.arrivals.map(({ event }) => event)).size,
    (arrived) => arrived === 40,
  );
  expect(ledger.arrivals).toHaveLength(40);
  const nodes = await folder.query<{ id: number }>('SELECT id FROM nodes');
  expect(nodes).toHaveLength(2);
});

test('no key or password stands in a command line', () => {
  for (const pid of [server.pid, ...workers()]) {
    const line = readFileSync(`/proc/${pid}/cmdline`, 'utf8');
    expect(line).not.toContain(OPERATOR_KEY);
    expect(line).not.toContain(readFileSync(`${folder.dataDir}/encryption.key`, 'utf8').trim());
  }
});

test('metrics are those of both, whoever answers, and do not fall when one of them dies', async () => {
  for (let n = 0; n < 4; n++) expect(await acceptedTotal()).toBe(40);
  const [doomed = 0] = workers();
  process.kill(doomed, 'SIGKILL');
  await processEnd(doomed);
  for (let n = 0; n < 4; n++) expect(await acceptedTotal()).toBe(40);
  await bothRun();
  expect(workers()).not.toContain(doomed);
  await publish(40, 10);
  for (let n = 0; n < 4; n++) expect(await acceptedTotal()).toBe(50);
});

test('who waits for a process that is killed is told so at once, and tries again', async () => {
  const [doomed = 0] = workers();
  process.kill(doomed, 'SIGSTOP');
  const answers = Array.from({ length: 24 }, async () => {
    try {
      return (await callAnew('GET', '/health/live')).status;
    } catch {
      return 'lost';
    }
  });
  await Promise.any(answers);
  process.kill(doomed, 'SIGKILL');
  await processEnd(doomed);
  const settled = await Promise.race([Promise.all(answers), pause(10_000, undefined, { ref: false })]);
  expect(settled, 'somebody waits for ever').toBeDefined();
  expect(settled).toContain(200);
  expect((await callAnew('GET', '/health/live')).status).toBe(200);
  await bothRun();
});

test('a change made at one process counts at the other at once', async () => {
  const { id } = (await callAnew('GET', '/api/v1/webhooks')).body.data[0];
  const becomes = (event: string, status: string) =>
    eventually(
      () => callAnew('GET', `/api/v1/deliveries?event_id=${event}`),
      ({ body }) => body.data[0].status === status,
    );
  const published: string[] = [];
  for (const action of ['pause', 'resume']) {
    expect((await callAnew('POST', `/api/v1/webhooks/${id}/${action}`)).status).toBe(200);
    const status = action === 'pause' ? 'held' : 'delivered';
    const events = await Promise.all(
      Array.from({ length: 4 }, async () => {
        const answer = await callAnew('POST', '/api/v1/events', { event_type: 'order.paid', data: { n: 1 } });
        return answer.body.event_id;
      }),
    );
    for (const event of events) await becomes(event, status);
    published.push(...events);
  }
  // Also those that were held: a few at a time.
  for (const event of published) await becomes(event, 'delivered');
});

test('a stop under load lets every process finish what is under way; the next start sends the rest: all once', async () => {
  ledger.onArrival = () => ({ status: 200, afterMs: 2_000 });
  await publish(100, 200);
  await eventually(
    async () => ledger.arrivals.length,
    (arrived) => arrived >= 20,
  );
  const pids = [server.pid, ...workers(), folder.postmasterPid() ?? 0];
  expect(await server.end('SIGTERM')).toEqual({ code: 0, signal: null });
  expect(server.errors()).toBe('');
  expect(server.output()).toMatch(/\nStopping: .+\nStopped\.\n$/);
  expect(pids.filter(isAlive)).toEqual([]);
  await ledger.nextLife();
  const before = ledger.arrivals.length;
  expect(before).toBeLessThan(200);

  ledger.onArrival = () => ({ status: 200, afterMs: 0 });
  server = await startServer({ cwd: folder.path, env: PROCESSES });
  await eventually(
    async () => new Set(ledger.arrivals.map(({ event }) => event)).size,
    (arrived) => arrived === 200,
    30_000,
  );
  expect(ledger.arrivals).toHaveLength(200);
});

test('when the first process is killed the others end by themselves, and the next start finds all free', async () => {
  const left = workers();
  expect(left).toHaveLength(2);
  await server.end('SIGKILL');
  await Promise.all(left.map(processEnd));
  const listener = createServer().listen(Number(new URL(server.url).port), '127.0.0.1');
  await once(listener, 'listening');
  listener.close();
  server = await startServer({ cwd: folder.path, env: { ...PROCESSES, POSTHORN_DRAIN_SECONDS: '1' } });
  await publish(300, 4);
  await eventually(
    async () => ledger.arrivals.filter(({ event }) => event >= 300).length,
    (arrived) => arrived === 4,
  );
});

test('a receiver that does not answer holds a stop no longer than the drain time', async () => {
  ledger.onArrival = () => ({ status: 200, afterMs: 25_000 });
  await publish(400, 4);
  await eventually(
    async () => ledger.arrivals.length,
    (arrived) => arrived === 4,
  );
  const beganAtMs = performance.now();
  expect(await server.end('SIGTERM')).toEqual({ code: 0, signal: null });
  expect(performance.now() - beganAtMs).toBeLessThan(10_000);
});

test('a start that cannot be says why in one line and leaves no process: a taken port, too few connections', async () => {
  const busy = createServer().listen(0, '127.0.0.1');
  await once(busy, 'listening');
  const port = (busy.address() as { port: number }).port;
  const database = await createTestDatabase();
  try {
    const env = { ...PROCESSES, DATABASE_URL: database.connectionString };
    const taken = await runToEnd(['dev'], { cwd: folder.path, env: { ...env, POSTHORN_PORT: String(port) } });
    expect(taken).toEqual({
      code: 1,
      output: '',
      errors: `posthorn: 127.0.0.1:${port} is taken by another program: stop it, or set POSTHORN_PORT to a free port.\n`,
    });
    const many = await runToEnd(['dev', '--processes', '64'], { cwd: folder.path, env });
    expect(many).toMatchObject({ code: 1, output: '' });
    expect(many.errors).toMatch(
      /^posthorn: 64 processes need \d+ database connections, and PostgreSQL gives \d+: .+\n$/,
    );
    const wrong = await runToEnd(['dev', '--processes', '0'], { cwd: folder.path, env });
    expect(wrong).toMatchObject({ code: 1, output: '' });
    expect(wrong.errors).toContain('It must be a whole number from 1 to 64.');
  } finally {
    busy.close();
    await database.drop();
  }
});
