import type { Clock } from '../kernel/clock.ts';
import type { Answer, Bucket } from './bucket.ts';
import type { Given, Ledger, Wish } from './ledgers.ts';

/** Requests of one limit that may wait for a statement; there is no use in more of them than that. */
const WAITING_MAX = 10_000;

/** After a statement found nothing, no other one is sent for so long: refusing costs nothing then. */
const EMPTY_MS = 20;

/** The shortest time over which demand is judged: less would make a flood of two requests. */
const DEMAND_MS_MIN = 20;
const DEMAND_MS_MAX = 1_000;

interface Waiter {
  count: number;
  resolve: (answer: Answer) => void;
  reject: (error: unknown) => void;
}

/** What was taken ahead, and until when it may be used, on the monotonic clock. */
interface Slice {
  left: number;
  untilMs: number;
}

/**
 * Buckets whose truth is rows that several nodes share. A node takes slices ahead of need, as large as its demand, so
 * that a request is mostly judged in memory; a request that finds none waits for a statement. Of a node's statements
 * one at a time is under way, for all of its limits together.
 */
export class Slices {
  readonly #clock: Clock;
  readonly #ledger: Ledger;
  readonly #wanted = new Set<SliceBucket>();
  #running: Promise<void> | undefined;

  constructor(clock: Clock, ledger: Ledger) {
    this.#clock = clock;
    this.#ledger = ledger;
  }

  bucket(tenantId: string, subject: string, limit: number): SliceBucket {
    return new SliceBucket({ clock: this.#clock, ledger: this.#ledger, tenantId, subject, limit, want: this.#want });
  }

  /** Waits for the statements under way. */
  async whenIdle(): Promise<void> {
    while (this.#running !== undefined) await this.#running;
  }

  readonly #want = (bucket: SliceBucket): void => {
    this.#wanted.add(bucket);
    this.#start();
  };

  #start(): void {
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined;
      // Something may have been wanted between the last look and now.
      if (this.#wanted.size > 0) this.#start();
    });
  }

  async #run(): Promise<void> {
    while (this.#wanted.size > 0) {
      const buckets = [...this.#wanted];
      this.#wanted.clear();
      const sentMs = this.#clock.monotonicMs();
      try {
        const given = await this.#ledger.take(buckets.map((bucket) => bucket.wish(sentMs)));
        for (const bucket of buckets) bucket.receive(given.get(bucket.key), sentMs);
      } catch (error) {
        for (const bucket of buckets) bucket.fail(error);
      }
      for (const bucket of buckets) if (bucket.waits) this.#wanted.add(bucket);
    }
  }
}

interface SliceBucketOptions {
  clock: Clock;
  ledger: Ledger;
  tenantId: string;
  subject: string;
  limit: number;
  want: (bucket: SliceBucket) => void;
}

export class SliceBucket implements Bucket {
  readonly key: string;
  readonly #options: SliceBucketOptions;
  #limit: number;
  #slices: Slice[] = [];
  #waiters: Waiter[] = [];
  /** Of the statement under way. */
  #sent: { waiters: Waiter[]; back: number } | undefined;
  /** What was given, or had expired, and is to go back to its row. */
  #back: { count: number; period: string } | undefined;
  #period = '';
  #asked = 0;
  #demandSinceMs = Number.NEGATIVE_INFINITY;
  /** Wishes a millisecond. */
  #demand = 0;
  #lastAhead = 0;
  #usedMs = 0;
  /** What the row had left at the last statement; it is told less what was used since. */
  #rowRemaining: number;
  #resetAtMs = 0;
  #emptyUntilMs = Number.NEGATIVE_INFINITY;

  constructor(options: SliceBucketOptions) {
    this.#options = options;
    this.#limit = options.limit;
    this.#rowRemaining = options.limit;
    this.key = `${options.tenantId}/${options.subject}`;
  }

  get waits(): boolean {
    return this.#waiters.length > 0 || this.#back !== undefined;
  }

  take(count: number): Answer | Promise<Answer> {
    const { clock, want } = this.#options;
    const nowMs = clock.monotonicMs();
    this.#usedMs = nowMs;
    this.#asked += count;
    const held = this.#held(nowMs);
    if (held >= count && this.#waiters.length === 0) {
      this.#spend(count);
      if (held - count <= this.#lastAhead / 2 && this.#sent === undefined && nowMs >= this.#emptyUntilMs) want(this);
      return this.#answer(true, nowMs);
    }
    if (nowMs < this.#emptyUntilMs || this.#waiters.length >= WAITING_MAX) return this.#answer(false, nowMs);
    return new Promise((resolve, reject) => {
      this.#waiters.push({ count, resolve, reject });
      want(this);
    });
  }

  giveBack(count: number): void {
    const last = this.#slices.at(-1);
    // What a waiting request was given of a second counts as used when it was given, and cannot be used later.
    if (last !== undefined && this.#options.ledger.keeps) last.left += count;
    else if (this.#options.ledger.keeps) this.#backToRow(count);
  }

  setLimit(limit: number): void {
    this.#limit = limit;
    this.#emptyUntilMs = Number.NEGATIVE_INFINITY;
  }

  /** Gives back to its row what was not used for `idleMs`. */
  returnIdle(idleMs: number): void {
    const nowMs = this.#options.clock.monotonicMs();
    if (!this.#options.ledger.keeps || nowMs - this.#usedMs < idleMs) return;
    const held = this.#held(nowMs);
    this.#slices = [];
    this.#lastAhead = 0;
    if (held > 0) this.#backToRow(held);
  }

  /** Nothing of it is under way or held, and it was not used for `idleMs`. */
  isIdle(idleMs: number): boolean {
    const nowMs = this.#options.clock.monotonicMs();
    return nowMs - this.#usedMs >= idleMs && this.#sent === undefined && !this.waits && this.#held(nowMs) === 0;
  }

  /** What to ask its row for. It is answered with `receive` or `fail`. */
  wish(nowMs: number): Wish {
    const { tenantId, subject, ledger } = this.#options;
    const [first] = this.#waiters;
    // One that wants several gets all or nothing; of those that want one each, the first get what there is.
    const singles = this.#waiters.findIndex(({ count }) => count > 1);
    const length = singles === 0 ? 1 : singles === -1 ? this.#waiters.length : singles;
    const waiters = this.#waiters.splice(0, length);
    this.#judgeDemand(nowMs);
    const back = this.#back;
    this.#back = undefined;
    this.#sent = { waiters, back: back?.count ?? 0 };
    return {
      key: this.key,
      tenantId,
      subject,
      limit: this.#limit,
      now: waiters.reduce((sum, { count }) => sum + count, 0),
      whole: (first?.count ?? 1) > 1,
      // What goes back lay idle: there is no need of more.
      ahead:
        back !== undefined && waiters.length === 0
          ? 0
          : Math.max(0, ledger.ahead(this.#demand, this.#limit) - this.#held(nowMs)),
      back: back?.count ?? 0,
      period: back?.period ?? '',
    };
  }

  /** `given` undefined: there is no row, because the tenant is gone. */
  receive(given: Given | undefined, sentMs: number): void {
    const { clock } = this.#options;
    const nowMs = clock.monotonicMs();
    const waiters = this.#sent?.waiters ?? [];
    this.#sent = undefined;
    let left = given?.now ?? 0;
    if (given !== undefined) {
      this.#rowRemaining = given.remaining;
      this.#resetAtMs = sentMs + given.resetMs;
      this.#lastAhead = given.ahead;
      // What was held is of a period that is over.
      if (given.period !== this.#period) this.#slices = [];
      this.#period = given.period;
      if (given.ahead > 0) this.#slices.push({ left: given.ahead, untilMs: sentMs + given.usableMs });
    }
    const granted = waiters.map(({ count }) => {
      if (count > left) return false;
      left -= count;
      return true;
    });
    if (granted.includes(false)) this.#emptyUntilMs = nowMs + EMPTY_MS;
    for (const [at, { resolve }] of waiters.entries()) resolve(this.#answer(granted[at] === true, nowMs));
  }

  fail(error: unknown): void {
    const sent = this.#sent;
    this.#sent = undefined;
    // What was to go back is lost: whether the row has it is not known, and giving it back twice would be too much.
    for (const { reject } of sent?.waiters ?? []) reject(error);
  }

  #backToRow(count: number): void {
    const { want } = this.#options;
    const before = this.#back?.period === this.#period ? this.#back.count : 0;
    this.#back = { count: before + count, period: this.#period };
    want(this);
  }

  #held(nowMs: number): number {
    while (this.#slices.length > 0) {
      const [first] = this.#slices;
      if (first === undefined || (first.left > 0 && nowMs < first.untilMs)) break;
      this.#slices.shift();
    }
    let held = 0;
    for (const { left } of this.#slices) held += left;
    return held;
  }

  /** The oldest first: they expire first. */
  #spend(count: number): void {
    let missing = count;
    for (const slice of this.#slices) {
      const used = Math.min(slice.left, missing);
      slice.left -= used;
      missing -= used;
    }
  }

  #judgeDemand(nowMs: number): void {
    const elapsedMs = Math.min(DEMAND_MS_MAX, nowMs - this.#demandSinceMs);
    if (elapsedMs < DEMAND_MS_MIN) return;
    // The half of what it was counts too: demand comes in bursts.
    this.#demand = Math.max(this.#asked / elapsedMs, (this.#demand + this.#asked / elapsedMs) / 2);
    this.#asked = 0;
    this.#demandSinceMs = nowMs;
  }

  #answer(granted: boolean, nowMs: number): Answer {
    const resetMs = Math.max(0, this.#resetAtMs - nowMs);
    const remaining = granted ? Math.min(this.#limit, this.#rowRemaining + this.#held(nowMs)) : 0;
    return { granted, remaining, resetMs, retryMs: granted ? 0 : this.#options.ledger.retryMs(resetMs) };
  }
}
