import { errorCode } from '../db/pool.ts';
import type { Clock } from '../kernel/clock.ts';
import type { Logger } from '../kernel/logger.ts';
import type { Admission } from './admission.ts';
import { isFirstAttemptDue } from './first-attempts.ts';
import type { Lane, LaneKey } from './lanes/lane.ts';
import type { ClaimedRow, DeliveryRows, LaneRoom, WaitingLane } from './rows.ts';
import { Wakeups } from './wakeups.ts';

export interface ClaimsOptions {
  rows: DeliveryRows;
  clock: Clock;
  logger: Logger;
  lanes: ReadonlyMap<string, Lane>;
  lane: (key: LaneKey) => Lane;
  /** Lets go of lanes of which nothing is in memory and nothing waits. */
  forgetIdleLanes: () => void;
  /** What may be claimed of lanes whose rows are due. */
  admit: (lanes: Lane[]) => Promise<Admission[]>;
  /** A claim of these lanes begins. */
  begin: (lanes: LaneKey[]) => void;
  /** Takes claimed rows into memory, and starts what can be started. */
  take: (claimed: ClaimedRow[]) => void;
  /** Looks after lanes that keep an order. */
  restoreOrder: () => Promise<void>;
  /** This node answers for its leases: what it claims now is its own. */
  alive: () => boolean;
  /** A claim failed, and rows may be leased all the same; `ordered`: of these lanes in whose order they have a place. */
  inDoubt: (ordered: LaneKey[]) => void;
  /** Rows leased by one statement at most (`CLAIM_ROWS_MAX`). */
  rowsMax?: number | undefined;
  /** How often the rows are searched for lanes that this node knows nothing of (`SWEEP_MS`). */
  sweepMs?: number | undefined;
}

/** Rows leased by one statement at most. */
const CLAIM_ROWS_MAX = 1_000;
const CLAIM_LANES_MAX = 50;

/**
 * Payload bytes that one statement brings at most, unless its lanes are so many, and each has a payload so large, that a
 * row of each is more.
 */
const CLAIM_BYTES_MAX = 32 * 1024 * 1024;

/** How often the rows are searched for lanes that this node knows nothing of. */
const SWEEP_MS = 5_000;

/** Other notices of the same moment are served by the same sweep. */
const SWEEP_SOON_MS = 50;

const RETRY_MS = 500;

/** How long an urgent row waits at most behind a full memory before room is looked for again. */
const ROOM_AGAIN_MS = 100;

/** Held rows of a lane that become due at once. */
const RELEASE_ROWS = 2_000;

/**
 * Brings waiting rows into memory when they are due and their lane has room: a lane at a time has one wake-up, and a
 * claim asks only for lanes that are due, so what waits for one webhook is never looked at for another.
 */
export class Claims {
  readonly #options: ClaimsOptions;
  readonly #rowsMax: number;
  readonly #wakeups: Wakeups;
  readonly #wanted = new Set<string>();
  /** Lanes of which more is held than was made due so far. */
  readonly #releasing = new Set<string>();
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
    this.#rowsMax = options.rowsMax ?? CLAIM_ROWS_MAX;
    this.#wakeups = new Wakeups(options.clock, (webhookIds) => {
      for (const id of webhookIds) this.#wanted.add(id);
      this.#run();
    });
  }

  async start(): Promise<void> {
    this.#stopped = false;
    await this.#sweep();
    this.#sweepLater();
    this.#run();
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
    this.#cancelSweep = this.#options.clock.after(this.#options.sweepMs ?? SWEEP_MS, () => {
      this.#sweepDue = true;
      this.#run();
      if (!this.#stopped) this.#sweepLater();
    });
  }

  #run(): void {
    if (this.#running || this.#stopped || !this.#options.alive()) return;
    this.#running = true;
    this.#work()
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

  /** One step at a time, so that a heartbeat need not wait until everything is claimed. */
  async #work(): Promise<void> {
    while (!this.#stopped && this.#options.alive() && (this.#sweepDue || this.#wanted.size > 0)) {
      await this.exclusively(async () => {
        if (this.#stopped || !this.#options.alive()) return;
        if (this.#sweepDue) {
          this.#sweepDue = false;
          await this.#sweep();
        }
        await this.#claim(this.#nextLanes());
      });
    }
  }

  #nextLanes(): Lane[] {
    const now = this.#options.clock.now();
    const chosen: Lane[] = [];
    // Each of them has a row at least.
    const lanesMax = Math.min(CLAIM_LANES_MAX, this.#rowsMax);
    for (const webhookId of this.#wanted) {
      if (chosen.length === lanesMax) break;
      this.#wanted.delete(webhookId);
      const lane = this.#options.lanes.get(webhookId);
      if (lane !== undefined && lane.rowsDueAtMs <= now) chosen.push(lane);
    }
    return chosen;
  }

  async #claim(due: Lane[]): Promise<void> {
    if (due.length === 0) return;
    // From here on only what is told while the statements run, and what they find, counts.
    for (const lane of due) lane.rowsDueAtMs = Number.POSITIVE_INFINITY;
    try {
      const admissions = await this.#options.admit(due);
      const rooms = this.#rooms(admissions);
      if (rooms.length > 0) await this.#claimRows(rooms);
      for (const admission of admissions) {
        if (admission.kind !== 'claim' || admission.againAtMs === undefined) continue;
        this.#waitFor(this.#options.lane(admission.lane), admission.againAtMs);
      }
    } catch (error) {
      for (const lane of due) this.expect(this.#options.lane(lane), this.#options.clock.now() + RETRY_MS);
      throw error;
    }
  }

  /** What to claim; the other lanes are put off, or left to another node. */
  #rooms(admissions: Admission[]): LaneRoom[] {
    const lanes = Math.max(1, admissions.length);
    const rowsMax = Math.floor(this.#rowsMax / lanes);
    const bytesMax = Math.floor(CLAIM_BYTES_MAX / lanes);
    const rooms: LaneRoom[] = [];
    for (const admission of admissions) {
      if (admission.kind === 'claim') {
        const { lane, room, ordered } = admission;
        const rows = Math.min(rowsMax, room.rows);
        const first = lane.shareOfFirst(rows);
        rooms.push({ lane, room: rows, first, later: room.later, bytes: Math.min(bytesMax, room.bytes), ordered });
      }
      if (admission.kind === 'full') this.#waitForRoom(this.#options.lane(admission.lane));
      if (admission.kind === 'wait') this.expect(this.#options.lane(admission.lane), admission.untilMs);
    }
    return rooms;
  }

  /** Its rows stay due, so that it asks again itself when some of its deliveries have gone. */
  #waitForRoom(lane: Lane): void {
    const now = this.#options.clock.now();
    lane.rowsDueAtMs = Math.min(lane.rowsDueAtMs, now);
    this.#wakeups.set(lane.webhookId, now + ROOM_AGAIN_MS);
  }

  async #claimRows(rooms: LaneRoom[]): Promise<void> {
    const { rows, clock, begin, take, lane: laneOf } = this.#options;
    begin(rooms.map(({ lane }) => lane));
    const brought = await this.#lease(rooms);
    take(brought);
    const moved = new Set(brought.map((row) => ('task' in row ? row.task.webhookId : row.webhookId)));
    const due = await rows.nextDue(rooms.map(({ lane }) => lane));
    for (const { lane: key, first, later } of rooms) {
      const dueAtMs = due.get(key.webhookId);
      if (dueAtMs === undefined) continue;
      // A lane whose deliveries all ended meanwhile was let go of, and is made anew.
      const lane = laneOf(key);
      const noRoom = later < 1 && !isFirstAttemptDue(dueAtMs);
      // Somebody else has a lock on what is due: asked again at once, the rows would say the same until that is over.
      const locked = first > 0 && !moved.has(key.webhookId);
      if (dueAtMs <= clock.now() && (noRoom || locked)) this.#waitForRoom(lane);
      else this.#waitFor(lane, dueAtMs);
    }
    const now = clock.now();
    const claimed = rooms.filter(({ lane }) => (due.get(lane.webhookId) ?? Number.POSITIVE_INFINITY) > now);
    await this.#release(claimed.filter(({ lane }) => this.#releasing.has(lane.webhookId)).map(({ lane }) => lane));
  }

  async #lease(rooms: LaneRoom[]): Promise<ClaimedRow[]> {
    const { rows, clock, inDoubt } = this.#options;
    try {
      return await rows.claim(rooms, clock.now());
    } catch (error) {
      inDoubt(rooms.filter(({ ordered }) => ordered).map(({ lane }) => lane));
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
    const { rows, clock, lanes, lane: laneOf, forgetIdleLanes, restoreOrder } = this.#options;
    forgetIdleLanes();
    const waiting = await rows.waitingLanes();
    const now = clock.now();
    for (const found of waiting) if (found.dueAtMs !== undefined) this.#waitFor(laneOf(found), found.dueAtMs);
    const holding: WaitingLane[] = waiting.filter((lane) => lane.holds);
    // What is parked with nothing before it is only found by the node that has taken the lane.
    for (const found of holding) if (!lanes.has(found.webhookId)) this.#waitFor(laneOf(found), now);
    await this.#release(holding);
    await restoreOrder();
  }

  /**
   * Makes due what was held for webhooks that are active again, a part at a time: the next part comes when this one has
   * been claimed. A backlog of a million rows is thus neither one transaction nor a flood.
   */
  async #release(lanes: LaneKey[]): Promise<void> {
    if (lanes.length === 0) return;
    const { rows, clock, lane: laneOf } = this.#options;
    const released = await rows.releaseStranded(lanes, RELEASE_ROWS, clock.now());
    for (const key of lanes) {
      const count = released.get(key.webhookId) ?? 0;
      if (count >= RELEASE_ROWS) this.#releasing.add(key.webhookId);
      else this.#releasing.delete(key.webhookId);
      if (count > 0) this.#waitFor(laneOf(key), clock.now());
    }
  }
}
