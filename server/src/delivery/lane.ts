import type { DeliveryTask } from './task.ts';

/**
 * A webhook's place in the engine: the deliveries of it that this node holds in memory, how many are under way, and
 * when the next of those that wait in their rows is due.
 */
export class Lane {
  readonly tenantId: string;
  readonly webhookId: string;
  /** Deliveries in memory: queued, under way, or waiting to be recorded. */
  held = 0;
  inFlight = 0;
  /** Requests under way at most; the webhook's `max_concurrency` once its configuration was seen. */
  concurrency: number = DEFAULT_CONCURRENCY;
  /** Already stands in its tenant's turn order. */
  inTurn = false;
  /** When the earliest waiting row is due, in milliseconds; Infinity: none known. */
  rowsDueAtMs = Number.POSITIVE_INFINITY;
  #tasks: DeliveryTask[] = [];
  #head = 0;

  constructor(tenantId: string, webhookId: string) {
    this.tenantId = tenantId;
    this.webhookId = webhookId;
  }

  get queued(): number {
    return this.#tasks.length - this.#head;
  }

  get ready(): boolean {
    return this.queued > 0 && this.inFlight < this.concurrency;
  }

  /** Nothing of it is in memory, and nothing is known to wait. */
  get idle(): boolean {
    return this.held === 0 && this.inFlight === 0 && this.rowsDueAtMs === Number.POSITIVE_INFINITY;
  }

  /** Its queue runs low while rows of it are due. */
  wantsRows(nowMs: number): boolean {
    return this.rowsDueAtMs <= nowMs && this.queued < this.concurrency;
  }

  limit(maxConcurrency: number | null): void {
    this.concurrency = maxConcurrency ?? DEFAULT_CONCURRENCY;
  }

  push(task: DeliveryTask): void {
    this.#tasks.push(task);
  }

  shift(): DeliveryTask | undefined {
    const task = this.#tasks[this.#head];
    if (task === undefined) return undefined;
    // Array.shift moves every element; a moving head costs nothing, and the spent part goes when it is half of the array.
    this.#head += 1;
    if (this.#head > 64 && this.#head * 2 > this.#tasks.length) {
      this.#tasks = this.#tasks.slice(this.#head);
      this.#head = 0;
    }
    return task;
  }

  /** Takes all that waits. */
  drain(): DeliveryTask[] {
    const waiting = this.#tasks.slice(this.#head);
    this.#tasks = [];
    this.#head = 0;
    return waiting;
  }
}

/** Requests under way to one webhook at once where it sets no `max_concurrency`. */
const DEFAULT_CONCURRENCY = 64;
