import type pg from 'pg';
import { changeText, NOTIFY_SQL } from '../../db/notify.ts';
import { errorCode } from '../../db/pool.ts';
import type { Clock } from '../../kernel/clock.ts';
import type { Logger } from '../../kernel/logger.ts';
import type { LaneKey } from '../lanes/lane.ts';
import type { LaneOwners } from './lane-owners.ts';

export interface LaneNoticesOptions {
  pool: pg.Pool;
  clock: Clock;
  logger: Logger;
  owners: LaneOwners;
}

/** Deliveries that are committed within the same moment are told of together. */
const TELL_AFTER_MS = 5;

/** Tells the other nodes of lanes whose rows wait for whoever owns them. */
export class LaneNotices {
  readonly #options: LaneNoticesOptions;
  readonly #untold = new Map<string, LaneKey>();

  constructor(options: LaneNoticesOptions) {
    this.#options = options;
  }

  /** Soon, with others of the same moment. A notice that is lost costs time only: the owner's own sweep finds the rows. */
  tell(key: LaneKey): void {
    const { clock, logger } = this.#options;
    if (this.#untold.size === 0) {
      clock.after(TELL_AFTER_MS, () => {
        const keys = [...this.#untold.values()];
        this.#untold.clear();
        this.send(keys).catch((error) => {
          logger.warn({ code: errorCode(error) }, 'other nodes could not be told of waiting deliveries');
        });
      });
    }
    this.#untold.set(key.webhookId, key);
  }

  async send(keys: LaneKey[]): Promise<void> {
    const { pool, owners } = this.#options;
    if (keys.length === 0 || owners.alone) return;
    const texts = keys.map(({ tenantId, environmentId, webhookId }) =>
      changeText({ topic: 'lane_due', tenantId, environmentId, webhookId }),
    );
    await pool.query(`${NOTIFY_SQL.replace('$1', 'text')} FROM unnest($1::text[]) AS text`, [texts]);
  }
}
