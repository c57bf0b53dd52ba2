import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Api } from './api.ts';
import { leftOverPostgres, withDatabase } from './database.ts';
import { isThere, killAll, pidsOf } from './processes.ts';
import type { Kill } from './scenarios.ts';
import { until } from './until.ts';

const READY_MS_MAX = 60_000;
const JOIN_MS_MAX = 15_000;
const GONE_MS_MAX = 5_000;
const STOP_MS_MAX = 40_000;
const POLL_MS = 10;
const LINES_KEPT = 30;

/** A Posthorn of the bench's own: a new data folder, the embedded database, the settings of production. */
export class Posthorn {
  readonly port: number;
  readonly api: Api;
  /** The last lines that it wrote. */
  readonly output: string[] = [];
  /** Worker processes of the running server; 0 while it is stopped. */
  processes = 0;
  /** From the start of the very first process to ready. */
  firstStartMs: number | undefined;
  readonly #file: string;
  readonly #folder = mkdtempSync(path.join(tmpdir(), 'posthorn-bench-'));
  readonly #environment: NodeJS.ProcessEnv;
  #child: ChildProcess | undefined;
  #gone: Promise<void> = Promise.resolve();

  /** @param file the server's main module. Starts nothing yet. */
  static async create(file: string): Promise<Posthorn> {
    return new Posthorn(file, await freePort());
  }

  private constructor(file: string, port: number) {
    const operatorKey = randomBytes(24).toString('hex');
    this.#file = file;
    this.port = port;
    this.api = new Api(`http://127.0.0.1:${port}`, operatorKey);
    this.#environment = {
      ...ownEnvironment(),
      POSTHORN_PORT: String(port),
      POSTHORN_DATA_DIR: this.#folder,
      POSTHORN_OPERATOR_KEY: operatorKey,
      POSTHORN_ENCRYPTION_KEY: randomBytes(32).toString('hex'),
      POSTHORN_EGRESS_ALLOW: '127.0.0.0/8',
      POSTHORN_LOG_LEVEL: 'warn',
    };
  }

  /** Process id of the server, or of the supervisor of its workers. */
  get pid(): number {
    return this.#child?.pid ?? 0;
  }

  /**
   * Starts it, the first time or again, and waits until it is ready and all of its processes take part.
   *
   * @returns milliseconds from starting the process to the first 200 of /health/ready.
   * @throws Error with the server's last output when it is not ready in a minute.
   */
  async start(processes: number): Promise<number> {
    const startMs = performance.now();
    const several = processes > 1 ? { POSTHORN_PROCESSES: String(processes) } : {};
    const child = spawn(process.execPath, [this.#file, 'serve'], {
      env: { ...this.#environment, ...several },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#child = child;
    this.processes = processes;
    this.#gone = new Promise((resolve) => {
      child.once('exit', (code, signal) => {
        if (this.#child === child)
          console.error(`The server ended by itself (${code ?? signal}):\n${this.#lastOutput}`);
        resolve();
      });
    });
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        this.output.push(...text.split('\n').filter((line) => line !== ''));
        this.output.splice(0, this.output.length - LINES_KEPT);
      });
    }
    await this.#awaitReady(child);
    const readyMs = performance.now() - startMs;
    this.firstStartMs ??= readyMs;
    if (processes > 1) await this.#awaitProcesses(processes);
    return readyMs;
  }

  /** Stops it as an operator does, with SIGTERM. */
  async stop(): Promise<void> {
    const child = this.#leave();
    if (child === undefined) return;
    child.kill('SIGTERM');
    const late = setTimeout(() => killAll(family(child)), STOP_MS_MAX);
    await this.#gone;
    clearTimeout(late);
  }

  /** Ends it with SIGKILL, all of its processes at once. A PostgreSQL that is left behind is the next start's affair. */
  async kill(what: Kill): Promise<void> {
    const child = this.#leave();
    if (child === undefined) return;
    const pids = what === 'all' ? family(child) : pidsOf(child.pid ?? 0, 'node');
    killAll(pids);
    await this.#gone;
    // After a power cut nothing of them is left either, not even an entry that init has still to remove.
    await until(async () => !pids.some(isThere), GONE_MS_MAX);
  }

  /** Stops it and removes the data folder. */
  async remove(): Promise<void> {
    await this.stop();
    killAll(leftOverPostgres(this.#folder));
    rmSync(this.#folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
  }

  /** Gives `work` a connection to the server's database, and closes it. */
  database: <T>(work: Parameters<typeof withDatabase<T>>[1]) => Promise<T> = (work) => withDatabase(this.#folder, work);

  /** From here on an exit of the process is no surprise. */
  #leave(): ChildProcess | undefined {
    const child = this.#child;
    this.#child = undefined;
    this.processes = 0;
    return child;
  }

  get #lastOutput(): string {
    return this.output.join('\n');
  }

  async #awaitReady(child: ChildProcess): Promise<void> {
    const ready = await until(
      async () => {
        if (child.exitCode !== null) throw new Error(`${this.#file} did not start.`);
        return this.api.isReady();
      },
      READY_MS_MAX,
      POLL_MS,
    );
    if (!ready) throw new Error(`${this.#file} is not ready after ${READY_MS_MAX / 1000} s:\n${this.#lastOutput}`);
  }

  /** The first process that is ready answers for all; the figures need the others too. Each is a node of its own. */
  async #awaitProcesses(processes: number): Promise<void> {
    const all = `${processes} of ${processes} running`;
    if (!(await until(async () => (await this.api.processes()) === all, JOIN_MS_MAX))) {
      throw new Error(`Not all of the ${processes} processes run after ${JOIN_MS_MAX / 1000} s.`);
    }
  }
}

/**
 * Does this server know the setting? It is started with a value that no server takes, so it ends at once and says why.
 */
export function knowsProcesses(file: string): boolean {
  const env = { ...ownEnvironment(), POSTHORN_PROCESSES: 'none' };
  const { stderr } = spawnSync(process.execPath, [file, 'serve'], { env, encoding: 'utf8', timeout: 10_000 });
  return !stderr.includes('POSTHORN_PROCESSES is not a setting');
}

/** The caller's environment without what would point Posthorn at another database or change its settings. */
function ownEnvironment(): NodeJS.ProcessEnv {
  const entries = Object.entries(process.env);
  return Object.fromEntries(entries.filter(([name]) => name !== 'DATABASE_URL' && !name.startsWith('POSTHORN_')));
}

/** PostgreSQL's processes are descendants too, and could not be found once the first process is gone. */
function family(child: ChildProcess): number[] {
  return [...pidsOf(child.pid ?? 0, 'node'), ...pidsOf(child.pid ?? 0, 'postgres')];
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === 'string') throw new Error('No free port.');
  return address.port;
}
