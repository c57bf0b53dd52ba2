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

/** Lanes that are looked at in one go: claims and the heartbeat wait until it is over. */
const LANES_AT_ONCE = 200;

/** A search through the keys of a lane that have waiting rows, some of them in one go. */
interface Search {
  /** The last key that was looked at. */
  from: string;
  /** Something is known to have changed, so it goes on at once. */
  pressing: boolean;
}

export interface OrderKeeperOptions {
  rows: DeliveryRows;
  clock: Clock;
  logger: Logger;
  lanes: ReadonlyMap<string, Lane>;
  /** The lane has something to send. */
  offer: (lane: Lane) => void;
  /** Rows of the lane are due. */
  expect: (lane: Lane) => void;
  /** `restore` is to be called again soon. */
  again: () => void;
  /** These must wait in their rows until their predecessor has ended. */
  park: (tasks: OrderedTask[]) => void;
}

/** Lets the deliveries of a key through one after the other, and brings back those that were parked behind another. */
export class OrderKeeper {
  readonly #options: OrderKeeperOptions;
  /** Lanes of which more may be parked than memory knows. */
  readonly #unsure = new Set<string>();
  /** Lanes that are just being searched. */
  readonly #searches = new Map<string, Search>();
  /** Lanes that this round has still to look at. */
  readonly #round = new Set<string>();

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

  /**
   * Finds out what is parked, and brings back what is parked although nothing before it waits or is under way; of so many
   * lanes at once, and of the others when it is called again.
   */
  async restore(): Promise<void> {
    const { lanes, again } = this.#options;
    for (const webhookId of this.#unsure) if (!lanes.has(webhookId)) this.#unsure.delete(webhookId);
    for (const webhookId of this.#searches.keys()) if (!lanes.has(webhookId)) this.#searches.delete(webhookId);
    // What is stranded is looked for once a round, what has become unsure in the round that is under way.
    if (this.#round.size > 0) for (const webhookId of this.#unsure) this.#round.add(webhookId);
    else for (const lane of lanes.values()) if (this.#mayHaveStranded(lane)) this.#round.add(lane.webhookId);
    let left = LANES_AT_ONCE;
    for (const webhookId of this.#round) {
      this.#round.delete(webhookId);
      const lane = lanes.get(webhookId);
      if (lane !== undefined) await this.#restoreIn(lane);
      left -= 1;
      if (left === 0) break;
    }
    if (this.#round.size > 0) again();
  }

  async #restoreIn(lane: Lane): Promise<void> {
    const stranded = await this.#strandedOf(lane);
    if (this.#mayHaveUnknown(lane)) stranded.push(...(await this.#search(lane)));
    if (stranded.length > 0) await this.#release(lane, stranded);
  }

  #mayHaveStranded(lane: Lane): boolean {
    return this.#mayHaveUnknown(lane) || (lane.sequences?.stalledKeys.length ?? 0) > 0;
  }

  /** Keys of it may be parked that memory does not know. */
  #mayHaveUnknown({ webhookId, sequences }: Lane): boolean {
    return this.#unsure.has(webhookId) || this.#searches.has(webhookId) || sequences?.knowsAllParked === false;
  }

  /**
   * Takes the search through the rows of a lane a step further: has the lane know what is parked, as far as it remembers
   * so many keys, and gives those that are stranded.
   */
  async #search(lane: Lane): Promise<string[]> {
    const { webhookId } = lane;
    const search = this.#searches.get(webhookId) ?? { from: '', pressing: this.#unsure.has(webhookId) };
    if (!this.#searches.has(webhookId)) {
      // What becomes unsure from here on is for the next search.
      this.#unsure.delete(webhookId);
      lane.sequences?.searchBegins();
      this.#searches.set(webhookId, search);
    }
    const found = await this.#options.rows.waitingKeys(lane, search.from, KEYS_AT_ONCE);
    for (const { key, parked } of found) if (parked) lane.noteParked(key);
    const last = found[KEYS_AT_ONCE - 1];
    if (last !== undefined) search.from = last.key;
    else {
      this.#searches.delete(webhookId);
      lane.sequences?.searchEnds();
    }
    if (this.#unsure.has(webhookId) || (last !== undefined && search.pressing)) this.#options.again();
    return found
      .filter(({ key, stranded }) => stranded && lane.sequences?.isActive(key) !== true)
      .map(({ key }) => key);
  }

  async #strandedOf(lane: Lane): Promise<string[]> {
    const { sequences } = lane;
    const stalled = sequences?.stalledKeys ?? [];
    if (stalled.length === 0) return [];
    const { stranded, gone } = await this.#options.rows.judgeParkedKeys(lane, stalled);
    for (const key of gone) sequences?.forgetParked(key);
    return stranded.filter((key) => sequences?.isActive(key) !== true);
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
