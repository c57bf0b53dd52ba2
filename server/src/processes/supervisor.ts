import cluster from 'node:cluster';
import { randomBytes } from 'node:crypto';
import type pg from 'pg';
import type { RunningPosthorn } from '../app.ts';
import type { Config } from '../config.ts';
import { errorCode, openDatabase } from '../db/pool.ts';
import { findSharedPort } from '../http/listen.ts';
import { type Clock, systemClock } from '../kernel/clock.ts';
import { createLogger, type Logger } from '../kernel/logger.ts';
import { RestartDelay } from '../kernel/restart-delay.ts';
import { StartupError } from '../kernel/startup-error.ts';
import { type Keys, readKeys } from '../keys.ts';
import { ProgramMetrics } from '../operations/metrics.ts';
import { prepareDatabase } from '../prepare-database.ts';
import { openStorage, type Storage } from '../storage.ts';
import { apiConnectionsFor, connectionsFor, SUPERVISOR_CONNECTIONS } from './connection-budget.ts';
import { giveUpDeadNode } from './dead-node.ts';
import type { ProgramState, WorkerOrders } from './messages.ts';
import { type WorkerEnd, WorkerProcess } from './worker-process.ts';

/**
 * Starts the program as `config.processes` processes that share the port and the database. This one keeps what there is
 * once (data folder, keys, embedded PostgreSQL, schema) and starts the others, each a node of its own; one that dies is
 * started again, and its deliveries are left to the others at once.
 *
 * @throws StartupError with one line when something outside makes it impossible; whatever was started is stopped.
 */
export async function startProcesses(config: Config, options: { logger?: Logger } = {}): Promise<RunningPosthorn> {
  const logger = options.logger ?? createLogger(config.logLevel);
  let supervisor: Supervisor | undefined;
  const storage = await openStorage(config, {
    logger,
    connectionsMax: connectionsFor(config.processes),
    onOutage: () => supervisor?.tellState(),
  });
  const { connection } = storage;
  const { pool, close } = openDatabase({ connection, max: SUPERVISOR_CONNECTIONS, logger });
  const stop = async () => {
    await supervisor?.stop();
    await close();
    await storage.close();
  };
  try {
    const keys = await readKeys(config, storage);
    const { masterKeys } = keys;
    await prepareDatabase({ connection, mode: config.mode, masterKeys, clock: systemClock, logger });
    const apiConnectionsMax = apiConnectionsFor(config.processes, await connectionsOf(pool));
    const port = await findSharedPort(config);
    supervisor = new Supervisor({
      config: { ...config, port },
      keys,
      storage,
      pool,
      apiConnectionsMax,
      logger,
      clock: systemClock,
    });
    const url = await supervisor.start();
    return {
      url,
      operatorKey: keys.operatorKey,
      firstStart: keys.operatorKeyIsNew,
      databaseDescription: storage.description,
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** Connections that ordinary roles may have, all databases of the server together. */
async function connectionsOf(pool: pg.Pool): Promise<number> {
  const result = await pool.query<{ available: number }>(
    `SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
       - coalesce(current_setting('reserved_connections', true), '0')::int AS available`,
  );
  return result.rows[0]?.available ?? 0;
}

interface SupervisorOptions {
  config: Config;
  keys: Keys;
  storage: Storage;
  pool: pg.Pool;
  apiConnectionsMax: number;
  logger: Logger;
  clock: Clock;
}

/** After the drain a worker still records what came last and gives back what waits. */
const STOP_GRACE_MS = 10_000;

class Supervisor {
  readonly #options: SupervisorOptions;
  /** undefined: its process has ended, and the next one is not started yet. */
  readonly #places: (WorkerProcess | undefined)[];
  readonly #metrics = new ProgramMetrics();
  /** Resolves when the first process runs; the others are loaded by then, and start when it does. */
  readonly #firstRuns = Promise.withResolvers<void>();
  #someHasRun = false;
  readonly #stopping = Promise.withResolvers<void>();
  readonly #keeping: Promise<void>[] = [];
  readonly #endings = new Set<Promise<unknown>>();
  #stopped = false;
  /** As each process has it. */
  readonly #config: Config;

  constructor(options: SupervisorOptions) {
    this.#options = options;
    const { config } = options;
    const share = (max: number) => Math.ceil(max / config.processes);
    this.#config = {
      ...config,
      maxInFlight: share(config.maxInFlight),
      maxInFlightScaled: config.maxInFlightScaled && share(config.maxInFlightScaled),
      maxQueued: share(config.maxQueued),
    };
    this.#places = Array.from({ length: config.processes });
    // The other processes run the same program; what makes them workers is the channel to this one.
    cluster.setupPrimary({ serialization: 'advanced' });
  }

  /** Resolves with the URL when all of them run. @throws StartupError when one of them cannot start. */
  async start(): Promise<string> {
    const [url = ''] = await Promise.all(Array.from(this.#places.keys(), (place) => this.#startFirstTime(place)));
    return url;
  }

  tellState(): void {
    for (const worker of this.#places) if (worker?.running) worker.tell({ kind: 'state', state: this.#state });
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#stopping.resolve();
    const { clock, config, logger } = this.#options;
    for (const worker of this.#places) worker?.tell({ kind: 'stop' });
    const cancel = clock.after(config.drainSeconds * 1000 + STOP_GRACE_MS, () => {
      logger.error('a process did not end in time and is killed');
      for (const worker of this.#places) worker?.kill();
    });
    await Promise.all(this.#places.map((worker) => worker?.ended));
    await Promise.all([...this.#keeping, ...this.#endings]);
    cancel();
  }

  get #state(): ProgramState {
    const running = this.#places.filter((worker) => worker?.running).length;
    return { outage: this.#options.storage.outage(), running, of: this.#places.length };
  }

  /** A place whose process dies while it starts is given to another; only a refusal ends the start. */
  async #startFirstTime(place: number): Promise<string> {
    const delay = new RestartDelay(this.#options.clock);
    for (;;) {
      const started = await this.#launch(place);
      if ('url' in started) {
        this.#someHasRun = true;
        this.#firstRuns.resolve();
        this.#keeping.push(this.#keep(place, started.worker, delay));
        delay.started();
        this.tellState();
        return started.url;
      }
      const { failure, how } = started.end;
      if (failure !== undefined)
        throw failure.expected ? new StartupError(failure.message) : new Error(failure.message);
      if (this.#stopped) throw new StartupError('Stopped before it had started.');
      this.#options.logger.error({ ended: how }, 'a process died while it started; another one is started');
      await this.#wait(delay.next());
    }
  }

  async #launch(place: number): Promise<{ worker: WorkerProcess; url: string } | { end: WorkerEnd }> {
    const { clock, keys, storage, apiConnectionsMax } = this.#options;
    const sessionName = `posthorn ${randomBytes(6).toString('hex')}`;
    const worker = new WorkerProcess({ clock, onProgramMetrics: () => this.#programMetrics() });
    this.#places[place] = worker;
    const ended = worker.ended.then(async (end) => {
      this.#metrics.keepCountsOf(worker.lastMetrics);
      this.#places[place] = undefined;
      this.tellState();
      await this.#giveUp(worker, sessionName);
      return { end };
    });
    this.#endings.add(ended);
    void ended.then(() => this.#endings.delete(ended));
    const orders = (soleNode: boolean): WorkerOrders => ({
      config: this.#config,
      connection: { ...storage.connection, application_name: sessionName },
      operatorKey: keys.operatorKey,
      masterKeys: keys.masterKeys,
      soleNode,
      apiConnectionsMax,
    });
    void worker.awake.then(async () => {
      const first = place === 0 && !this.#someHasRun;
      if (!first) await Promise.race([this.#firstRuns.promise, this.#stopping.promise]);
      if (this.#stopped) return worker.tell({ kind: 'stop' });
      // Whatever is leased when the first one starts is nobody's; that is not so for the others.
      const soleNode = first && storage.exclusive;
      worker.tell({ kind: 'start', orders: orders(soleNode), state: this.#state });
    });
    return Promise.race([worker.ready.then((url) => ({ worker, url })), ended]);
  }

  async #keep(place: number, first: WorkerProcess, delay: RestartDelay): Promise<void> {
    const { logger } = this.#options;
    let worker: WorkerProcess | undefined = first;
    while (true) {
      if (worker !== undefined) {
        const { how } = await worker.ended;
        if (this.#stopped) return;
        logger.error({ pid: worker.pid, node: worker.nodeId, ended: how }, 'a process has ended; it is started again');
      }
      await this.#wait(delay.next());
      if (this.#stopped) return;
      const started = await this.#launch(place);
      if ('url' in started) {
        worker = started.worker;
        delay.started();
        this.tellState();
        logger.info({ pid: worker.pid, node: worker.nodeId }, 'a process runs again');
      } else {
        worker = undefined;
        if (this.#stopped) return;
        const { how, failure } = started.end;
        logger.error({ ended: how, reason: failure?.message }, 'a process could not be started; it is tried again');
      }
    }
  }

  /** The others find out by themselves after a while when this fails. */
  async #giveUp({ nodeId }: WorkerProcess, sessionName: string): Promise<void> {
    if (nodeId === undefined) return;
    try {
      await giveUpDeadNode(this.#options.pool, nodeId, sessionName);
    } catch (error) {
      this.#options.logger.warn({ node: nodeId, code: errorCode(error) }, 'a dead process could not be signed off');
    }
  }

  async #programMetrics(): Promise<string> {
    const running = this.#places.filter((worker) => worker !== undefined).filter((worker) => worker.running);
    return this.#metrics.text(await Promise.all(running.map((worker) => worker.readMetrics())));
  }

  #wait(delayMs: number): Promise<void> {
    if (delayMs === 0) return Promise.resolve();
    let cancel = () => {};
    const waited = new Promise<void>((resolve) => {
      cancel = this.#options.clock.after(delayMs, resolve);
    });
    return Promise.race([waited, this.#stopping.promise]).finally(() => cancel());
  }
}
