import type { DeliveryTask } from '../task.ts';

/** A delivery that has a place among those of its key. */
export type OrderedTask = DeliveryTask & { orderingKey: string; orderNumber: number };

export function isOrdered(task: DeliveryTask): task is OrderedTask {
  return task.orderNumber !== null;
}

interface Sequence {
  /** May be sent, is under way, is being recorded or given back; the others of its key wait for it. */
  active: OrderedTask | undefined;
  /** Those after it that are in memory, in their order. */
  queue: OrderedTask[];
  /** Places of those that are being parked: their rows do not say so yet. */
  returning: Set<number>;
  /** What is parked must be made due once the last of them has returned. */
  releaseThen: boolean;
}

/**
 * Keys of a lane that are remembered to be parked. Of more it is only known that there are some: then the end of any
 * delivery has parked rows of its key looked for, which costs a statement.
 */
export const PARKED_KEYS_MAX = 1_000;

/**
 * Keeps the order of a lane's deliveries, key by key: of each key one delivery at a time is let through, and the next
 * one when it has ended. Keys do not wait for each other.
 *
 * A key whose delivery must wait for a retry has the rest of it parked in the rows, so that memory holds no deliveries
 * that cannot be sent. A row with a waiting predecessor never comes here: the claim parks it. But a claim sees the rows
 * as they were when it began. What returned to its row since then, it took for something in memory; so a row that a
 * claim brings is parked here when a predecessor of it has returned during the claim, or is just returning.
 */
export class KeySequences {
  /** Keys with deliveries in memory. */
  readonly #sequences = new Map<string, Sequence>();
  /** Keys of which deliveries are parked in their rows, `PARKED_KEYS_MAX` at most. */
  readonly #parked = new Set<string>();
  #moreParked = false;
  /** A parked key found no place in `#parked` since the latest search for all of them began. */
  #missed = false;
  /** The first place of each key that has returned to its row since the latest claim began. */
  readonly #returned = new Map<string, number>();

  /** Keys of which deliveries are parked in their rows and that have none in memory. */
  get stalledKeys(): string[] {
    return [...this.#parked].filter((key) => !this.#sequences.has(key));
  }

  /** Of some key more than one is in memory. */
  get holdsBack(): boolean {
    for (const { queue } of this.#sequences.values()) if (queue.length > 0) return true;
    return false;
  }

  /** No other keys are parked than those it remembers. */
  get knowsAllParked(): boolean {
    return !this.#moreParked;
  }

  /** The key has a delivery that may be sent or is under way. */
  isActive(key: string): boolean {
    return this.#sequences.get(key)?.active !== undefined;
  }

  /** A claim of the lane begins: it will see what has returned until now. */
  claimBegins(): void {
    this.#returned.clear();
  }

  /** `first`: it may be sent now; `behind`: `ended` gives it in its turn; `park`: it must go back to its row. */
  admit(task: OrderedTask): 'first' | 'behind' | 'park' {
    const sequence = this.#sequence(task.orderingKey);
    const { orderNumber } = task;
    // It was given back, but the answer of the database was lost.
    sequence.returning.delete(orderNumber);
    if (sequence.active?.id === task.id) sequence.active = undefined;
    const returned = this.#returned.get(task.orderingKey) ?? orderNumber;
    if (returned < orderNumber || [...sequence.returning].some((place) => place < orderNumber)) {
      sequence.returning.add(orderNumber);
      this.noteParked(task.orderingKey);
      return 'park';
    }
    if (sequence.active === undefined) {
      sequence.active = task;
      return 'first';
    }
    // Rows come in their order, nearly always: a place from the end is the place.
    let at = sequence.queue.length;
    while (at > 0 && (sequence.queue[at - 1]?.orderNumber ?? 0) > orderNumber) at -= 1;
    sequence.queue.splice(at, 0, task);
    return 'behind';
  }

  /** Rows of this key were parked. */
  noteParked(key: string): void {
    if (this.#parked.size < PARKED_KEYS_MAX || this.#parked.has(key)) {
      this.#parked.add(key);
      return;
    }
    this.#moreParked = true;
    this.#missed = true;
  }

  /** No row of this key waits any more. */
  forgetParked(key: string): void {
    if (!this.#sequences.has(key)) this.#parked.delete(key);
  }

  /** A search through the rows begins that notes each parked key. */
  searchBegins(): void {
    this.#missed = false;
  }

  searchEnds(): void {
    this.#moreParked = this.#missed;
  }

  /**
   * A delivery has ended and lets the next of its key through. `release`: there is none in memory, and parked rows of
   * the key must be made due.
   */
  ended(task: OrderedTask): { next: OrderedTask | undefined; release: boolean } {
    const sequence = this.#sequences.get(task.orderingKey);
    if (sequence?.active !== task) return { next: undefined, release: false };
    sequence.active = sequence.queue.shift();
    if (sequence.active !== undefined) return { next: sequence.active, release: false };
    if (sequence.returning.size > 0) {
      sequence.releaseThen = true;
      return { next: undefined, release: false };
    }
    this.#sequences.delete(task.orderingKey);
    return { next: undefined, release: this.#takeParked(task.orderingKey) };
  }

  /** A delivery waits in its row again, unfinished: gives those after it, which must be parked. */
  blocked(task: OrderedTask): OrderedTask[] {
    const sequence = this.#sequences.get(task.orderingKey);
    if (sequence?.active !== task) return [];
    const rest = sequence.queue;
    sequence.active = undefined;
    sequence.queue = [];
    if (rest.length > 0) this.noteParked(task.orderingKey);
    for (const { orderNumber } of rest) sequence.returning.add(orderNumber);
    if (sequence.returning.size === 0) this.#sequences.delete(task.orderingKey);
    this.#noteReturned(task);
    return rest;
  }

  /** A delivery that had to be parked is parked now; true when parked rows of the key must be made due. */
  returned(task: OrderedTask): boolean {
    this.#noteReturned(task);
    const sequence = this.#sequences.get(task.orderingKey);
    if (sequence === undefined || !sequence.returning.delete(task.orderNumber)) return false;
    if (sequence.returning.size > 0) return false;
    const release = sequence.releaseThen;
    sequence.releaseThen = false;
    // The one that is under way will have them released.
    if (sequence.active !== undefined) return false;
    this.#sequences.delete(task.orderingKey);
    return release && this.#takeParked(task.orderingKey);
  }

  /** Takes those that wait behind another and match. */
  remove(matches: (task: DeliveryTask) => boolean): OrderedTask[] {
    const removed: OrderedTask[] = [];
    for (const sequence of this.#sequences.values()) {
      removed.push(...sequence.queue.filter(matches));
      sequence.queue = sequence.queue.filter((task) => !matches(task));
    }
    return removed;
  }

  /** Takes all that wait behind another; `unsent` are let through but not under way, and are forgotten. */
  drain(unsent: ReadonlySet<DeliveryTask>): OrderedTask[] {
    const behind = this.remove(() => true);
    for (const [key, sequence] of this.#sequences) {
      if (sequence.active === undefined || !unsent.has(sequence.active)) continue;
      sequence.active = undefined;
      if (sequence.returning.size === 0) this.#sequences.delete(key);
    }
    return behind;
  }

  /** Whether rows of the key may be parked; what asks has them released. */
  #takeParked(key: string): boolean {
    return this.#parked.delete(key) || this.#moreParked;
  }

  #noteReturned({ orderingKey, orderNumber }: OrderedTask): void {
    const first = this.#returned.get(orderingKey) ?? orderNumber;
    this.#returned.set(orderingKey, Math.min(first, orderNumber));
  }

  #sequence(key: string): Sequence {
    let sequence = this.#sequences.get(key);
    if (sequence === undefined) {
      sequence = { active: undefined, queue: [], returning: new Set(), releaseThen: false };
      this.#sequences.set(key, sequence);
    }
    return sequence;
  }
}
