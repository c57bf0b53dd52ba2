import cluster, { type Worker } from 'node:cluster';
import type { Clock } from '../kernel/clock.ts';
import type { MetricsSnapshot } from '../operations/metrics.ts';
import type { FromWorker, ToWorker } from './messages.ts';

/** How a worker's process ended, for a log line: `SIGKILL`, `code 1`. */
export interface WorkerEnd {
  how: string;
  /** What it said about why it could not start. */
  failure: { message: string; expected: boolean } | undefined;
}

/** Longer than any answer takes; what a worker said last counts then. */
const METRICS_MS_MAX = 2_000;

/** One forked process, from its start to its end. */
export class WorkerProcess {
  readonly #worker: Worker;
  readonly #clock: Clock;
  readonly #onProgramMetrics: () => Promise<string>;
  readonly #awake = Promise.withResolvers<void>();
  readonly #ready = Promise.withResolvers<string>();
  readonly #ended = Promise.withResolvers<WorkerEnd>();
  #failure: WorkerEnd['failure'];
  #nodeId: number | undefined;
  #running = false;
  #lastMetrics: MetricsSnapshot = [];
  #metricsRead: (() => void)[] = [];

  constructor(options: { clock: Clock; onProgramMetrics: () => Promise<string> }) {
    this.#clock = options.clock;
    this.#onProgramMetrics = options.onProgramMetrics;
    this.#worker = cluster.fork();
    this.#worker.on('message', (message: FromWorker) => this.#receive(message));
    this.#worker.once('exit', (code, signal) => this.#end(signal || `code ${code}`));
    this.#worker.on('error', (error) => {
      // Sending to a process that has just died fails too; its exit tells the rest.
      if (this.#worker.process.pid === undefined) this.#end(error.message);
    });
  }

  get pid(): number | undefined {
    return this.#worker.process.pid;
  }

  /** Its number in the database, once it has one. */
  get nodeId(): number | undefined {
    return this.#nodeId;
  }

  /** It takes requests and delivers. */
  get running(): boolean {
    return this.#running;
  }

  /** The metrics it told last. */
  get lastMetrics(): MetricsSnapshot {
    return this.#lastMetrics;
  }

  /** Resolves when it can be told something; never when it ends before. */
  get awake(): Promise<void> {
    return this.#awake.promise;
  }

  /** Resolves with its URL; never when it ends before. */
  get ready(): Promise<string> {
    return this.#ready.promise;
  }

  get ended(): Promise<WorkerEnd> {
    return this.#ended.promise;
  }

  tell(message: ToWorker): void {
    if (this.#worker.isConnected()) this.#worker.send(message);
  }

  kill(): void {
    this.#worker.process.kill('SIGKILL');
  }

  /** Its metrics now, or the last ones when it does not answer. */
  async readMetrics(): Promise<MetricsSnapshot> {
    await new Promise<void>((resolve) => {
      const cancel = this.#clock.after(METRICS_MS_MAX, resolve);
      this.#metricsRead.push(() => {
        cancel();
        resolve();
      });
      this.tell({ kind: 'read metrics' });
    });
    return this.#lastMetrics;
  }

  #receive(message: FromWorker): void {
    switch (message.kind) {
      case 'awake':
        this.#awake.resolve();
        return;
      case 'ready':
        this.#nodeId = message.nodeId;
        this.#running = true;
        this.#ready.resolve(message.url);
        return;
      case 'node':
        this.#nodeId = message.nodeId;
        return;
      case 'failed':
        this.#failure = { message: message.message, expected: message.expected };
        return;
      case 'metrics':
        this.#lastMetrics = message.snapshot;
        this.#answerMetrics();
        return;
      case 'read program metrics':
        void this.#onProgramMetrics().then((text) =>
          this.tell({ kind: 'program metrics', request: message.request, text }),
        );
        return;
    }
  }

  #end(how: string): void {
    this.#running = false;
    this.#answerMetrics();
    this.#ended.resolve({ how, failure: this.#failure });
  }

  #answerMetrics(): void {
    const read = this.#metricsRead;
    this.#metricsRead = [];
    for (const answer of read) answer();
  }
}
