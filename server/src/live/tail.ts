import { type Database, errorCode } from '../db/pool.ts';
import type { Scope } from '../http/caller.ts';
import type { Clock } from '../kernel/clock.ts';
import { firstIdAt, timeOfId } from '../kernel/ids.ts';
import type { Logger } from '../kernel/logger.ts';
import { noteListener } from './entries.ts';
import type { Listener } from './listener.ts';
import type { Message } from './message.ts';
import { type Page, readPage } from './rows.ts';

/**
 * How often is looked for what is new, while somebody listens. Where a look takes long the next one comes later: looks take
 * a tenth of one connection's time at most.
 */
const POLL_MS = 500;

/** What is younger is left for the next look: it may be overtaken by what another commit is about to store. */
const SETTLE_MS = 300;

/** Rows read at once. */
const PAGE_ROWS = 500;

/** How often is looked for what was stored late, and how late that may be. Nodes' clocks may differ as well. */
const LATE_EVERY_MS = 5_000;
const LATE_MS = 15_000;

/** Beyond so many rows within `LATE_MS` nobody looks for late ones: it would read all of them again. */
const LATE_ROWS_MAX = 2_000;

/** A tail that is further behind lets go of what is between. */
const BEHIND_MS_MAX = 60_000;

const NOTED_EVERY_MS = 3_600_000;

export interface TailOptions {
  db: Database;
  clock: Clock;
  logger: Logger;
  /** Lets few of all tails read at the same time. */
  reading: <T>(read: () => Promise<T>) => Promise<T>;
  /** After each page that was sent on. */
  onSent: () => void;
}

/**
 * Reads what happens in one environment, and sends it to all who listen to it on this node. It lives while somebody
 * listens: without listeners the stream costs nothing.
 *
 * It reads in the order of the rows' ids, which grow with time; everything up to its `mark` was read. What was stored
 * later than `SETTLE_MS` after its time is found by a second look and sent out of order. While the database is away that
 * may be any time later, so a look after a failure goes back to before it.
 */
export class Tail {
  readonly scope: Scope;
  readonly #options: TailOptions;
  readonly #listeners = new Set<Listener>();
  readonly #startMark: string;
  /** Ids that were sent within the time in which late ones are looked for. */
  readonly #sent = new Set<string>();
  #mark: string;
  #lateAtMs: number;
  #lateFromMs: number;
  #stopped = false;
  #noted: { atMs: number; done: Promise<void> } | undefined;
  #cancel = () => {};

  constructor(scope: Scope, options: TailOptions) {
    this.scope = scope;
    this.#options = options;
    const nowMs = options.clock.now();
    this.#mark = firstIdAt(nowMs - SETTLE_MS);
    this.#startMark = this.#mark;
    this.#lateAtMs = nowMs;
    this.#lateFromMs = nowMs;
    this.#later(POLL_MS);
  }

  /** Everything up to this id was sent. */
  get mark(): string {
    return this.#mark;
  }

  has(listener: Listener): boolean {
    return this.#listeners.has(listener);
  }

  /** It is sent everything after `mark` from now on. */
  add(listener: Listener): void {
    this.#listeners.add(listener);
  }

  remove(listener: Listener): void {
    this.#listeners.delete(listener);
  }

  stop(): void {
    this.#stopped = true;
    this.#cancel();
  }

  /** Resolves when what only a stream tells of is being written. To be called again while somebody listens. */
  noteListener(): Promise<void> {
    const { db, clock } = this.#options;
    const nowMs = clock.now();
    if (this.#noted === undefined || nowMs - this.#noted.atMs > NOTED_EVERY_MS) {
      const noted = { atMs: nowMs, done: noteListener(db, this.scope, nowMs) };
      noted.done.catch(() => {
        if (this.#noted === noted) this.#noted = undefined;
      });
      this.#noted = noted;
    }
    return this.#noted.done;
  }

  /** A page of what came before, for a listener that was away. */
  read(after: string, upTo: string): Promise<Page> {
    return this.#options.reading(() => readPage(this.#options.db, this.scope, after, upTo, PAGE_ROWS));
  }

  #later(delayMs: number): void {
    if (this.#stopped) return;
    this.#cancel = this.#options.clock.after(delayMs, () => void this.#poll());
  }

  async #poll(): Promise<void> {
    const { clock, logger } = this.#options;
    const startedMs = clock.monotonicMs();
    let again = POLL_MS;
    try {
      if (await this.#readOn()) again = 0;
      else {
        await this.#readLate();
        again = Math.max(POLL_MS, (clock.monotonicMs() - startedMs) * 9);
      }
    } catch (error) {
      // What is stored once it is back may be from before.
      this.#lateAtMs = 0;
      logger.warn({ code: errorCode(error) }, 'the live stream could not be read; trying again');
    }
    if (clock.now() - timeOfId(this.#mark) > BEHIND_MS_MAX && again === 0) this.#skip();
    this.#later(again);
  }

  /** Reads the next page; true: there is more. */
  async #readOn(): Promise<boolean> {
    const upTo = firstIdAt(this.#options.clock.now() - SETTLE_MS);
    // The clock was put back.
    if (upTo <= this.#mark) return false;
    const page = await this.read(this.#mark, upTo);
    this.#mark = page.upTo;
    this.#send(page.messages, false);
    return page.upTo < upTo;
  }

  async #readLate(): Promise<void> {
    const nowMs = this.#options.clock.now();
    if (nowMs - this.#lateAtMs < LATE_EVERY_MS) return;
    const fromMs = Math.min(this.#lateFromMs, nowMs - LATE_MS);
    this.#forgetBefore(firstIdAt(fromMs));
    this.#lateAtMs = nowMs;
    this.#lateFromMs = nowMs - LATE_MS;
    if (this.#sent.size > LATE_ROWS_MAX) return;
    let after = firstIdAt(fromMs);
    if (after < this.#startMark) after = this.#startMark;
    while (after < this.#mark) {
      const page = await this.read(after, this.#mark);
      this.#send(
        page.messages.filter(({ id }) => !this.#sent.has(id)),
        true,
      );
      after = page.upTo;
    }
  }

  #send(messages: readonly Message[], late: boolean): void {
    if (messages.length === 0) return;
    for (const { id } of messages) this.#sent.add(id);
    for (const listener of this.#listeners) listener.send(messages, late);
    this.#options.onSent();
  }

  /** There is more than can be read in time. */
  #skip(): void {
    const upTo = firstIdAt(this.#options.clock.now() - SETTLE_MS);
    for (const listener of this.#listeners) listener.gap(this.#mark, upTo, 'falling_behind');
    this.#mark = upTo;
    this.#sent.clear();
  }

  #forgetBefore(first: string): void {
    for (const id of this.#sent) if (id < first) this.#sent.delete(id);
  }
}
