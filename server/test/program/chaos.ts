import { once } from 'node:events';
import { statSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { expect } from 'vitest';
import { eventually } from '../../src/testing/eventually.ts';
import { childrenOf, type Folder, makeFolder, processEnd } from './folder.ts';
import { type Arrival, type Ledger, startLedger } from './ledger.ts';
import { ENV, type Server, startServer } from './server.ts';
import { publishSteadily, type SteadyPublishing } from './steady-publishing.ts';

/** What is killed in one round. */
export type Target =
  | 'PostgreSQL'
  | 'program'
  | 'program and PostgreSQL'
  | 'worker'
  | 'two workers'
  | 'worker and PostgreSQL';

/** Requests under way at once, of the whole program: what a kill may repeat. */
export const IN_FLIGHT_MAX = 16;

/** Requests that are still to come, so that the end is not a long wait. */
const BACKLOG_MAX = 400;

/** From an answer's arrival until it is on record, on a busy machine. */
const RECORD_MS_MAX = 1_500;

/** From a kill until the requests that the dead process had written are read here. */
const LATE_MS_MAX = 1_000;

/** A number in [0, 1) that the seed decides: https://gist.github.com/tommyettinger/46a874533244883189143505d203312c */
function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** What is known of one kill, for the judgement of what came twice. */
interface Kill {
  beganAtMs: number;
  endedAtMs: number;
  /** A process that sends was killed. When only PostgreSQL was, nothing may come twice. */
  ofSender: boolean;
}

/**
 * Publishes to three webhooks (one that succeeds, one that often fails at first, one that is slow) and kills `targets`
 * in an order that the seed decides, each while deliveries are under way. Then it waits until all is delivered, and
 * checks the account.
 */
export async function runChaos(options: { name: string; processes: number; targets: Target[] }): Promise<void> {
  const seed = Number(process.env.CHAOS_SEED ?? Date.now() % 1_000_000);
  const random = seededRandom(seed);
  const folder = makeFolder();
  const ledger = await startLedger();
  const chaos = new Chaos({ ...options, folder, ledger, random, port: await findFreePort() });
  try {
    await chaos.start();
    for (const target of shuffled(options.targets, random)) await chaos.round(target);
    const figures = await chaos.settle();
    console.log(`chaos, ${options.name}: CHAOS_SEED=${seed} ${JSON.stringify(figures)}`);
  } catch (error) {
    console.error(`chaos, ${options.name}: failed with CHAOS_SEED=${seed}\n${chaos.programLog.slice(-8_000)}`);
    throw error;
  } finally {
    await chaos.end();
    await folder.remove();
    await ledger.stop();
  }
}

interface ChaosOptions {
  name: string;
  processes: number;
  folder: Folder;
  ledger: Ledger;
  random: () => number;
  port: number;
}

class Chaos {
  readonly #options: ChaosOptions;
  readonly #eventType = 'chaos.published';
  readonly #kills: Kill[] = [];
  #server: Server | undefined;
  #publishing: SteadyPublishing | undefined;
  #signals = 0;
  #startedAtMs = 0;
  programLog = '';

  constructor(options: ChaosOptions) {
    this.#options = options;
    options.ledger.onArrival = ({ path, event, attempt }) => ({
      status: path === '/flaky' && attempt <= event % 3 ? 503 : 200,
      afterMs: path === '/slow' ? 60 + (event % 5) * 20 : 5,
    });
  }

  async start(): Promise<void> {
    this.#startedAtMs = Date.now();
    const server = await this.#launch();
    for (const path of ['/good', '/flaky', '/slow']) {
      const answer = await server.call('POST', '/api/v1/webhooks', {
        name: path,
        url: this.#options.ledger.url + path,
        events: [this.#eventType],
        retry_policy: { schedule_seconds: Array(9).fill(0), jitter: 0 },
        // Every second request to the one that often fails does so, and none shall wait for it to get better.
        circuit_breaker: { enabled: false },
      });
      expect(answer.status).toBe(201);
    }
    this.#publishing = publishSteadily({
      url: server.url,
      eventType: this.#eventType,
      pauseMs: 100,
      // Three receivers, of which one is asked twice on average.
      mayPublish: (accepted) => accepted * 4 - this.#options.ledger.arrivals.length < BACKLOG_MAX,
    });
  }

  /** Kills when deliveries are under way, and waits until the program accepts and delivers again. */
  async round(target: Target): Promise<void> {
    await this.#flows();
    if (target.includes('PostgreSQL')) await this.#isSteady();
    await pause(this.#options.random() * 600);
    const server = this.#running();
    const beganAtMs = Date.now();
    await this.#kill(target, server);
    this.#kills.push({ beganAtMs, endedAtMs: Date.now(), ofSender: target !== 'PostgreSQL' });
    if (target === 'program' || target === 'program and PostgreSQL') {
      this.programLog += server.output();
      await this.#launch();
    }
    await eventually(
      () => this.#isReady(),
      (ready) => ready,
      60_000,
    );
  }

  /** Resolves with the figures when all accepted events are delivered and the account is right. */
  async settle(): Promise<object> {
    await this.#publishing?.stop();
    await eventually(
      () => this.#unsettled(),
      (rows) => rows.length === 0,
      90_000,
    );
    const accepted = this.#publishing?.accepted ?? new Set<number>();
    const stored = await this.#storedEvents();
    const numbers = stored.map(({ event }) => event);
    expect(numbers, 'an event is stored once').toEqual([...new Set(numbers)]);
    expect(
      [...accepted].filter((n) => !numbers.includes(n)),
      'every accepted event is stored',
    ).toEqual([]);
    expect(
      stored.filter(({ delivered }) => delivered !== 3),
      'each went to all three',
    ).toEqual([]);
    this.#checkArrivals(numbers);
    await this.#checkRecords();

    const repeated = this.#repeated();
    expect(
      repeated.filter(({ first }) => !this.#wasUnderWay(first)),
      'only what was under way came twice',
    ).toEqual([]);
    const kills = this.#kills.filter(({ ofSender }) => ofSender);
    expect(repeated.length).toBeLessThanOrEqual(kills.length * IN_FLIGHT_MAX);
    return {
      seconds: Math.round((Date.now() - this.#startedAtMs) / 1000),
      sigkills: this.#signals,
      rounds: this.#kills.length,
      accepted: accepted.size,
      requests: this.#options.ledger.arrivals.length,
      twice: repeated.length,
      answers: Object.fromEntries(this.#publishing?.answers ?? []),
    };
  }

  async end(): Promise<void> {
    this.#publishing?.abandon();
    await this.#server?.end('SIGTERM');
  }

  async #launch(): Promise<Server> {
    const { folder, processes, port } = this.#options;
    this.#server = await startServer({
      cwd: folder.path,
      args: processes === 1 ? [] : ['--processes', String(processes)],
      env: { ...ENV, POSTHORN_PORT: String(port), POSTHORN_MAX_IN_FLIGHT: String(IN_FLIGHT_MAX) },
    });
    return this.#server;
  }

  #running(): Server {
    if (this.#server === undefined) throw new Error('It was not started.');
    return this.#server;
  }

  /** The load is on: there are new arrivals, and some are not answered yet. */
  async #flows(): Promise<void> {
    const { arrivals } = this.#options.ledger;
    const before = arrivals.length;
    await eventually(
      async () => arrivals.length - before,
      (more) => more >= 40 && arrivals.slice(-20).some(({ answeredAtMs }) => answeredAtMs === undefined),
      60_000,
    );
  }

  /** What ends sooner after its start is started again ever more slowly, which is not what this is about. */
  async #isSteady(): Promise<void> {
    const last = this.#postgresStartedAtMs();
    await eventually(
      async () => Date.now() - last,
      (ageMs) => ageMs > 2_500,
    );
  }

  #postgresStartedAtMs(): number {
    return statSync(path.join(this.#options.folder.dataDir, 'postgres', 'postmaster.pid')).ctimeMs;
  }

  async #isReady(): Promise<boolean> {
    try {
      return (await this.#running().call('GET', '/health/ready')).status === 200;
    } catch {
      return false;
    }
  }

  async #kill(target: Target, server: Server): Promise<void> {
    const workers = childrenOf(server.pid).filter((pid) => pid !== this.#options.folder.postmasterPid());
    const offset = Math.floor(this.#options.random() * workers.length);
    const chosen = [workers[offset], workers[(offset + 1) % workers.length]].filter((pid) => pid !== undefined);
    switch (target) {
      case 'PostgreSQL':
        return this.#signal([this.#postmaster()]);
      case 'program':
        await this.#signal([server.pid]);
        break;
      case 'program and PostgreSQL':
        await this.#signal([server.pid, this.#postmaster()]);
        break;
      case 'worker':
        return this.#signal(chosen.slice(0, 1));
      case 'two workers':
        return this.#signal(chosen);
      case 'worker and PostgreSQL':
        return this.#signal([...chosen.slice(0, 1), this.#postmaster()]);
    }
    // Without the process that started them they end by themselves.
    await Promise.all(workers.map(processEnd));
  }

  #postmaster(): number {
    const pid = this.#options.folder.postmasterPid();
    if (pid === undefined) throw new Error('PostgreSQL does not run.');
    return pid;
  }

  /** Kills all of them at once. */
  async #signal(pids: number[]): Promise<void> {
    for (const pid of pids) {
      try {
        process.kill(pid, 'SIGKILL');
        this.#signals += 1;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
      }
    }
    await Promise.all(pids.map(processEnd));
  }

  /** Deliveries that have not ended well yet, or that somebody still answers for. */
  #unsettled(): Promise<object[]> {
    return this.#options.folder.query(`
      SELECT id, status, lease_node, due_at FROM deliveries
      WHERE status <> 'delivered' OR lease_node IS NOT NULL OR due_at IS NOT NULL LIMIT 20`);
  }

  #storedEvents(): Promise<{ event: number; delivered: number }[]> {
    return this.#options.folder.query(`
      SELECT (convert_from(e.data, 'UTF8')::jsonb ->> 'n')::int AS event, count(d.id)::int AS delivered
      FROM events e LEFT JOIN deliveries d ON d.event_id = e.id GROUP BY e.id, e.data ORDER BY 1`);
  }

  #checkArrivals(stored: number[]): void {
    const { arrivals } = this.#options.ledger;
    const arrived = new Set(arrivals.map(({ path, event }) => `${path} ${event}`));
    const missing = stored.flatMap((n) => ['/good', '/flaky', '/slow'].map((path) => `${path} ${n}`));
    expect(missing.filter((name) => !arrived.has(name))).toEqual([]);
    const known = new Set(stored);
    expect(
      arrivals.filter(({ event }) => !known.has(event)),
      'what was not stored is not sent',
    ).toEqual([]);
  }

  /** Each attempt is on record once, in order, and nothing was sent after a success was on record. */
  async #checkRecords(): Promise<void> {
    const wrong = await this.#options.folder.query(`
      SELECT d.id, d.attempt_count, array_agg(a.number ORDER BY a.number) AS numbers
      FROM deliveries d JOIN attempts a ON a.delivery_id = d.id GROUP BY d.id, d.attempt_count
      HAVING array_agg(a.number ORDER BY a.number) <> (SELECT array_agg(n) FROM generate_series(1, d.attempt_count) n)`);
    expect(wrong).toEqual([]);
  }

  /** Attempts that came again, with their earlier arrival. */
  #repeated(): { name: string; first: Arrival }[] {
    const last = new Map<string, Arrival>();
    const repeated: { name: string; first: Arrival }[] = [];
    for (const arrival of this.#options.ledger.arrivals) {
      const name = `${arrival.path} ${arrival.event}#${arrival.attempt}`;
      const first = last.get(name);
      if (first !== undefined) repeated.push({ name, first });
      last.set(name, arrival);
    }
    return repeated;
  }

  /** It had not been answered at a kill, or so shortly before that it was not on record yet. */
  #wasUnderWay({ atMs, answeredAtMs }: Arrival): boolean {
    return this.#kills.some(
      ({ beganAtMs, endedAtMs, ofSender }) =>
        ofSender &&
        atMs <= endedAtMs + LATE_MS_MAX &&
        (answeredAtMs === undefined || answeredAtMs >= beganAtMs - RECORD_MS_MAX),
    );
  }
}

function shuffled<T>(items: readonly T[], random: () => number): T[] {
  return items
    .map((item) => ({ item, place: random() }))
    .sort((a, b) => a.place - b.place)
    .map(({ item }) => item);
}

/** A program that is started again has to be found at the same place. */
export async function findFreePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}
