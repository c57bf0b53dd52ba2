import { errorCode } from '../../db/pool.ts';
import type { Clock } from '../../kernel/clock.ts';
import type { Logger } from '../../kernel/logger.ts';
import type { DeliveryRows } from '../rows.ts';
import type { KeySequences, OrderedTask } from './key-sequences.ts';
import type { Lane } from './lane.ts';

/** Parked rows of a key that become due at once; the rest when these have ended. */
const ROWS_A_KEY = 100;

export interface OrderKeeperOptions {
  rows: DeliveryRows;
  clock: Clock;
  logger: Logger;
  lanes: ReadonlyMap<string, Lane>;
  /** The lane has something to send. */
  offer: (lane: Lane) => void;
  /** Rows of the lane are due. */
  expect: (lane: Lane) => void;
  /** These must wait in their rows until their predecessor has ended. */
  park: (tasks: OrderedTask[]) => void;
}

/** Lets the deliveries of a key through one after the other, and brings back those that were parked behind another. */
export class OrderKeeper {
  readonly #options: OrderKeeperOptions;
  /** Lanes of which more may be parked than memory knows. */
  readonly #unsure = new Set<string>();

  constructor(options: OrderKeeperOptions) {
    this.#options = options;
  }

  /** A delivery has ended, so the next of its key may go. */
  ended(lane: Lane, task: OrderedTask): void {
    const release = lane.endSequence(task);
    this.#options.offer(lane);
    if (release) void this.#release(lane, [task.orderingKey]);
  }

  /** A delivery waits in its row again, or its key was parked: those behind it wait in theirs. */
  blocked(lane: Lane, task: OrderedTask): void {
    const behind = lane.sequences?.blocked(task) ?? [];
    if (behind.length > 0) this.#options.park(behind);
  }

  /** A delivery that had to be parked is parked now. */
  parked(lane: Lane, task: OrderedTask): void {
    if (lane.sequences?.returned(task) === true) void this.#release(lane, [task.orderingKey]);
  }

  /** What an earlier owner, or somebody's cancelling, left parked is to be looked for. */
  lookAt(lanes: Iterable<Lane>): void {
    for (const lane of lanes) this.#unsure.add(lane.webhookId);
  }

  /** Brings back keys that are parked although nothing of them is under way. */
  async restore(): Promise<void> {
    const { lanes, rows } = this.#options;
    for (const lane of lanes.values()) {
      if (!this.#unsure.has(lane.webhookId) && !hasStalled(lane.sequences)) continue;
      this.#unsure.delete(lane.webhookId);
      const parked = await rows.parkedKeys(lane);
      // What waits behind a retry is released when that has ended, by whoever has the lane then.
      for (const { key } of parked) lane.noteParked(key);
      const active = new Set(lane.sequences?.activeKeys ?? []);
      const stranded = parked.filter(({ key, stranded }) => stranded && !active.has(key)).map(({ key }) => key);
      if (stranded.length > 0) await this.#release(lane, stranded);
    }
    for (const webhookId of this.#unsure) if (!lanes.has(webhookId)) this.#unsure.delete(webhookId);
  }

  async #release(lane: Lane, keys: string[]): Promise<void> {
    const { rows, clock, logger, expect } = this.#options;
    try {
      const released = await rows.releaseKeys(lane, keys, ROWS_A_KEY, clock.now());
      // There may be more of them than were released.
      for (const key of released) lane.noteParked(key);
      if (released.size > 0) expect(lane);
    } catch (error) {
      logger.warn({ code: errorCode(error), webhook_id: lane.webhookId }, 'parked deliveries are released later');
      this.#unsure.add(lane.webhookId);
    }
  }
}

function hasStalled(sequences: KeySequences | undefined): boolean {
  return sequences !== undefined && sequences.stalledKeys.length > 0;
}
