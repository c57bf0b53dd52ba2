import { GroupCommit } from '../db/group-commit.ts';
import { errorCode } from '../db/pool.ts';
import type { Clock } from '../kernel/clock.ts';
import type { Logger } from '../kernel/logger.ts';
import { TellingPace } from '../webhooks/telling-pace.ts';
import type { InHand } from './lanes/in-hand.ts';
import { isOrdered } from './lanes/key-sequences.ts';
import type { Lane, LaneKey } from './lanes/lane.ts';
import type { OrderKeeper } from './lanes/order-keeper.ts';
import type { DeliveryRows, GiveUp } from './rows.ts';
import type { DeliveryTask } from './task.ts';

/** Rows in one statement at most. */
const BATCH_MAX = 1_000;

export interface GiveBacksOptions {
  rows: DeliveryRows;
  clock: Clock;
  logger: Logger;
  inHand: InHand;
  order: OrderKeeper;
  /** Its lease is not this node's any more; if it is again, then for another task of the delivery. */
  isLost: (task: DeliveryTask) => boolean;
  /** A row of the lane waits until `dueAtMs`. */
  expect: (lane: Lane, dueAtMs: number) => void;
  /** Whether a row was changed is not known: its lease may be one that nobody holds; `ordered`: as with claims. */
  inDoubt: (ordered: LaneKey[]) => void;
  /** Memory need not hold it any more. */
  letGo: (task: DeliveryTask) => void;
  /** What waited for its end may begin. */
  pump: () => void;
}

/**
 * Nobody can send it any more, whether its row says so yet or not. What a transform cancelled might be sent after all,
 * were its row not written.
 */
function endsAtOnce(lease: GiveUp): boolean {
  return lease.to === 'discarded' && lease.reason !== 'cancelled_by_transform';
}

/** Gives leased rows back without an attempt, those of the same moment in one statement. */
export class GiveBacks {
  readonly #options: GiveBacksOptions;
  readonly #batches: GroupCommit<GiveUp>;

  constructor(options: GiveBacksOptions) {
    const { rows, clock, logger, isLost } = options;
    const telling = new TellingPace(clock);
    this.#options = options;
    this.#batches = new GroupCommit({
      weightMax: BATCH_MAX,
      commit: async (leases) => {
        try {
          const own = leases.filter(({ task }) => !isLost(task));
          await rows.giveUp(own, ({ task }) => telling.takes(task.environmentId));
        } catch (error) {
          logger.error({ code: errorCode(error), deliveries: leases.length }, 'leases could not be given up yet');
          for (const lease of leases) this.#doubt(lease);
          return;
        }
        for (const lease of leases) this.#given(lease);
      },
    });
  }

  add(lease: GiveUp): void {
    const { inHand, order } = this.#options;
    if (isOrdered(lease.task) && endsAtOnce(lease)) order.ended(inHand.lane(lease.task), lease.task);
    this.#batches.add(lease);
  }

  whenIdle(): Promise<void> {
    return this.#batches.whenIdle();
  }

  #given(lease: GiveUp): void {
    const { inHand, order, expect, letGo, pump } = this.#options;
    const { task } = lease;
    const ends = lease.to === 'discarded' && !endsAtOnce(lease) && isOrdered(task);
    if (ends) order.ended(inHand.lane(task), task);
    else this.#leavePlace(lease);
    if (lease.to === 'waiting') expect(inHand.lane(task), lease.dueAtMs);
    letGo(task);
    if (ends) pump();
  }

  #doubt(lease: GiveUp): void {
    const { inDoubt, letGo } = this.#options;
    inDoubt(isOrdered(lease.task) ? [lease.task] : []);
    this.#leavePlace(lease);
    letGo(lease.task);
  }

  /**
   * It has no place in its key any more: it may never come back here. Until its row says that it waits, those behind it
   * waited in memory; from now on they do so in their rows.
   */
  #leavePlace(lease: GiveUp): void {
    const { task, to } = lease;
    if (!isOrdered(task) || endsAtOnce(lease)) return;
    const { inHand, order } = this.#options;
    const lane = inHand.lane(task);
    if (to === 'parked') order.parked(lane, task);
    else order.blocked(lane, task);
  }
}
