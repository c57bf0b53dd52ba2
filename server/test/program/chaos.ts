import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { statSync } from 'node:fs';
import { createServer } from 'node:net';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { expect } from 'vitest';
import { eventually } from '../../src/testing/eventually.ts';
import {
  findRepeats,
  type Kill,
  overdrawnKills,
  type Repeat,
  sentAfterRecord,
  sentAfterSuccess,
  sentAtOnce,
  sentOutOfOrder,
} from './chaos-account.ts';
import { answerOf, EVENT_TYPE, fieldsOf, pathsOf, REQUESTS_PER_EVENT, webhooksAt } from './chaos-audience.ts';
import { keyedEvents, onRecord, storedEvents, unsettled, wronglyRecorded } from './chaos-database.ts';
import { childrenOf, type Folder, makeFolder, processEnd } from './folder.ts';
import { type Ledger, startLedger } from './ledger.ts';
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
const IN_FLIGHT_MAX = 16;

/** Requests that are still to come, so that the end is not a long wait. */
const BACKLOG_MAX = 400;

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

/**
 * Publishes to five webhooks (one that succeeds, one that often fails at first, one that is slow, one that keeps an order,
 * one that takes one request at a time) and kills `targets` in an order that the seed decides, each while deliveries are
 * under way. Then it waits until all is delivered, and checks the account.
 */
export async function runChaos(options: {
  name: string;
  processes: number;
  targets: Target[];
  /** SIGKILLs that must have been sent, to processes that lived. */
  sigkillsMin: number;
}): Promise<void> {
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
  sigkillsMin: number;
  folder: Folder;
  ledger: Ledger;
  random: () => number;
  port: number;
}

class Chaos {
  readonly #options: ChaosOptions;
  readonly #kills: Kill[] = [];
  #server: Server | undefined;
  #publishing: SteadyPublishing | undefined;
  #signals = 0;
  #startedAtMs = 0;
  #pastLogs = '';

  constructor(options: ChaosOptions) {
    this.#options = options;
    options.ledger.onArrival = answerOf;
  }

  /** Of all programs that were started, to this moment. */
  get programLog(): string {
    return this.#pastLogs + (this.#server?.output() ?? '') + (this.#server?.errors() ?? '');
  }

  async start(): Promise<void> {
    this.#startedAtMs = Date.now();
    const server = await this.#launch();
    for (const webhook of webhooksAt(this.#options.ledger.url)) {
      expect((await server.call('POST', '/api/v1/webhooks', webhook)).status).toBe(201);
    }
    this.#publishing = publishSteadily({
      url: server.url,
      eventType: EVENT_TYPE,
      fieldsOf,
      pauseMs: 100,
      mayPublish: (accepted) => accepted * REQUESTS_PER_EVENT - this.#options.ledger.arrivals.length < BACKLOG_MAX,
    });
  }

  /** Kills when deliveries are under way, and waits until the program accepts and delivers again. */
  async round(target: Target): Promise<void> {
    await this.#flows();
    if (target.includes('PostgreSQL')) await this.#isSteady();
    await pause(this.#options.random() * 600);
    const server = this.#running();
    const victims = await this.#victims(target, server);
    const record = await onRecord(this.#options.folder);
    // Without the process that started them they end by themselves.
    const orphans = victims.includes(server.pid) ? this.#childrenOf(server) : [];
    const beganAtMs = Date.now();
    await this.#signal(victims);
    await Promise.all(orphans.map(processEnd));
    this.#kills.push({ beganAtMs, endedAtMs: Date.now(), ofSender: target !== 'PostgreSQL', record });
    if (victims.includes(server.pid)) {
      this.#pastLogs += server.output() + server.errors();
      await this.#launch();
    }
    await eventually(
      () => this.#readiness(),
      (answer) => answer === 'ready',
      60_000,
    );
  }

  /** Resolves with the figures when all accepted events are delivered and the account is right. */
  async settle(): Promise<object> {
    const { folder } = this.#options;
    await this.#publishing?.stop();
    await eventually(
      () => unsettled(folder),
      (rows) => rows.length === 0,
      90_000,
    );
    const accepted = this.#publishing?.accepted ?? new Map<number, number>();
    const stored = await storedEvents(folder);
    const numbers = stored.map(({ event }) => event);
    expect(numbers, 'an event is stored once').toEqual([...new Set(numbers)]);
    expect(
      [...accepted.keys()].filter((n) => !numbers.includes(n)),
      'every accepted event is stored',
    ).toEqual([]);
    expect(
      stored.filter(({ event, delivered }) => delivered !== pathsOf(event).length),
      'each went to all that are subscribed',
    ).toEqual([]);
    this.#checkArrivals(numbers);
    expect(await wronglyRecorded(folder), 'each attempt is on record once, and the last has succeeded').toEqual([]);
    await this.#checkLimits();
    const repeats = this.#checkRepeats();
    expect(this.#signals, 'SIGKILLs').toBeGreaterThanOrEqual(this.#options.sigkillsMin);
    return {
      seconds: Math.round((Date.now() - this.#startedAtMs) / 1000),
      sigkills: this.#signals,
      rounds: this.#kills.length,
      accepted: accepted.size,
      requests: this.#options.ledger.arrivals.length,
      twice: repeats.length,
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

  /** "ready", or what is said instead. */
  async #readiness(): Promise<string> {
    try {
      const { status, text } = await this.#running().call('GET', '/health/ready');
      return status === 200 ? 'ready' : text;
    } catch (error) {
      return String((error as Error).cause ?? error);
    }
  }

  async #victims(target: Target, server: Server): Promise<number[]> {
    const workers = target.includes('worker') ? shuffled(await this.#workers(server), this.#options.random) : [];
    switch (target) {
      case 'PostgreSQL':
        return [this.#postmaster()];
      case 'program':
        return [server.pid];
      case 'program and PostgreSQL':
        return [server.pid, this.#postmaster()];
      case 'worker':
        return workers.slice(0, 1);
      case 'two workers':
        return workers.slice(0, 2);
      case 'worker and PostgreSQL':
        return [...workers.slice(0, 1), this.#postmaster()];
    }
  }

  /** One that was killed is started again after a while. */
  #workers(server: Server): Promise<number[]> {
    return eventually(
      async () => this.#childrenOf(server),
      (pids) => pids.length === this.#options.processes,
      60_000,
    );
  }

  #childrenOf({ pid }: Server): number[] {
    return childrenOf(pid).filter((child) => child !== this.#options.folder.postmasterPid());
  }

  #postmaster(): number {
    const pid = this.#options.folder.postmasterPid();
    if (pid === undefined) throw new Error('PostgreSQL does not run.');
    return pid;
  }

  /** Kills all of them at once: none goes on, or ends by itself, while another one is killed. */
  async #signal(pids: number[]): Promise<void> {
    const lived = pids.filter((pid) => send(pid, 'SIGSTOP'));
    for (const pid of lived) if (send(pid, 'SIGKILL')) this.#signals += 1;
    await Promise.all(pids.map(processEnd));
  }

  #checkArrivals(stored: number[]): void {
    const { arrivals } = this.#options.ledger;
    const arrived = new Set(arrivals.map(({ path, event }) => `${path} ${event}`));
    const missing = stored.flatMap((n) => pathsOf(n).map((path) => `${path} ${n}`));
    expect(missing.filter((name) => !arrived.has(name))).toEqual([]);
    const known = new Set(stored);
    expect(
      arrivals.filter(({ event }) => !known.has(event)),
      'what was not stored is not sent',
    ).toEqual([]);
  }

  /** What the two with limits were sent came as they want it. */
  async #checkLimits(): Promise<void> {
    const of = (path: string) => this.#options.ledger.arrivals.filter((arrival) => arrival.path === path);
    const ordered = (await keyedEvents(this.#options.folder, '/ordered')).map(({ key, event }) => ({
      key,
      event,
      begunAtMs: this.#publishing?.begun.get(event) ?? 0,
      acceptedAtMs: this.#publishing?.accepted.get(event),
    }));
    expect(ordered.length).toBeGreaterThan(20);
    expect(sentOutOfOrder(of('/ordered'), ordered), 'what keeps an order came in order').toEqual([]);
    expect(sentAtOnce(of('/one'), this.#kills), 'one at a time came one at a time').toEqual([]);
  }

  /** What came twice was under way at a kill, and nothing came once a success was known. */
  #checkRepeats(): Repeat[] {
    const { arrivals } = this.#options.ledger;
    const repeats = findRepeats(arrivals, this.#kills);
    const unexplained = repeats.filter(({ kill }) => kill === undefined);
    expect(unexplained, 'only what was under way at a kill came twice').toEqual([]);
    expect(overdrawnKills(repeats, this.#kills, IN_FLIGHT_MAX), 'once for each kill').toEqual([]);
    expect(sentAfterSuccess(arrivals, this.#kills), 'nothing came after a success, but for a kill').toEqual([]);
    expect(sentAfterRecord(arrivals, this.#kills), 'nothing came after a success on record').toEqual([]);
    return repeats;
  }
}

/** false: there is no such process any more. */
function send(pid: number, signal: NodeJS.Signals): boolean {
  try {
    return process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false;
    throw error;
  }
}

function shuffled<T>(items: readonly T[], random: () => number): T[] {
  return items
    .map((item) => ({ item, place: random() }))
    .sort((a, b) => a.place - b.place)
    .map(({ item }) => item);
}

/**
 * A program that is started again has to be found at the same place. The port is none of those that the system gives to
 * whoever asks for any: another test could get it while the program is down.
 */
async function findFreePort(): Promise<number> {
  for (;;) {
    const port = randomInt(10_000, 30_000);
    const server = createServer().listen(port, '127.0.0.1');
    const isFree = await once(server, 'listening').then(
      () => true,
      () => false,
    );
    if (!isFree) continue;
    server.close();
    await once(server, 'close');
    return port;
  }
}
