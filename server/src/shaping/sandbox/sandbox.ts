import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { type Clock, systemClock } from '../../kernel/clock.ts';
import { RecentEntries } from '../../kernel/recent-entries.ts';
import type { Program, ProgramFault, ProgramInput, RunResult } from '../program.ts';
import { capMemory } from './capped-wasm.ts';
import { type Outcome, ThreadSeat } from './thread-seat.ts';

export interface Sandbox {
  /** Calls `done` once, later, unless the sandbox is stopped before. */
  run(tenantId: string, program: Program, input: ProgramInput, done: (result: RunResult) => void): void;
  /** What is wrong with a program, as far as can be said without an event; undefined: nothing. */
  check(tenantId: string, program: Program): Promise<ProgramFault | undefined>;
  /** Since the start. */
  readonly counters: SandboxCounters;
  /** As they are. */
  readonly gauges: SandboxGauges;
  stop(): Promise<void>;
}

export interface SandboxCounters {
  /** Runs, by what came of them. */
  readonly results: Readonly<Record<RunOutcome, number>>;
  /** Time that programs ran, without what they waited. */
  readonly runMs: number;
  /** Threads that were ended because a program did not. */
  readonly killed: number;
  /** Threads that have ended, those among them: programs used up their memory, or broke them. */
  readonly ended: number;
}

export interface SandboxGauges {
  /** Runs and checks that wait for their turn, or are under way. */
  readonly waiting: number;
  readonly threads: number;
}

export const RUN_OUTCOMES = ['ok', 'syntax', 'failed', 'limit', 'output', 'unavailable'] as const;
export type RunOutcome = (typeof RUN_OUTCOMES)[number];

/** A run that takes so long is slow: a template of ten lines takes less than 0.1 ms, a transform 1 ms. */
const SLOW_MS = 25;
const VERY_SLOW_MS = 100;

/** How long a program that went to its limit, or near it, is not among the quick ones. */
const PROBATION_MS = 60_000;

/** So many times within that time, and all of its tenant's programs are treated so, for as long. */
const STRIKES_MAX = 3;

const PROVEN_MAX = 20_000;

const MINIJINJA_BYTES_MAX = 64 * 1024 * 1024;

/**
 * Runs what tenants wrote, in threads of their own: nothing of it can reach into this process, hold it up, or use up its
 * memory.
 *
 * There are two threads. In the one all programs are tried; those that are quick go to the other from then on. So what
 * loops for ever takes time from what is tried, and from what else was slow, and never from programs that have proven
 * themselves. Within a thread tenants take turns, and a tenant's programs do; where programs are tried, what is known to go
 * to its limits has one turn and all that is new the next, however many tenants have such programs.
 *
 * `clock`: by which programs are given their time. They use it up in real time, whatever the rest of the program goes by.
 */
export function createSandbox(clock: Clock = systemClock): Sandbox {
  const results: Record<RunOutcome, number> = { ok: 0, syntax: 0, failed: 0, limit: 0, output: 0, unavailable: 0 };
  const counters = { results, runMs: 0, killed: 0, ended: 0 };
  const seat = (options: { ordersAtOnce: number; givesWay: boolean }) =>
    new ThreadSeat({
      ...options,
      clock,
      minijinja: minijinjaModule,
      onEnded: (killed) => {
        counters.ended += 1;
        if (killed) counters.killed += 1;
      },
    });
  const quick = seat({ ordersAtOnce: ORDERS_AT_ONCE, givesWay: false });
  const trial = seat({ ordersAtOnce: 1, givesWay: true });
  const standing = new Standing(clock);

  return {
    counters,
    gauges: {
      get waiting() {
        return quick.waiting + trial.waiting;
      },
      get threads() {
        return quick.threads + trial.threads;
      },
    },
    run(tenantId, program, input, done) {
      const owners = [tenantId, program.key] as const;
      const isQuick = standing.isQuick(owners);
      (isQuick ? quick : trial).add({
        owners: isQuick ? owners : [standing.isLate(owners) ? LATE : NEW, ...owners],
        program,
        input,
        onDone(outcome) {
          if (outcome.kind !== 'run') return;
          const { result, tookMs } = outcome;
          standing.learn(owners, outcome, isQuick);
          results[result.ok ? 'ok' : result.fault.kind] += 1;
          counters.runMs += tookMs;
          done(result);
        },
      });
    },
    check(tenantId, program) {
      const owners = [tenantId, program.key] as const;
      return new Promise((resolve) => {
        trial.add({
          owners: [standing.isLate(owners) ? LATE : NEW, ...owners],
          program,
          input: null,
          onDone(outcome) {
            if (outcome.kind !== 'check') return;
            standing.learnOfCheck(owners, outcome.fault);
            resolve(outcome.fault);
          },
        });
      });
    },
    async stop() {
      await Promise.all([quick.stop(), trial.stop()]);
    },
  };
}

/** Of those that are tried, the ones that went to their limits wait for one another, and the others for one of them. */
const NEW = 'new';
const LATE = 'late';

type Owners = readonly [tenantId: string, program: string];

/** Which programs have proven to be quick, and which not to be. */
class Standing {
  readonly #clock: Clock;
  readonly #proven = new RecentEntries<true>(PROVEN_MAX);
  /** Until when programs, and tenants, have to be tried. */
  readonly #onProbation = new RecentEntries<number>(PROVEN_MAX);
  /** Until when tenants are late with what has to be tried. */
  readonly #late = new RecentEntries<number>(PROVEN_MAX);
  readonly #strikes = new RecentEntries<{ count: number; sinceMs: number }>(PROVEN_MAX);

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  isQuick([tenantId, program]: Owners): boolean {
    const key = `${tenantId}/${program}`;
    if (this.#proven.get(key) === undefined) return false;
    return !this.#isIn(this.#onProbation, tenantId) && !this.#isIn(this.#onProbation, key);
  }

  isLate([tenantId, program]: Owners): boolean {
    if (this.#isIn(this.#late, tenantId) || this.#isIn(this.#onProbation, tenantId)) return true;
    return this.#isIn(this.#onProbation, `${tenantId}/${program}`);
  }

  learn([tenantId, program]: Owners, { result, tookMs, isWide }: RunOutcomeSeen, amongQuick: boolean): void {
    const key = `${tenantId}/${program}`;
    const atLimit = isWide || (!result.ok && result.fault.kind === 'limit');
    if (tookMs < SLOW_MS && !atLimit) {
      this.#proven.set(key, true);
      return;
    }
    this.#proven.delete(key);
    if (!atLimit && tookMs < VERY_SLOW_MS) return;
    this.#onProbation.set(key, this.#clock.monotonicMs() + PROBATION_MS);
    this.#strike(tenantId, amongQuick);
  }

  /** Reading a source may take as long as running it. */
  learnOfCheck([tenantId]: Owners, fault: ProgramFault | undefined): void {
    if (fault?.kind === 'limit') this.#strike(tenantId, false);
  }

  #strike(tenantId: string, amongQuick: boolean): void {
    const nowMs = this.#clock.monotonicMs();
    const key = `${tenantId}/${amongQuick}`;
    const before = this.#strikes.get(key);
    const isNew = before === undefined || nowMs - before.sinceMs > PROBATION_MS;
    const strikes = isNew ? { count: 1, sinceMs: nowMs } : { ...before, count: before.count + 1 };
    this.#strikes.set(key, strikes);
    if (strikes.count < STRIKES_MAX) return;
    (amongQuick ? this.#onProbation : this.#late).set(tenantId, nowMs + PROBATION_MS);
  }

  #isIn(entries: RecentEntries<number>, key: string): boolean {
    const untilMs = entries.get(key);
    if (untilMs === undefined) return false;
    if (this.#clock.monotonicMs() < untilMs) return true;
    entries.delete(key);
    return false;
  }
}

type RunOutcomeSeen = Extract<Outcome, { kind: 'run' }>;

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
