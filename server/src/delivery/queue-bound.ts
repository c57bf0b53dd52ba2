import { errorCode } from '../db/pool.ts';
import type { Clock } from '../kernel/clock.ts';
import { AppError } from '../kernel/errors.ts';
import type { Logger } from '../kernel/logger.ts';
import type { DeliveryRows } from './rows.ts';

export interface QueueBoundOptions {
  rows: DeliveryRows;
  clock: Clock;
  logger: Logger;
  /** Deliveries of one tenant that may wait or be under way. */
  max: number;
  /** How often the waiting rows are counted. */
  everyMs: number;
  /** Deliveries of a tenant that this node holds now. */
  inHand: (tenantId: string) => number;
}

/** After so long another try makes sense. */
const RETRY_AFTER_SECONDS = 5;

/**
 * Keeps the queue of each tenant within a bound, by refusing what is published beyond it: nothing that was accepted is
 * lost, and one tenant's backlog stops no other tenant. What waits in rows is as of the last count, what this node holds
 * as of now, so the bound is exceeded by what is published into rows between two counts.
 */
export class QueueBound {
  readonly #options: QueueBoundOptions;
  #waiting: ReadonlyMap<string, number> = new Map();
  #cancel = () => {};
  #stopped = false;

  constructor(options: QueueBoundOptions) {
    this.#options = options;
  }

  /** Resolves after the first count: a restart lets nothing in that was refused before. */
  async start(): Promise<void> {
    this.#waiting = await this.#options.rows.waitingOfTenants();
    this.#later();
  }

  stop(): void {
    this.#stopped = true;
    this.#cancel();
  }

  /** @throws AppError 429 */
  refuseWhenFull(tenantId: string): void {
    const { max, inHand } = this.#options;
    if ((this.#waiting.get(tenantId) ?? 0) + inHand(tenantId) < max) return;
    throw new AppError({
      code: 'queue_full',
      message: `At most ${max} deliveries may wait, and so many do: publish again when receivers have taken some.`,
      details: { max_queue_size: max },
      retryAfterSeconds: RETRY_AFTER_SECONDS,
    });
  }

  #later(): void {
    if (!this.#stopped) this.#cancel = this.#options.clock.after(this.#options.everyMs, () => void this.#count());
  }

  async #count(): Promise<void> {
    try {
      this.#waiting = await this.#options.rows.waitingOfTenants();
    } catch (error) {
      this.#options.logger.warn(
        { code: errorCode(error) },
        'waiting deliveries could not be counted; the last count stays',
      );
    }
    this.#later();
  }
}
