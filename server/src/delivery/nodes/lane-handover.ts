import { errorCode } from '../../db/pool.ts';
import type { Clock } from '../../kernel/clock.ts';
import type { Logger } from '../../kernel/logger.ts';
import type { InHand } from '../lanes/in-hand.ts';
import type { LaneKey } from '../lanes/lane.ts';
import type { DeliveryTask } from '../task.ts';
import type { LaneNotices } from './lane-notices.ts';
import type { LaneOwners } from './lane-owners.ts';

export interface LaneHandoverOptions {
  clock: Clock;
  logger: Logger;
  owners: LaneOwners;
  inHand: InHand;
  notices: LaneNotices;
  /** Runs work while no claim is under way. */
  exclusively: (work: () => Promise<void>) => Promise<void>;
  /** Lets a delivery that was not begun wait in its row. */
  giveBack: (task: DeliveryTask) => void;
  /** This node stops: what fails is not tried again. */
  stopping: () => boolean;
}

const AGAIN_MS = 1_000;

/** Gives lanes up that another node should have, each when nothing of it is in this node's hands any more. */
export class LaneHandover {
  readonly #options: LaneHandoverOptions;

  constructor(options: LaneHandoverOptions) {
    this.#options = options;
  }

  /** Begins to give up the lanes that are another node's now. */
  leave(): void {
    const { owners, inHand, giveBack } = this.#options;
    const idle: LaneKey[] = [];
    for (const key of owners.owned) {
      const lane = inHand.lane(key);
      // One that has begun to leave leaves: what it gave back may not be in its row yet.
      if (lane.leaving || owners.shouldOwn(key.webhookId)) continue;
      lane.leaving = true;
      for (const task of lane.drain()) giveBack(task);
      if (lane.held === 0) idle.push(key);
    }
    this.giveUp(idle);
  }

  /**
   * Gives up those of the lanes that leave and are idle, once no claim is under way: it could still lease some of their
   * rows, which the other node would not see and send later ones of the same key before them.
   */
  giveUp(keys: LaneKey[]): void {
    const { owners, inHand, exclusively } = this.#options;
    if (keys.length === 0 && !owners.releasing) return;
    void exclusively(async () => {
      const idle = keys.filter(({ webhookId }) => {
        const lane = inHand.lanes.get(webhookId);
        return lane?.leaving && lane.held === 0 && !lane.inDoubt && owners.owns(webhookId);
      });
      await this.#release(idle);
    });
  }

  /** Gives up all lanes of a node that stops with nothing in hand, but those of which it does not know the leases. */
  giveUpAll(): Promise<void> {
    const { owners, inHand } = this.#options;
    return this.#release(owners.owned.filter((key) => !inHand.lane(key).inDoubt));
  }

  async #release(keys: LaneKey[]): Promise<void> {
    const { clock, logger, owners, inHand, notices, stopping } = this.#options;
    const now = clock.monotonicMs();
    const paced = keys.map((lane) => ({
      lane,
      pacedUntilMs: inHand.lanes.get(lane.webhookId)?.pace?.pacedUntilMs ?? now,
    }));
    for (const { webhookId } of keys) inHand.lanes.delete(webhookId);
    try {
      await notices.send(await owners.release(paced));
    } catch (error) {
      logger.warn({ code: errorCode(error), lanes: keys.length }, 'lanes could not be given up yet');
      if (!stopping()) clock.after(AGAIN_MS, () => void this.#release([]));
    }
  }
}
