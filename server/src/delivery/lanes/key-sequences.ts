import type { DeliveryTask } from '../task.ts';

/** A delivery that has a place among those of its key. */
export type OrderedTask = DeliveryTask & { orderingKey: string; orderNumber: number };

export function isOrdered(task: DeliveryTask): task is OrderedTask {
  return task.orderNumber !== null;
}

interface Sequence {
  /** May be sent, is under way or is being recorded; the others of its key wait for it. */
  active: OrderedTask | undefined;
  /** Those after it that are in memory, in their order. */
  queue: OrderedTask[];
  /** Later ones of the key are parked in their rows. */
  parked: boolean;
}

/**
 * Keeps the order of a lane's deliveries, key by key: of each key one delivery at a time is let through, and the next
 * one when it has ended. Keys do not wait for each other.
 *
 * A key whose delivery must wait for a retry has the rest of it parked in the rows, so that memory holds no deliveries
 * that cannot be sent. A row with a waiting predecessor never comes here: the claim parks it.
 */
export class KeySequences {
  readonly #sequences = new Map<string, Sequence>();

  /** Keys of which deliveries are parked in their rows and that have none under way. */
  get stalledKeys(): string[] {
    return [...this.#sequences].filter(([, { active, parked }]) => parked && active === undefined).map(([key]) => key);
  }

  /** Keys that have a delivery under way. */
  get activeKeys(): string[] {
    return [...this.#sequences].filter(([, { active }]) => active !== undefined).map(([key]) => key);
  }

  /** True when it may be sent now; otherwise `ended` gives it in its turn. */
  admit(task: OrderedTask): boolean {
    const sequence = this.#sequence(task.orderingKey);
    if (sequence.active === undefined) {
      sequence.active = task;
      return true;
    }
    // Rows come in their order, nearly always: a place from the end is the place.
    let at = sequence.queue.length;
    while (at > 0 && (sequence.queue[at - 1]?.orderNumber ?? 0) > task.orderNumber) at -= 1;
    sequence.queue.splice(at, 0, task);
    return false;
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
    if (sequence?.active?.id !== task.id) return { next: undefined, release: false };
    sequence.active = sequence.queue.shift();
    if (sequence.active !== undefined) return { next: sequence.active, release: false };
    this.#sequences.delete(task.orderingKey);
    return { next: undefined, release: sequence.parked };
  }

  /** A delivery goes back to its row unfinished: gives those after it, which must be parked. */
  blocked(task: OrderedTask): OrderedTask[] {
    const sequence = this.#sequences.get(task.orderingKey);
    if (sequence?.active?.id !== task.id) return [];
    const rest = sequence.queue;
    sequence.active = undefined;
    sequence.queue = [];
    if (rest.length > 0) sequence.parked = true;
    if (!sequence.parked) this.#sequences.delete(task.orderingKey);
    return rest;
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

  /** Takes all that wait behind another. */
  drain(): OrderedTask[] {
    return this.remove(() => true);
  }

  #sequence(key: string): Sequence {
    let sequence = this.#sequences.get(key);
    if (sequence === undefined) {
      sequence = { active: undefined, queue: [], parked: false };
      this.#sequences.set(key, sequence);
    }
    return sequence;
  }
}
