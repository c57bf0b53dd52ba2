import type { Clock } from '../../kernel/clock.ts';
import type { Batching } from '../../webhooks/batching.ts';
import type { WebhookTarget } from '../../webhooks/target.ts';
import { isFirstAttemptDue } from '../first-attempts.ts';
import type { DeliveryTask } from '../task.ts';
import { isOrdered, KeySequences, type OrderedTask } from './key-sequences.ts';
import { Pace } from './pace.ts';
import { PriorityQueue } from './priority-queue.ts';

/**
 * The two kinds of turns: `fresh` for first attempts of new events, `later` for retries, replays and what had to wait
 * in its row. They are given separately, so that a storm of retries does not delay first attempts.
 */
export type TurnKind = 'fresh' | 'later';

/** Which lane it is: a webhook with its place in the tenant. */
export interface LaneKey {
  readonly tenantId: string;
  readonly environmentId: string;
  readonly webhookId: string;
}

/**
 * A webhook's place in the engine: the deliveries of it that this node holds in memory, how many are under way, its
 * limits, and when the next of those that wait in their rows is due.
 */
export class Lane implements LaneKey {
  readonly tenantId: string;
  readonly environmentId: string;
  readonly webhookId: string;
  /** Deliveries in memory: queued, under way, or waiting to be recorded. */
  held = 0;
  /** Those of them that came from their rows: first attempts that waited for their turn, and what is later. */
  readonly claimed = { first: 0, later: 0 };
  inFlight = 0;
  /** Requests under way at most; the webhook's `max_concurrency` once its configuration was seen. */
  concurrency: number = DEFAULT_CONCURRENCY;
  /** Already stands in its tenant's turn order, for each kind of turn. */
  readonly inTurn = { fresh: false, later: false };
  /** When the earliest waiting row is due, in milliseconds; Infinity: none known. */
  rowsDueAtMs = Number.POSITIVE_INFINITY;
  /** What a request to it takes, on average: what a turn is charged before its end is known. Milliseconds. */
  expectedMs = EXPECTED_MS_AT_FIRST;
  /** Its pace lets the next request start later. */
  resting = false;
  /** Its webhook is being read anew: until its limits are known, nothing more starts. */
  reading = false;
  /** It moves to another node: nothing starts any more, and it is given up when nothing is under way. */
  leaving = false;
  /**
   * It keeps an order, and rows of it may be leased to this node that it does not know of. Until they are found nothing
   * more of it is claimed, and no other node may have it: what comes after them would be sent before them.
   */
  inDoubt = false;
  /** This node may send the one request that tries whether the webhook is back. */
  probing = false;
  /** Its deliveries wait for others to go with; null: each goes by itself. */
  batching: Batching | null = null;
  /**
   * Events that are shaped for one request at most: twice as many as fitted into the last one, so that templates which
   * make much of little do not have the same events shaped again and again.
   */
  shapedTogetherMax = Number.POSITIVE_INFINITY;
  pace: Pace | undefined;
  sequences: KeySequences | undefined;
  readonly #queues = { fresh: new PriorityQueue<DeliveryTask>(), later: new PriorityQueue<DeliveryTask>() };
  /** When the first of those that wait for others came, in milliseconds since the epoch; Infinity: none does. */
  readonly #gatheringSinceMs = { fresh: Number.POSITIVE_INFINITY, later: Number.POSITIVE_INFINITY };
  /** They have waited for long enough. */
  readonly #ripe = { fresh: false, later: false };
  /** Of the payloads in the queues, while they wait for others. */
  readonly #queuedBytes = { fresh: 0, later: 0 };
  /** Parts of a row that are owed to what is later. */
  #owedToLater = 0;
  #laterInFlight = 0;
  #laterMax = LATER_AT_FIRST;
  /** Requests at once while the receiver recovers, of whatever kind. */
  #recoveryMax = Number.POSITIVE_INFINITY;

  constructor(key: LaneKey) {
    this.tenantId = key.tenantId;
    this.environmentId = key.environmentId;
    this.webhookId = key.webhookId;
  }

  /** Deliveries that could be sent now, but for limits. */
  get queued(): number {
    return this.#queues.fresh.size + this.#queues.later.size;
  }

  /** Nothing of it is in memory, nothing is known to wait, and it has nothing to remember. */
  get idle(): boolean {
    if (this.held > 0 || this.inFlight > 0 || this.rowsDueAtMs !== Number.POSITIVE_INFINITY) return false;
    if (this.leaving || this.inDoubt || this.probing || this.#recoveryMax !== Number.POSITIVE_INFINITY) return false;
    return this.pace === undefined && this.sequences === undefined;
  }

  /** A request of this kind could start now, but for its pace. */
  wants(kind: TurnKind): boolean {
    if (this.resting || this.reading || this.leaving) return false;
    if (this.inFlight >= Math.min(this.concurrency, this.#recoveryMax) || this.#queues[kind].size === 0) return false;
    if (this.batching !== null && !this.#isRipe(kind, this.batching)) return false;
    return kind === 'fresh' || this.#laterInFlight < this.#laterMax;
  }

  /** Milliseconds until its pace lets the next request start. */
  waitMs(clock: Clock): number {
    return this.pace === undefined ? 0 : this.pace.readyAtMs - clock.monotonicMs();
  }

  /** The priority of what it would send next in a turn of this kind. */
  urgency(kind: TurnKind): number {
    return this.#queues[kind].highest;
  }

  /** Its queue runs low while rows of it are due; a long queue of what is later keeps no first attempts in their rows. */
  wantsRows(nowMs: number): boolean {
    if (this.rowsDueAtMs > nowMs || this.leaving) return false;
    const enough = this.concurrency * (this.batching?.maxEvents ?? 1);
    if (this.queued < enough) return true;
    return isFirstAttemptDue(this.rowsDueAtMs) && this.claimed.first < enough;
  }

  /** Of so many rows to be claimed, those for first attempts: all but one in four, over time. */
  shareOfFirst(rows: number): number {
    this.#owedToLater = (this.#owedToLater % 1) + rows / LATER_SHARE;
    return rows - Math.floor(this.#owedToLater);
  }

  /** Takes over the webhook's limits. */
  configure(target: WebhookTarget): void {
    this.concurrency = target.maxConcurrency ?? DEFAULT_CONCURRENCY;
    this.batching = target.batching;
    if (target.rateLimitPerMinute === null) this.pace = undefined;
    else this.pace = this.pace?.at(target.rateLimitPerMinute) ?? new Pace(target.rateLimitPerMinute, 0);
  }

  /** This node has just become the only one that sends to it. */
  takeOver(target: WebhookTarget, notBeforeMs: number): void {
    this.leaving = false;
    if (target.ordering !== null) this.sequences ??= new KeySequences();
    this.pace = target.rateLimitPerMinute === null ? undefined : new Pace(target.rateLimitPerMinute, notBeforeMs);
    this.configure(target);
  }

  /** Queues a delivery; one that has a predecessor in memory comes after it. `park`: it must go back to its row. */
  push(task: DeliveryTask): 'queued' | 'park' {
    if (isOrdered(task)) {
      this.sequences ??= new KeySequences();
      const place = this.sequences.admit(task);
      if (place !== 'first') return place === 'park' ? 'park' : 'queued';
    }
    this.#queue(task);
    return 'queued';
  }

  /** Rows of this ordering key are parked. */
  noteParked(key: string): void {
    this.sequences ??= new KeySequences();
    this.sequences.noteParked(key);
  }

  /** Takes the next delivery for a turn of this kind; a request for it is under way from here on. */
  shift(kind: TurnKind): DeliveryTask | undefined {
    const task = this.#queues[kind].shift();
    if (task !== undefined) this.#countBytes(task, -1);
    return task;
  }

  /** Puts back what was taken and did not go, before what came after it. It does not wait for others once more. */
  putBack(tasks: readonly DeliveryTask[]): void {
    for (const task of tasks.toReversed()) {
      const kind = turnKindOf(task);
      this.#queues[kind].putBack(task, task.priority);
      this.#countBytes(task, 1);
      this.#gatheringSinceMs[kind] = Number.NEGATIVE_INFINITY;
    }
  }

  /** What `shift` takes next. */
  peek(kind: TurnKind): DeliveryTask | undefined {
    return this.#queues[kind].peek();
  }

  /** A batch was taken: what is left waits for others anew. */
  gathered(kind: TurnKind): void {
    this.#ripe[kind] = false;
    this.#gatheringSinceMs[kind] = Number.POSITIVE_INFINITY;
  }

  /** Lets go what has waited for others for long enough; gives the time at which the next has, Infinity for none. */
  ripen({ maxWaitMs }: Batching, nowMs: number): number {
    let nextMs = Number.POSITIVE_INFINITY;
    for (const kind of TURN_KINDS) {
      if (this.#queues[kind].size === 0) {
        this.gathered(kind);
        continue;
      }
      this.#gatheringSinceMs[kind] = Math.min(this.#gatheringSinceMs[kind], nowMs);
      const ripeAtMs = this.#gatheringSinceMs[kind] + maxWaitMs;
      this.#ripe[kind] = ripeAtMs <= nowMs;
      if (!this.#ripe[kind]) nextMs = Math.min(nextMs, ripeAtMs);
    }
    return nextMs;
  }

  begun(kind: TurnKind): void {
    this.inFlight += 1;
    if (kind === 'later') this.#laterInFlight += 1;
  }

  ended(kind: TurnKind): void {
    this.inFlight -= 1;
    if (kind === 'later') this.#laterInFlight -= 1;
  }

  /**
   * What an attempt showed of the receiver. A backlog starts with few requests at once and doubles with each round that
   * succeeds: a receiver that has just come back is not overrun.
   */
  learn(succeeded: boolean, durationMs: number): void {
    this.expectedMs += (durationMs - this.expectedMs) / EXPECTED_MS_OVER;
    this.#laterMax = succeeded
      ? Math.min(this.#laterMax + 1, DEFAULT_CONCURRENCY * 16)
      : Math.max(LATER_AT_FIRST, Math.floor(this.#laterMax / 2));
    if (succeeded) this.#recoveryMax += 1;
    if (this.#recoveryMax >= this.concurrency) this.#recoveryMax = Number.POSITIVE_INFINITY;
  }

  /** Its circuit has closed, or it was resumed: also what was published just now begins with few requests at once. */
  recover(): void {
    this.#recoveryMax = LATER_AT_FIRST;
    this.#laterMax = LATER_AT_FIRST;
  }

  /** The key's delivery has ended: lets the next one of it through; true when parked rows of the key must be released. */
  endSequence(task: OrderedTask): boolean {
    const { next, release } = this.sequences?.ended(task) ?? { next: undefined, release: false };
    if (next !== undefined) this.#queue(next);
    return release;
  }

  /** Takes all that waits; what is under way keeps its place in its sequence. */
  drain(): DeliveryTask[] {
    const first = [...this.#queues.fresh.drain(), ...this.#queues.later.drain()];
    for (const task of first) this.#countBytes(task, -1);
    return [...first, ...(this.sequences?.drain(new Set(first)) ?? [])];
  }

  /** Takes what waits and matches; what came after an ordered one of them is let through. */
  remove(matches: (task: DeliveryTask) => boolean): DeliveryTask[] {
    const behind = this.sequences?.remove(matches) ?? [];
    const queued = [...this.#queues.fresh.remove(matches), ...this.#queues.later.remove(matches)];
    for (const task of queued) this.#countBytes(task, -1);
    return [...queued, ...behind];
  }

  #queue(task: DeliveryTask): void {
    this.#queues[turnKindOf(task)].push(task, task.priority);
    this.#countBytes(task, 1);
  }

  /** What was queued before batching began is not counted: it goes when its time is over. */
  #countBytes(task: DeliveryTask, by: 1 | -1): void {
    if (this.batching === null) return;
    const kind = turnKindOf(task);
    const bytes = this.#queuedBytes[kind] + task.event.data.length * by;
    this.#queuedBytes[kind] = this.#queues[kind].size === 0 ? 0 : Math.max(0, bytes);
  }

  /**
   * A batch of this kind may go: it is full, or has waited for long enough. With an order nothing waits for others while
   * more of its keys waits behind it, which cannot come into the same batch.
   */
  #isRipe(kind: TurnKind, { maxEvents, maxBytes }: Batching): boolean {
    if (this.#ripe[kind] || this.#queues[kind].size >= maxEvents) return true;
    return this.#queuedBytes[kind] >= maxBytes || this.sequences?.holdsBack === true;
  }
}

/** Requests under way to one webhook at once where it sets no `max_concurrency`. */
const DEFAULT_CONCURRENCY = 64;

const TURN_KINDS: readonly TurnKind[] = ['fresh', 'later'];

const EXPECTED_MS_AT_FIRST = 10;

/** One in so many claimed rows is for what is later while first attempts wait, as with turns. */
const LATER_SHARE = 4;

/** Requests over which the average is taken. */
const EXPECTED_MS_OVER = 16;

const LATER_AT_FIRST = 4;

function turnKindOf(task: DeliveryTask): TurnKind {
  return task.late ? 'later' : 'fresh';
}
