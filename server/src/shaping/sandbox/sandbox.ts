import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { type Clock, systemClock } from '../../kernel/clock.ts';
import { RecentEntries } from '../../kernel/recent-entries.ts';
import type { Program, ProgramFault, ProgramInput, RunResult } from '../program.ts';
import { capMemory } from './capped-wasm.ts';
import { type Order, ThreadSeat } from './thread-seat.ts';

export interface Sandbox {
  /** Calls `done` once, later, unless the sandbox is stopped before. */
  run(tenantId: string, program: Program, input: ProgramInput, done: (result: RunResult) => void): void;
  /** What is wrong with a program, as far as can be said without an event; undefined: nothing. */
  check(tenantId: string, program: Program): Promise<ProgramFault | undefined>;
  /** Since the start, for the metrics. */
  readonly counters: Readonly<SandboxCounters>;
  stop(): Promise<void>;
}

export interface SandboxCounters {
  runs: number;
  faults: number;
  /** Threads that were ended because a program did not. */
  killed: number;
}

/** A run that takes so long is slow: a template of ten lines takes less than 0.1 ms, a transform 1 ms. */
const SLOW_MS = 25;
const VERY_SLOW_MS = 100;

/** How long a program that went to its limit, or near it, is not among the quick ones. */
const PROBATION_MS = 60_000;

/** So many times within that time among the quick ones, and none of its tenant is for so long. */
const STRIKES_MAX = 3;

const PROVEN_MAX = 20_000;

const MINIJINJA_BYTES_MAX = 64 * 1024 * 1024;

/**
 * Runs what tenants wrote, in threads of their own: nothing of it can reach into this process, hold it up, or use up its
 * memory.
 *
 * There are two threads. In the one all programs are tried; those that are quick go to the other from then on. So what
 * loops for ever takes time from what is tried, and from what else was slow, and never from programs that have proven
 * themselves. Within a thread tenants take turns, and a tenant's programs do.
 *
 * `clock`: by which programs are given their time. They use it up in real time, whatever the rest of the program goes by.
 */
export function createSandbox(clock: Clock = systemClock): Sandbox {
  const counters: SandboxCounters = { runs: 0, faults: 0, killed: 0 };
  const seat = (options: { ordersAtOnce: number; givesWay: boolean }) =>
    new ThreadSeat({
      ...options,
      clock,
      minijinja: minijinjaModule,
      onKilled: () => {
        counters.killed += 1;
      },
    });
  const quick = seat({ ordersAtOnce: ORDERS_AT_ONCE, givesWay: false });
  const trial = seat({ ordersAtOnce: 1, givesWay: true });
  const standing = new Standing(clock);

  return {
    counters,
    run(tenantId, program, input, done) {
      const owners = [tenantId, program.key] as const;
      const isQuick = standing.isQuick(owners);
      const order: Order = {
        owners,
        program,
        input,
        onDone(outcome) {
          if (outcome.kind !== 'run') return;
          standing.learn(owners, outcome.result, outcome.tookMs, isQuick);
          counters.runs += 1;
          if (!outcome.result.ok) counters.faults += 1;
          done(outcome.result);
        },
      };
      (isQuick ? quick : trial).add(order);
    },
    check(tenantId, program) {
      return new Promise((resolve) => {
        trial.add({
          owners: [tenantId, program.key],
          program,
          input: null,
          onDone: (outcome) => resolve(outcome.kind === 'check' ? outcome.fault : undefined),
        });
      });
    },
    async stop() {
      await Promise.all([quick.stop(), trial.stop()]);
    },
  };
}

type Owners = Order['owners'];

/** Which programs have proven to be quick. */
class Standing {
  readonly #clock: Clock;
  readonly #proven = new RecentEntries<true>(PROVEN_MAX);
  /** Until when programs, and tenants, have to be tried. */
  readonly #onProbation = new RecentEntries<number>(PROVEN_MAX);
  readonly #strikes = new RecentEntries<{ count: number; sinceMs: number }>(PROVEN_MAX);

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  isQuick([tenantId, program]: Owners): boolean {
    const key = `${tenantId}/${program}`;
    if (this.#proven.get(key) === undefined) return false;
    return !this.#isOnProbation(tenantId) && !this.#isOnProbation(key);
  }

  learn([tenantId, program]: Owners, result: RunResult, tookMs: number, amongQuick: boolean): void {
    const key = `${tenantId}/${program}`;
    const atLimit = !result.ok && result.fault.kind === 'limit';
    if (tookMs < SLOW_MS && !atLimit) {
      this.#proven.set(key, true);
      return;
    }
    this.#proven.delete(key);
    if (!atLimit && tookMs < VERY_SLOW_MS) return;
    const nowMs = this.#clock.monotonicMs();
    this.#onProbation.set(key, nowMs + PROBATION_MS);
    if (!amongQuick) return;
    const before = this.#strikes.get(tenantId);
    const isNew = before === undefined || nowMs - before.sinceMs > PROBATION_MS;
    const strikes = isNew ? { count: 1, sinceMs: nowMs } : { ...before, count: before.count + 1 };
    this.#strikes.set(tenantId, strikes);
    if (strikes.count >= STRIKES_MAX) this.#onProbation.set(tenantId, nowMs + PROBATION_MS);
  }

  #isOnProbation(key: string): boolean {
    const untilMs = this.#onProbation.get(key);
    if (untilMs === undefined) return false;
    if (this.#clock.monotonicMs() < untilMs) return true;
    this.#onProbation.delete(key);
    return false;
  }
}

/** A message has that many at most: what is told of the first waits for some of the others. */
const ORDERS_AT_ONCE = 32;

let module: WebAssembly.Module | undefined;

/** Compiled once for all threads, when the first of them starts: it takes 10 ms. */
function minijinjaModule(): WebAssembly.Module {
  if (module === undefined) {
    const file = createRequire(import.meta.url).resolve('minijinja-js/dist/web/minijinja_js_bg.wasm');
    module = new WebAssembly.Module(capMemory(readFileSync(file), MINIJINJA_BYTES_MAX));
  }
  return module;
}
