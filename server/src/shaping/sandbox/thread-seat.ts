import { Worker } from 'node:worker_threads';
import type { Clock } from '../../kernel/clock.ts';
import type { Program, ProgramFault, ProgramInput, RunResult } from '../program.ts';
import { FairQueue } from './fair-queue.ts';
import type { Done, Job, Report, ThreadData, Work } from './messages.ts';

/** Something to do that waits for its turn, or is being done. */
export interface Order {
  /** Whose it is, from the wider to the narrower: turns go by them. */
  owners: readonly string[];
  program: Program;
  /** null: it is to be checked only. */
  input: ProgramInput | null;
  onDone(outcome: Outcome): void;
}

export type Outcome =
  | { kind: 'run'; result: RunResult; tookMs: number; isWide: boolean }
  | { kind: 'check'; fault: ProgramFault | undefined; tookMs: number; isWide: boolean };

export interface SeatOptions {
  clock: Clock;
  minijinja: () => WebAssembly.Module;
  /** Its threads give way to all else that the machine has to do. */
  givesWay: boolean;
  /** Orders that a thread is given at once. */
  ordersAtOnce: number;
  /** Told of each thread that ended before the seat was stopped; `killed`: its order took too long. */
  onEnded: (killed: boolean) => void;
}

/** A thread that runs one order for so long is ended: its engines' own limits have failed. */
const RUN_MS_MAX = 250;

/** How often it is looked at whether one does. */
const WATCH_MS = 25;

/** Programs that a thread remembers. */
const PROGRAMS_MAX = 500;

/** Threads in a row that end without having done anything, before it is given up for what waits. */
const BARREN_MAX = 3;

/** Numbers of orders begin anew behind it: it is the largest that a thread can tell. */
const NUMBER_MAX = 2 ** 31 - 1;

/** V8's part of a thread; what its engines have beside it is capped by their own memories. */
const RESOURCE_LIMITS = { maxOldGenerationSizeMb: 128, maxYoungGenerationSizeMb: 16, stackSizeMb: 4 };

/**
 * A place for one thread of the sandbox, with what waits for it. The thread starts with the first order. One that hangs,
 * breaks or has used up its memory is ended and another takes its place: the order that it was at has failed, those
 * behind it are done by the next one.
 */
export class ThreadSeat {
  readonly #options: SeatOptions;
  readonly #queue = new FairQueue<Order>();
  #thread: Thread | undefined;
  #sending = false;
  #stopped = false;
  /** Threads in a row that ended without having done anything. */
  #barren = 0;

  constructor(options: SeatOptions) {
    this.#options = options;
  }

  /** Orders that wait for their turn, or are being done. */
  get waiting(): number {
    return this.#queue.size + (this.#thread?.given ?? 0);
  }

  get threads(): number {
    return this.#thread === undefined ? 0 : 1;
  }

  add(order: Order): void {
    this.#queue.add(order);
    if (this.#sending) return;
    this.#sending = true;
    // Deliveries begin many at a time; they go to the thread in one message.
    queueMicrotask(() => {
      this.#sending = false;
      this.#send();
    });
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#queue.drain();
    await this.#thread?.end();
  }

  #send(): void {
    if (this.#stopped || this.#queue.size === 0) return;
    this.#thread ??= this.#start();
    const thread = this.#thread;
    if (thread.isBusy) return;
    const orders: Order[] = [];
    while (orders.length < this.#options.ordersAtOnce) {
      const order = this.#queue.take();
      if (order === undefined) break;
      orders.push(order);
    }
    thread.give(orders);
  }

  #start(): Thread {
    const { minijinja, onEnded } = this.#options;
    const thread: Thread = new Thread(this.#options, minijinja(), {
      onIdle: () => this.#send(),
      onGone: (left, { killed, didNothing }) => {
        if (this.#thread === thread) this.#thread = undefined;
        if (this.#stopped) return;
        onEnded(killed);
        for (const order of left.toReversed()) this.#queue.putBack(order);
        this.#barren = didNothing ? this.#barren + 1 : 0;
        // Threads that break before they come to an order would be followed by others for ever.
        if (this.#barren >= BARREN_MAX) {
          this.#barren = 0;
          for (const order of this.#queue.drain()) order.onDone(failed(order, UNAVAILABLE));
        }
        this.#send();
      },
    });
    return thread;
  }
}

const UNAVAILABLE: ProgramFault = { kind: 'unavailable', message: 'The sandbox for templates does not start.' };
const TOO_LONG: ProgramFault = { kind: 'limit', message: 'It takes too long.' };
const BROKEN: ProgramFault = { kind: 'limit', message: 'It takes too much memory, or more depth than there is.' };

function failed(order: Order, fault: ProgramFault, tookMs = 0): Outcome {
  return order.input === null
    ? { kind: 'check', fault, tookMs, isWide: false }
    : { kind: 'run', result: { ok: false, fault }, tookMs, isWide: false };
}

interface ThreadEvents {
  onIdle(): void;
  /** It has ended, with orders that it did not come to. */
  onGone(left: Order[], how: { killed: boolean; didNothing: boolean }): void;
}

/** One thread from its start to its end. */
class Thread {
  readonly #clock: Clock;
  readonly #events: ThreadEvents;
  readonly #worker: Worker;
  readonly #running = new Int32Array(new SharedArrayBuffer(4));
  readonly #known: KnownPrograms = new KnownPrograms();
  /** Given and not told as done, by their numbers, in order. */
  readonly #given = new Map<number, Order>();
  #number = 0;
  #didNothing = true;
  #ended = false;
  #cancelWatch: (() => void) | undefined;
  /** The job that ran when it was last looked, and since when it has been seen to. */
  #seen = { number: 0, sinceMs: 0 };

  constructor({ clock, givesWay }: SeatOptions, minijinja: WebAssembly.Module, events: ThreadEvents) {
    this.#clock = clock;
    this.#events = events;
    const workerData: ThreadData = { minijinja, running: this.#running, givesWay };
    this.#worker = new Worker(new URL('./thread.ts', import.meta.url), {
      workerData,
      resourceLimits: RESOURCE_LIMITS,
      // Nothing of this process is its business.
      env: {},
      argv: [],
      stdin: false,
      // Engines that break say so, and may quote what they were at.
      stdout: true,
      stderr: true,
    });
    this.#worker.stdout.resume();
    this.#worker.stderr.resume();
    this.#worker.unref();
    this.#worker.on('message', (report: Report) => this.#take(report));
    this.#worker.on('error', () => {
      // `exit` follows.
    });
    this.#worker.on('exit', () => this.#gone(BROKEN));
  }

  get isBusy(): boolean {
    return this.#given.size > 0;
  }

  /** Orders that it has, and has not told as done. */
  get given(): number {
    return this.#given.size;
  }

  give(orders: Order[]): void {
    const work: Work = { programs: [], forget: [], jobs: [] };
    for (const order of orders) {
      this.#number = this.#number === NUMBER_MAX ? 1 : this.#number + 1;
      this.#given.set(this.#number, order);
      if (order.input !== null) this.#known.tell(order.program, work);
      work.jobs.push(jobOf(order, this.#number));
    }
    this.#worker.postMessage(work);
    this.#cancelWatch ??= this.#clock.after(WATCH_MS, () => this.#watch());
  }

  async end(): Promise<void> {
    this.#ended = true;
    this.#cancelWatch?.();
    await this.#worker.terminate();
  }

  #take(report: Report): void {
    if (this.#ended) return;
    this.#didNothing = false;
    const ended = report.done.map((done) => this.#order(done));
    for (const [order, outcome] of ended) order?.onDone(outcome);
    if (report.spent) this.#gone();
    else if (!this.isBusy) this.#events.onIdle();
  }

  #order({ number, ...outcome }: Done): [Order | undefined, Outcome] {
    const order = this.#given.get(number);
    this.#given.delete(number);
    return [order, outcome];
  }

  #watch(): void {
    this.#cancelWatch = undefined;
    if (this.#ended || !this.isBusy) return;
    const number = Atomics.load(this.#running, 0);
    const now = performance.now();
    if (number !== this.#seen.number) this.#seen = { number, sinceMs: now };
    if (number !== 0 && now - this.#seen.sinceMs >= RUN_MS_MAX) {
      this.#gone(TOO_LONG, RUN_MS_MAX);
      return;
    }
    this.#cancelWatch = this.#clock.after(WATCH_MS, () => this.#watch());
  }

  /** Ends it. What it was at has failed for the reason given; without one it was at nothing. */
  #gone(fault?: ProgramFault, tookMs = 0): void {
    if (this.#ended) return;
    void this.end();
    const number = Atomics.load(this.#running, 0);
    const blamed = fault === undefined ? undefined : this.#given.get(number);
    this.#given.delete(blamed === undefined ? 0 : number);
    const left = [...this.#given.values()];
    this.#given.clear();
    const didNothing = this.#didNothing && blamed === undefined;
    this.#events.onGone(left, { killed: fault === TOO_LONG, didNothing });
    if (blamed !== undefined && fault !== undefined) blamed.onDone(failed(blamed, fault, tookMs));
  }
}

function jobOf(order: Order, number: number): Job {
  return order.input === null
    ? { number, kind: 'check', program: order.program }
    : { number, kind: 'run', key: order.program.key, input: order.input };
}

/** The programs that a thread has: each is told once, and the one not used for longest makes room. */
class KnownPrograms {
  readonly #recent = new Map<string, true>();

  tell(program: Program, work: Work): void {
    const { key } = program;
    const known = this.#recent.delete(key);
    this.#recent.set(key, true);
    if (known) return;
    work.programs.push(program);
    const [oldest] = this.#recent.keys();
    if (this.#recent.size > PROGRAMS_MAX && oldest !== undefined) {
      this.#recent.delete(oldest);
      work.forget.push(oldest);
    }
  }
}
