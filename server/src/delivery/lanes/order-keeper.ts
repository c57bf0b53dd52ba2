import { errorCode } from '../../db/pool.ts';
import type { Clock } from '../../kernel/clock.ts';
import type { Logger } from '../../kernel/logger.ts';
import type { DeliveryRows } from '../rows.ts';
import type { OrderedTask } from './key-sequences.ts';
import type { Lane } from './lane.ts';

/** Parked rows of a key that become due at once; the rest when these have ended. */
const ROWS_A_KEY = 100;

/** Keys of a lane that are looked at in one go. */
const KEYS_AT_ONCE = 1_000;

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

  /** Finds out what is parked, and brings back what is parked although nothing before it waits or is under way. */
  async restore(): Promise<void> {
    const { lanes } = this.#options;
    for (const webhookId of this.#unsure) if (!lanes.has(webhookId)) this.#unsure.delete(webhookId);
    for (const lane of lanes.values()) {
      const stranded = this.#unsure.has(lane.webhookId) ? await this.#explore(lane) : await this.#strandedOf(lane);
      if (stranded.length > 0) await this.#release(lane, stranded);
    }
  }

  /** Has the lane know what earlier owners parked; gives the keys that are stranded. */
  async #explore(lane: Lane): Promise<string[]> {
    this.#unsure.delete(lane.webhookId);
    const found = await this.#options.rows.parkedKeys(lane, KEYS_AT_ONCE);
    // The rest of them when these have gone on.
    if (found.length === KEYS_AT_ONCE) this.#unsure.add(lane.webhookId);
    for (const { key } of found) lane.noteParked(key);
    const active = new Set(lane.sequences?.activeKeys);
    return found.filter(({ key, stranded }) => stranded && !active.has(key)).map(({ key }) => key);
  }

  async #strandedOf(lane: Lane): Promise<string[]> {
    const stalled = lane.sequences?.stalledKeys.slice(0, KEYS_AT_ONCE) ?? [];
    if (stalled.length === 0) return [];
    const stranded = await this.#options.rows.strandedKeys(lane, stalled);
    const active = new Set(lane.sequences?.activeKeys);
    return stranded.filter((key) => !active.has(key));
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
