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
  /** Later ones of the key are parked in their rows. */
  parked: boolean;
  /** Places of those that are being parked: their rows do not say so yet. */
  returning: Set<number>;
  /** What is parked must be made due once the last of them has returned. */
  releaseThen: boolean;
}

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
  readonly #sequences = new Map<string, Sequence>();
  /** The first place of each key that has returned to its row since the latest claim began. */
  readonly #returned = new Map<string, number>();

  /** Keys of which deliveries are parked in their rows and that have none under way. */
  get stalledKeys(): string[] {
    return [...this.#sequences].filter(([, { active, parked }]) => parked && active === undefined).map(([key]) => key);
  }

  /** Keys that have a delivery under way. */
  get activeKeys(): string[] {
    return [...this.#sequences].filter(([, { active }]) => active !== undefined).map(([key]) => key);
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
      sequence.parked = true;
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
    this.#sequence(key).parked = true;
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
    return { next: undefined, release: sequence.parked };
  }

  /** A delivery waits in its row again, unfinished: gives those after it, which must be parked. */
  blocked(task: OrderedTask): OrderedTask[] {
    const sequence = this.#sequences.get(task.orderingKey);
    if (sequence?.active !== task) return [];
    const rest = sequence.queue;
    sequence.active = undefined;
    sequence.queue = [];
    if (rest.length > 0) sequence.parked = true;
    for (const { orderNumber } of rest) sequence.returning.add(orderNumber);
    if (!sequence.parked) this.#sequences.delete(task.orderingKey);
    this.#noteReturned(task);
    return rest;
  }

  /** A delivery that had to be parked is parked now; true when parked rows of the key must be made due. */
  returned(task: OrderedTask): boolean {
    this.#noteReturned(task);
    const sequence = this.#sequences.get(task.orderingKey);
    if (sequence === undefined || !sequence.returning.delete(task.orderNumber)) return false;
    if (sequence.returning.size > 0 || !sequence.releaseThen) return false;
    sequence.releaseThen = false;
    // The one that is under way will have them released.
    if (sequence.active !== undefined) return false;
    this.#sequences.delete(task.orderingKey);
    return true;
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
      if (!sequence.parked) this.#sequences.delete(key);
    }
    return behind;
  }

  #noteReturned({ orderingKey, orderNumber }: OrderedTask): void {
    const first = this.#returned.get(orderingKey) ?? orderNumber;
    this.#returned.set(orderingKey, Math.min(first, orderNumber));
  }

  #sequence(key: string): Sequence {
    let sequence = this.#sequences.get(key);
    if (sequence === undefined) {
      sequence = { active: undefined, queue: [], parked: false, returning: new Set(), releaseThen: false };
      this.#sequences.set(key, sequence);
    }
    return sequence;
  }
}
