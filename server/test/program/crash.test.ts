import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { eventually } from '../../src/testing/eventually.ts';
import { type Folder, isAlive, makeFolder, processEnd } from './folder.ts';
import { type Arrival, type Ledger, startLedger } from './ledger.ts';
import { killAllPrograms } from './program.ts';
import { createPublishing, type Publishing } from './publishing.ts';
import { ENV, type Server, startServer } from './server.ts';

let folder: Folder;
let ledger: Ledger;
/** Each test takes over the one that the last test left running. */
let server: Server | undefined;

beforeAll(() => {
  folder = makeFolder();
});
beforeEach(async () => {
  ledger = await startLedger();
});
afterEach(async ({ task }) => {
  if (task.result?.state === 'fail') {
    await killAllPrograms();
    server = undefined;
  }
  await ledger.stop();
});
afterAll(() => folder.remove());

/** Few requests at once, so that most deliveries still wait in memory when the program is killed. */
const BUSY = { ...ENV, POSTHORN_MAX_IN_FLIGHT: '16' };

/** Without `setpriv` on the search path nobody stops PostgreSQL when the program is killed. */
const ALONE = { ...BUSY, PATH: '' };

/** A start that waits for a left-over PostgreSQL to give up would take longer. */
const START_MS_MAX = 25_000;

async function start(env: Record<string, string> = BUSY): Promise<Server> {
  server = await startServer({ cwd: folder.path, env });
  expect(server.startMs).toBeLessThan(START_MS_MAX);
  return server;
}

async function subscribe(at: Server, eventType: string, fields: object = {}): Promise<string> {
  const answer = await at.call('POST', '/api/v1/webhooks', {
    name: eventType,
    url: ledger.url,
    events: [eventType],
    ...fields,
  });
  expect(answer.status).toBe(201);
  return answer.body.id;
}

const nameOf = ({ event, attempt }: { event: number; attempt: number }) => `${event}#${attempt}`;

/** Attempts of the type's events that are on record, with their names as in the ledger. */
async function recordedAttempts(eventType: string): Promise<Set<string>> {
  const rows = await folder.query<{ event: number; attempt: number }>(`
    SELECT (convert_from(e.data, 'UTF8')::jsonb ->> 'n')::int AS event, a.number AS attempt
    FROM attempts a JOIN events e ON e.id = a.event_id WHERE a.event_type = '${eventType}'`);
  return new Set(rows.map(nameOf));
}

interface DeliveryRow {
  event: number;
  status: string;
  lease_node: number | null;
  waits: boolean;
  attempts: number;
  recorded: number;
}

function deliveryRows(eventType: string): Promise<DeliveryRow[]> {
  return folder.query(`
    SELECT (convert_from(e.data, 'UTF8')::jsonb ->> 'n')::int AS event, d.status, d.lease_node,
           d.due_at IS NOT NULL AS waits, d.attempt_count AS attempts,
           (SELECT count(*)::int FROM attempts a WHERE a.delivery_id = d.id) AS recorded
    FROM deliveries d JOIN events e ON e.id = d.event_id WHERE d.event_type = '${eventType}' ORDER BY 1`);
}

/** Waits until nothing is pending any more, and checks that it all ended as it should. */
async function expectAllDelivered(eventType: string, publishing: Publishing): Promise<void> {
  const rows = await eventually(
    () => deliveryRows(eventType),
    (all) => all.every(({ status }) => !['pending', 'failed'].includes(status)),
    60_000,
  );
  const settled = { status: 'delivered', lease_node: null, waits: false };
  expect(rows.filter((row) => row.recorded !== row.attempts)).toEqual([]);
  expect(rows).toEqual(rows.map((row) => ({ ...row, ...settled })));

  const stored = rows.map(({ event }) => event);
  expect(stored).toEqual([...new Set(stored)]);
  expect([...publishing.accepted.keys()].filter((n) => !stored.includes(n))).toEqual([]);
  expect(stored.filter((n) => !publishing.sent.has(n))).toEqual([]);
  const arrived = new Set(ledger.arrivals.map(({ event }) => event));
  expect(stored.filter((n) => !arrived.has(n))).toEqual([]);
  // What was not stored, because the commit failed, was not sent either.
  expect([...arrived].filter((n) => !stored.includes(n))).toEqual([]);
}

function repeated(arrivals: Arrival[]): string[] {
  const names = arrivals.map(nameOf);
  return names.filter((name, at) => names.indexOf(name) !== at);
}

const KILLS: { name: string; env: Record<string, string>; kill: (running: Server) => Promise<void> }[] = [
  {
    name: 'the program',
    env: BUSY,
    kill: async (running) => {
      expect(await running.end('SIGKILL')).toEqual({ code: null, signal: 'SIGKILL' });
    },
  },
  {
    name: 'the program, while PostgreSQL is left running',
    env: ALONE,
    kill: async (running) => {
      await running.end('SIGKILL');
      expect(isAlive(folder.postmasterPid() ?? 0)).toBe(true);
    },
  },
  {
    name: 'the program and PostgreSQL',
    env: BUSY,
    kill: async (running) => {
      const postmaster = folder.postmasterPid() ?? 0;
      const ended = running.end('SIGKILL');
      process.kill(postmaster, 'SIGKILL');
      await ended;
      await processEnd(postmaster);
    },
  },
];

test('whatever is killed in the middle of the work, no accepted event is lost, and only what was under way is sent twice', async () => {
  const type = 'stream.published';
  const publishing = createPublishing({ eventType: type, url: () => server?.url ?? '' });
  const ofLife = (life: number) => ledger.arrivals.filter((arrival) => arrival.life === life);
  // From its 40th request on each process but the last waits for answers, and is killed meanwhile.
  ledger.onArrival = ({ event, attempt, life }) => ({
    status: event % 5 === 0 && attempt === 1 ? 503 : 200,
    afterMs: life <= KILLS.length && ofLife(life).length >= 40 ? 2_000 : 30,
  });
  const underWay = new Set<string>();

  let running = await start(KILLS[0]?.env);
  await subscribe(running, type, { retry_policy: { schedule_seconds: Array(9).fill(0), jitter: 0 } });
  for (const [round, { name, kill }] of KILLS.entries()) {
    const life = round + 1;
    const acceptedBefore = publishing.accepted.size;
    const burst = publishing.burst(150);
    await eventually(
      async () => [publishing.accepted.size - acceptedBefore, ofLife(life).length],
      ([accepted = 0, arrived = 0]) => accepted >= 100 && arrived >= 45,
      60_000,
    );
    const recorded = await recordedAttempts(type);
    const acceptedByThen = new Set(publishing.accepted.keys());
    await kill(running);
    await ledger.nextLife();

    expect(repeated(ofLife(life)), `sent twice by one process, before the end of ${name}`).toEqual([]);
    for (const arrival of ofLife(life)) if (!recorded.has(nameOf(arrival))) underWay.add(nameOf(arrival));

    running = await start(KILLS[round + 1]?.env);
    await burst;
    const later = () => ledger.arrivals.filter((arrival) => arrival.life > life);
    await eventually(
      async () => later().filter(({ event }) => acceptedByThen.has(event)).length,
      (takenUp) => takenUp > 0,
      60_000,
    );
    const again = later().filter((arrival) => recorded.has(nameOf(arrival)));
    expect(again, `sent again although on record before the end of ${name}`).toEqual([]);
  }
  await expectAllDelivered(type, publishing);
  expect(repeated(ledger.arrivals).filter((name) => !underWay.has(name))).toEqual([]);
}, 240_000);

test('PostgreSQL that is killed under load runs again with its program still there: nothing is lost, and nothing comes twice', async () => {
  const type = 'stream.survived';
  const publishing = createPublishing({ eventType: type, url: () => server?.url ?? '' });
  ledger.onArrival = () => ({ status: 200, afterMs: 200 });
  const running = server ?? (await start());
  await subscribe(running, type);
  const postmaster = folder.postmasterPid() ?? 0;
  const burst = publishing.burst(200);
  await eventually(
    async () => [publishing.accepted.size, ledger.arrivals.length],
    ([accepted = 0, arrived = 0]) => accepted >= 80 && arrived >= 20,
    60_000,
  );
  process.kill(postmaster, 'SIGKILL');
  await processEnd(postmaster);
  await burst;
  await eventually(
    async () => folder.postmasterPid() !== postmaster && (await running.call('GET', '/health/ready')).status,
    (status) => status === 200,
    60_000,
  );
  await expectAllDelivered(type, publishing);
  expect(repeated(ledger.arrivals)).toEqual([]);
  expect(isAlive(running.pid)).toBe(true);
  expect(running.errors()).toBe('');
  expect(running.output()).toMatch(/"msg":"the embedded PostgreSQL has ended; it is started again"/);
  expect(folder.postmasterPid()).not.toBe(postmaster);
}, 120_000);

test('a stop under load finishes what is under way, and the next start sends the rest: everything once', async () => {
  const type = 'stream.stopped';
  const publishing = createPublishing({ eventType: type, url: () => server?.url ?? '' });
  ledger.onArrival = ({ life }) => ({ status: 200, afterMs: life === 1 ? 1_000 : 0 });
  const first = server ?? (await start());
  await subscribe(first, type);
  const burst = publishing.burst(300);
  await eventually(
    async () => [publishing.accepted.size, ledger.arrivals.length],
    ([accepted = 0, arrived = 0]) => accepted >= 200 && arrived >= 16,
    60_000,
  );
  expect(await first.end('SIGTERM')).toEqual({ code: 0, signal: null });
  expect(first.errors()).toBe('');
  await ledger.nextLife();
  const acceptedByThen = publishing.accepted.size;
  expect(ledger.arrivals.length).toBeLessThan(acceptedByThen);

  await start();
  await burst;
  await expectAllDelivered(type, publishing);
  expect(repeated(ledger.arrivals)).toEqual([]);
  expect(ledger.arrivals.filter(({ attempt }) => attempt !== 1)).toEqual([]);
}, 120_000);

test('what waits when the program is killed waits on: for its time, for its retry, for its webhook', async () => {
  const publish = async (at: Server, fields: object): Promise<string> => {
    const answer = await at.call('POST', '/api/v1/events', fields);
    expect(answer.status).toBe(202);
    return answer.body.event_id;
  };
  const deliveryOf = async (at: Server, eventId: string) =>
    (await at.call('GET', `/api/v1/deliveries?event_id=${eventId}`)).body.data[0];
  const [SOON, LATER, SCHEDULED, HELD] = [1, 2, 3, 4];
  ledger.onArrival = ({ event, attempt }) => ({
    status: attempt === 1 && (event === SOON || event === LATER) ? 503 : 200,
    afterMs: 0,
  });

  const first = server ?? (await start());
  await subscribe(first, 'wait.briefly', { retry_policy: { schedule_seconds: [4], jitter: 0 } });
  await subscribe(first, 'wait.longer', { retry_policy: { schedule_seconds: [8], jitter: 0 } });
  await subscribe(first, 'wait.scheduled');
  const pausedId = await subscribe(first, 'wait.paused');
  expect((await first.call('POST', `/api/v1/webhooks/${pausedId}/pause`)).status).toBe(200);

  const deliverAtMs = Date.now() + 8_000;
  const ids = [
    await publish(first, { event_type: 'wait.briefly', data: { n: SOON } }),
    await publish(first, { event_type: 'wait.longer', data: { n: LATER } }),
    await publish(first, {
      event_type: 'wait.scheduled',
      data: { n: SCHEDULED },
      deliver_at: new Date(deliverAtMs).toISOString(),
    }),
    await publish(first, { event_type: 'wait.paused', data: { n: HELD } }),
  ];
  const waiting = await eventually(
    () => Promise.all(ids.map((id) => deliveryOf(first, id))),
    (rows) => rows.map(({ status }) => status).join() === 'failed,failed,pending,held',
  );
  await first.end('SIGKILL');
  await ledger.nextLife();

  const second = await start();
  const dueMs = waiting.slice(0, 2).map((row) => Date.parse(row.next_attempt_at));
  const sent = await eventually(
    async () => ledger.arrivals.filter(({ life }) => life === 2),
    (arrivals) => arrivals.length >= 3,
    30_000,
  );
  const sentOf = (n: number) => sent.filter(({ event }) => event === n);
  expect(sentOf(SOON)).toMatchObject([{ attempt: 2 }]);
  expect(sentOf(LATER)).toMatchObject([{ attempt: 2 }]);
  expect(sentOf(SCHEDULED)).toMatchObject([{ attempt: 1 }]);
  expect(sentOf(SOON)[0]?.atMs).toBeGreaterThanOrEqual(dueMs[0] ?? Number.NaN);
  expect(sentOf(LATER)[0]?.atMs).toBeGreaterThanOrEqual(dueMs[1] ?? Number.NaN);
  expect(sentOf(SCHEDULED)[0]?.atMs).toBeGreaterThanOrEqual(deliverAtMs);

  expect(await deliveryOf(second, ids[3] ?? '')).toMatchObject({ status: 'held', attempt_count: 0 });
  expect((await second.call('POST', `/api/v1/webhooks/${pausedId}/resume`)).status).toBe(200);
  const ended = await eventually(
    () => Promise.all(ids.map((id) => deliveryOf(second, id))),
    (rows) => rows.every(({ status }) => status === 'delivered'),
  );
  expect(ended.map(({ attempt_count }) => attempt_count)).toEqual([2, 2, 1, 1]);
  expect(ledger.arrivals).toHaveLength(6);
}, 120_000);
