import { GroupCommit } from '../db/group-commit.ts';
import { errorCode } from '../db/pool.ts';
import type { Logger } from '../kernel/logger.ts';
import type { DeliveryRows, GiveUp } from './rows.ts';

/** Rows in one statement at most. */
const BATCH_MAX = 1_000;

/** Gives leased rows back without an attempt, those of the same moment in one statement. */
export class GiveBacks {
  readonly #batches: GroupCommit<GiveUp>;

  constructor(options: {
    rows: DeliveryRows;
    logger: Logger;
    /** The row has what it was given; memory need not hold it any more. */
    onGiven: (lease: GiveUp) => void;
    /** Whether the row was changed is not known: its lease may be one that nobody holds. */
    onDoubt: (lease: GiveUp) => void;
  }) {
    const { rows, logger, onGiven, onDoubt } = options;
    this.#batches = new GroupCommit({
      weightMax: BATCH_MAX,
      async commit(leases) {
        try {
          await rows.giveUp(leases);
        } catch (error) {
          logger.error({ code: errorCode(error), deliveries: leases.length }, 'leases could not be given up yet');
          for (const lease of leases) onDoubt(lease);
          return;
        }
        for (const lease of leases) onGiven(lease);
      },
    });
  }

  add(lease: GiveUp): void {
    this.#batches.add(lease);
  }

  whenIdle(): Promise<void> {
    return this.#batches.whenIdle();
  }
}
