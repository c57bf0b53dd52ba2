import { sql } from 'kysely';
import { type Database, errorCode } from '../db/pool.ts';
import type { Clock } from '../kernel/clock.ts';
import type { Logger } from '../kernel/logger.ts';

const AGAIN_MS = 5_000;

/**
 * How many requests this node may have under way: what is configured, and more while an incident is open whose rule asks
 * for it (`scale_processing_capacity`), for half an hour at most. Every node does the same, told by a notice. However
 * many incidents ask for it, it is the one higher limit.
 */
export class Capacity {
  readonly #db: Database;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #usual: number;
  readonly #raised: number;
  readonly #apply: (inFlightMax: number) => void;
  #untilMs = 0;
  /** What was applied last: time alone changes what holds. */
  #applied: number;
  #readings: Promise<void> = Promise.resolve();
  #cancel = () => {};
  #stopped = false;

  constructor(options: {
    db: Database;
    clock: Clock;
    logger: Logger;
    /** Requests under way at once. */
    usual: number;
    /** The same while it is raised; not more than `usual`: it never is. */
    raised: number;
    apply: (inFlightMax: number) => void;
  }) {
    this.#db = options.db;
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#usual = options.usual;
    this.#applied = options.usual;
    this.#raised = Math.max(options.usual, options.raised);
    this.#apply = options.apply;
  }

  get inFlightMax(): number {
    return this.isRaised ? this.#raised : this.#usual;
  }

  get isRaised(): boolean {
    return this.#clock.now() < this.#untilMs;
  }

  /** To be called for notices of `capacity`, and whenever notices may have been missed. */
  refresh(): Promise<void> {
    // One after the other: an older answer must not come last.
    this.#readings = this.#readings.then(() => this.#read());
    return this.#readings;
  }

  stop(): void {
    this.#stopped = true;
    this.#cancel();
  }

  async #read(): Promise<void> {
    if (this.#stopped) return;
    this.#cancel();
    try {
      const nowMs = this.#clock.now();
      const result = await sql<{ until: Date | null }>`
        SELECT max(i.capacity_until) AS until FROM alert_incidents i
        WHERE i.capacity_until > ${new Date(nowMs)}
          AND NOT EXISTS (SELECT FROM tenants t WHERE t.id = i.tenant_id AND t.suspended_at IS NOT NULL)`.execute(
        this.#db,
      );
      const until = result.rows[0]?.until ?? null;
      this.#untilMs = until?.getTime() ?? 0;
      this.#tell();
      if (this.isRaised) this.#later(this.#untilMs - nowMs);
    } catch (error) {
      this.#logger.warn({ code: errorCode(error) }, 'what capacity is asked for could not be read');
      this.#later(AGAIN_MS);
    }
  }

  #later(delayMs: number): void {
    if (this.#stopped) return;
    this.#cancel = this.#clock.after(delayMs, () => {
      // It is over by itself, whether the database can be asked or not.
      this.#tell();
      void this.refresh();
    });
  }

  #tell(): void {
    if (this.#applied === this.inFlightMax) return;
    this.#applied = this.inFlightMax;
    this.#apply(this.#applied);
    this.#logger.info({ requests_in_flight_max: this.#applied }, 'the limit of requests under way has changed');
  }
}
