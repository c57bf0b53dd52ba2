import type { InHand } from './lanes/in-hand.ts';
import { isOrdered } from './lanes/key-sequences.ts';
import type { OrderKeeper } from './lanes/order-keeper.ts';
import type { DeliveryRows } from './rows.ts';
import type { DeliveryTask } from './task.ts';
import type { UnderWay } from './under-way.ts';

export interface EndedElsewhereOptions {
  rows: DeliveryRows;
  inHand: InHand;
  underWay: UnderWay;
  order: OrderKeeper;
  /** Memory need not hold it any more. */
  letGo: (task: DeliveryTask) => void;
  /** There is room in the lanes again. */
  onDropped: () => void;
}

/** Lets go of what is queued here although its row says that it has ended. */
export class EndedElsewhere {
  readonly #options: EndedElsewhereOptions;
  /** Deliveries may have ended of which this node was not told. */
  #unheard = false;

  constructor(options: EndedElsewhereOptions) {
    this.#options = options;
  }

  /**
   * These deliveries were cancelled, all of one tenant if that is known. What of them is under way ends as it does, and moves
   * nothing.
   */
  drop(deliveryIds: readonly string[], tenantId?: string): void {
    const { inHand, underWay, order, letGo, onDropped } = this.#options;
    const ids = new Set(deliveryIds);
    for (const id of ids) {
      const task = underWay.find(id);
      if (task !== undefined) underWay.lose(task);
    }
    for (const lane of inHand.lanes.values()) {
      if (tenantId !== undefined && lane.tenantId !== tenantId) continue;
      for (const task of lane.remove(({ id }) => ids.has(id))) {
        if (isOrdered(task)) order.ended(lane, task);
        letGo(task);
      }
      if (lane.sequences !== undefined) order.lookAt([lane]);
    }
    onDropped();
  }

  noticesMissed(): void {
    this.#unheard = true;
  }

  /** Drops what was cancelled, or ended otherwise, without a word that reached this node. */
  async dropUnheard(): Promise<void> {
    if (!this.#unheard) return;
    const { rows, inHand, underWay } = this.#options;
    // What is missed from here on is for the next time.
    this.#unheard = false;
    try {
      const ended = await rows.endedOf(inHand.tasks().filter(({ id }) => underWay.find(id) === undefined));
      if (ended.length > 0) this.drop(ended);
    } catch (error) {
      this.#unheard = true;
      throw error;
    }
  }
}
