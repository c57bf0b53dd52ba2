import type { DeliveryTask } from '../task.ts';
import { Lane, type LaneKey } from './lane.ts';

/** Deliveries of one webhook in memory at once that came from their rows. */
const CLAIMED_OF_LANE_MAX = 2_000;

/** Those of them that are no first attempts that waited for their turn: a storm of retries leaves places to these. */
const LATER_OF_LANE_MAX = 1_500;

/** Of all places, those for deliveries that come from their rows. What is just published takes none of them. */
const CLAIMED_SHARE = 0.1;

/** Of these, those that may be taken by what is later. */
const LATER_SHARE = 0.75;

/** Payload bytes in memory at once; one claim may come on top. */
const PAYLOAD_BYTES_MAX = 256 * 1024 * 1024;

/** How much more of a lane may be claimed. */
export interface ClaimRoom {
  rows: number;
  /** Of the rows, those for anything but first attempts that wait for their turn. */
  later: number;
  /** Of their payloads. */
  bytes: number;
}

/**
 * Every delivery that this node holds, from the moment it is reserved until its result is recorded, and the lanes they
 * belong to. It bounds memory: by number, by bytes, a lane and a tenant.
 *
 * Most places are for what is just published: a row that has to be claimed is locked, changed and read once more, so a
 * burst should find room. What comes from rows has places of its own, few, since it waits as well there: a backlog takes
 * little memory, and does not starve beside a stream of new deliveries.
 */
export class InHand {
  readonly lanes = new Map<string, Lane>();
  readonly #tasks = new Map<string, DeliveryTask>();
  readonly #published: Places;
  readonly #claimed: Places;
  readonly #later: Places;
  readonly #payloadBytes = new Places(PAYLOAD_BYTES_MAX);

  /** `max`: deliveries in memory at once. */
  constructor(max: number) {
    const claimedMax = Math.ceil(max * CLAIMED_SHARE);
    this.#claimed = new Places(claimedMax);
    this.#later = new Places(Math.ceil(claimedMax * LATER_SHARE));
    this.#published = new Places(Math.max(1, max - claimedMax));
  }

  get size(): number {
    return this.#tasks.size;
  }

  /** Of all deliveries in memory; a payload that goes to several webhooks counts for each. */
  get payloadBytes(): number {
    return this.#payloadBytes.taken;
  }

  /** Of one tenant. */
  sizeOf(tenantId: string): number {
    return this.#published.takenBy(tenantId) + this.#claimed.takenBy(tenantId);
  }

  tasks(): DeliveryTask[] {
    return [...this.#tasks.values()];
  }

  ids(): string[] {
    return [...this.#tasks.keys()];
  }

  /** Ids grow with time, so the smallest is the oldest. */
  oldestId(): string | undefined {
    let oldest: string | undefined;
    for (const id of this.#tasks.keys()) if (oldest === undefined || id < oldest) oldest = id;
    return oldest;
  }

  lane(key: LaneKey): Lane {
    let lane = this.lanes.get(key.webhookId);
    if (lane === undefined) {
      lane = new Lane(key);
      this.lanes.set(key.webhookId, lane);
    }
    return lane;
  }

  /** Lets go of lanes that were made for what others have sent: of webhooks without end, deleted ones among them. */
  forgetIdleLanes(): void {
    for (const lane of this.lanes.values()) if (lane.idle) this.lanes.delete(lane.webhookId);
  }

  /** How many more deliveries of a lane may be claimed; no rows where there are no bytes. */
  roomToClaim(lane: Lane): ClaimRoom {
    const { tenantId, claimed } = lane;
    const bytes = this.#payloadBytes.room(tenantId);
    if (bytes < 1) return { rows: 0, later: 0, bytes: 0 };
    const rows = Math.min(CLAIMED_OF_LANE_MAX - claimed.first - claimed.later, this.#claimed.room(tenantId));
    const later = Math.min(LATER_OF_LANE_MAX - claimed.later, this.#later.room(tenantId), rows);
    return { rows: Math.max(0, rows), later: Math.max(0, later), bytes };
  }

  /** There is room for a delivery of a lane that is about to be stored. */
  hasRoom(lane: Lane): boolean {
    return this.#payloadBytes.room(lane.tenantId) >= 1 && this.#published.room(lane.tenantId) >= 1;
  }

  /** One that is held already is replaced: its row came back before it was known that the row had been given up. */
  hold(task: DeliveryTask): void {
    // What was just published has an id that was never there.
    const before = task.claimed === false ? undefined : this.#tasks.get(task.id);
    if (before !== undefined) this.#count(before, -1);
    this.#tasks.set(task.id, task);
    this.#count(task, 1);
  }

  letGo(task: DeliveryTask): void {
    if (this.#tasks.get(task.id) !== task) return;
    this.#tasks.delete(task.id);
    this.#count(task, -1);
    const lane = this.lane(task);
    if (lane.idle) this.lanes.delete(lane.webhookId);
  }

  /** Takes all that is queued; it is held on until it is let go of. */
  drainQueues(): DeliveryTask[] {
    return [...this.lanes.values()].flatMap((lane) => lane.drain());
  }

  #count(task: DeliveryTask, by: 1 | -1): void {
    const lane = this.lane(task);
    lane.held += by;
    if (task.claimed) lane.claimed[task.claimed] += by;
    if (task.claimed === 'later') this.#later.count(task.tenantId, by);
    (task.claimed ? this.#claimed : this.#published).count(task.tenantId, by);
    this.#payloadBytes.count(task.tenantId, task.event.data.length * by);
  }
}

/** So many deliveries, or bytes, may be in memory. A tenant holds no more than are free, so whoever comes finds room. */
class Places {
  readonly #max: number;
  readonly #ofTenant = new Map<string, { taken: number }>();
  taken = 0;

  constructor(max: number) {
    this.#max = max;
  }

  room(tenantId: string): number {
    return Math.ceil((this.#max - this.taken - (this.#ofTenant.get(tenantId)?.taken ?? 0)) / 2);
  }

  takenBy(tenantId: string): number {
    return this.#ofTenant.get(tenantId)?.taken ?? 0;
  }

  count(tenantId: string, change: number): void {
    this.taken += change;
    const ofTenant = this.#ofTenant.get(tenantId);
    if (ofTenant === undefined) this.#ofTenant.set(tenantId, { taken: change });
    else {
      ofTenant.taken += change;
      if (ofTenant.taken === 0) this.#ofTenant.delete(tenantId);
    }
  }
}
