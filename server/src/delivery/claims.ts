import { errorCode } from '../db/pool.ts';
import type { Clock } from '../kernel/clock.ts';
import type { Logger } from '../kernel/logger.ts';
import type { Lane } from './lane.ts';
import type { DeliveryRows, GiveUp } from './rows.ts';
import type { DeliveryTask } from './task.ts';
import { Wakeups } from './wakeups.ts';

export interface ClaimsOptions {
  rows: DeliveryRows;
  clock: Clock;
  logger: Logger;
  lanes: ReadonlyMap<string, Lane>;
  lane: (tenantId: string, webhookId: string) => Lane;
  /** How many more deliveries of the lane memory has room for. */
  room: (lane: Lane) => number;
  take: (task: DeliveryTask) => void;
  giveUp: (lease: GiveUp) => void;
  /** Something was taken: start what can be started. */
  pump: () => void;
  /** This node answers for its leases: what it claims now is its own. */
  alive: () => boolean;
}

/** Rows leased by one statement at most. */
const CLAIM_ROWS_MAX = 1_000;
const CLAIM_LANES_MAX = 50;

/** How often the rows are searched for lanes that this node knows nothing of. */
const SWEEP_MS = 5_000;

/** Other notices of the same moment are served by the same sweep. */
const SWEEP_SOON_MS = 50;

const RETRY_MS = 500;

/**
 * Brings waiting rows into memory when they are due and their lane has room: a lane at a time has one wake-up, and a
 * claim asks only for lanes that are due, so what waits for one webhook is never looked at for another.
 */
export class Claims {
  readonly #options: ClaimsOptions;
  readonly #wakeups: Wakeups;
  readonly #wanted = new Set<string>();
  #chain: Promise<void> = Promise.resolve();
  #running = false;
  // Until the node has its number there is nobody to lease to.
  #stopped = true;
  #sweepDue = false;
  #cancelSweep: (() => void) | undefined;
  #cancelSoon: (() => void) | undefined;
  #cancelRetry: (() => void) | undefined;

  constructor(options: ClaimsOptions) {
    this.#options = options;
    this.#wakeups = new Wakeups(options.clock, (webhookIds) => {
      for (const id of webhookIds) this.#wanted.add(id);
      this.#run();
    });
  }

  async start(): Promise<void> {
    this.#stopped = false;
    await this.#sweep();
    this.#sweepLater();
  }

  /** Waits for a claim under way; what it brought is in memory then. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#cancelSweep?.();
    this.#cancelSoon?.();
    this.#cancelRetry?.();
    this.#wakeups.clear();
    await this.#chain;
  }

  /** A row of the lane waits until `dueAtMs`. */
  expect(lane: Lane, dueAtMs: number): void {
    lane.rowsDueAtMs = Math.min(lane.rowsDueAtMs, dueAtMs);
    if (!this.#stopped) this.#wakeups.set(lane.webhookId, dueAtMs);
  }

  /** The lane has due rows and room again. */
  claimSoon(lane: Lane): void {
    this.#wanted.add(lane.webhookId);
    this.#run();
  }

  sweepSoon(): void {
    this.#cancelSoon ??= this.#options.clock.after(SWEEP_SOON_MS, () => {
      this.#cancelSoon = undefined;
      this.#sweepDue = true;
      this.#run();
    });
  }

  /** Runs `work` while no claim is under way: between them nothing is leased that memory does not know yet. */
  exclusively<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#chain.then(work);
    this.#chain = result.then(
      () => undefined,
      () => undefined,
    );
    return result;
  }

  #sweepLater(): void {
    this.#cancelSweep = this.#options.clock.after(SWEEP_MS, () => {
      this.#sweepDue = true;
      this.#run();
      if (!this.#stopped) this.#sweepLater();
    });
  }

  #run(): void {
    if (this.#running || this.#stopped || !this.#options.alive()) return;
    this.#running = true;
    this.exclusively(async () => {
      while (!this.#stopped && this.#options.alive() && (this.#sweepDue || this.#wanted.size > 0)) {
        if (this.#sweepDue) {
          this.#sweepDue = false;
          await this.#sweep();
        }
        await this.#claim(this.#nextLanes());
      }
    })
      .catch((error) => {
        this.#options.logger.error({ code: errorCode(error) }, 'waiting deliveries could not be read; trying again');
        // One for all that fails meanwhile: each periodic sweep of an outage would else begin a chain of its own.
        this.#cancelRetry ??= this.#options.clock.after(RETRY_MS, () => {
          this.#cancelRetry = undefined;
          this.sweepSoon();
        });
      })
      .finally(() => {
        this.#running = false;
        if (this.#wanted.size > 0 || this.#sweepDue) this.#run();
      });
  }

  #nextLanes(): Lane[] {
    const { lanes, room, clock } = this.#options;
    const now = clock.now();
    const chosen: Lane[] = [];
    for (const webhookId of this.#wanted) {
      if (chosen.length === CLAIM_LANES_MAX) break;
      this.#wanted.delete(webhookId);
      const lane = lanes.get(webhookId);
      if (lane === undefined || lane.rowsDueAtMs > now) continue;
      if (room(lane) > 0) chosen.push(lane);
      // Memory is full, with this lane's deliveries or with others': look again when some have gone.
      else this.#wakeups.set(webhookId, now + RETRY_MS);
    }
    return chosen;
  }

  async #claim(lanes: Lane[]): Promise<void> {
    if (lanes.length === 0) return;
    const { rows, clock, room, lane: laneOf } = this.#options;
    const share = Math.floor(CLAIM_ROWS_MAX / lanes.length);
    // From here on only what is told while the statements run, and what they find, counts.
    for (const lane of lanes) lane.rowsDueAtMs = Number.POSITIVE_INFINITY;
    try {
      const claimed = await rows.claim(lanes, Math.min(share, ...lanes.map(room)), clock.now());
      for (const { task, erased } of claimed) {
        this.#options.take(task);
        if (erased) this.#options.giveUp({ task, to: 'discarded', reason: 'payload_erased', atMs: clock.now() });
      }
      this.#options.pump();
      const due = await rows.nextDue(lanes);
      for (const { tenantId, webhookId } of lanes) {
        const dueAtMs = due.get(webhookId);
        // A lane whose deliveries all ended meanwhile was let go of, and is made anew.
        if (dueAtMs !== undefined) this.#waitFor(laneOf(tenantId, webhookId), dueAtMs);
      }
    } catch (error) {
      for (const { tenantId, webhookId } of lanes) this.expect(laneOf(tenantId, webhookId), clock.now() + RETRY_MS);
      throw error;
    }
  }

  /** A lane with more that is due asks again itself when its queue runs low. */
  #waitFor(lane: Lane, dueAtMs: number): void {
    const now = this.#options.clock.now();
    lane.rowsDueAtMs = Math.min(lane.rowsDueAtMs, dueAtMs);
    if (dueAtMs > now) this.#wakeups.set(lane.webhookId, dueAtMs);
    else if (lane.wantsRows(now)) this.#wanted.add(lane.webhookId);
  }

  async #sweep(): Promise<void> {
    const { rows, clock, lane: laneOf } = this.#options;
    const waiting = await rows.waitingLanes();
    const now = clock.now();
    for (const { tenantId, webhookId, dueAtMs } of waiting) {
      if (dueAtMs !== undefined) this.#waitFor(laneOf(tenantId, webhookId), dueAtMs);
    }
    const holding = waiting.filter((lane) => lane.holds);
    if (holding.length > 0 && (await rows.releaseStranded(holding, now)) > 0) this.sweepSoon();
  }
}
