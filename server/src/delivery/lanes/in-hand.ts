import type { DeliveryTask } from '../task.ts';
import { Lane, type LaneKey } from './lane.ts';

/** Deliveries of one webhook in memory at once. */
const LANE_MAX = 2_000;

/** Payload bytes in memory at once. */
const BYTES_MAX = 256 * 1024 * 1024;

/**
 * Every delivery that this node holds, from the moment it is reserved until its result is recorded, and the lanes they
 * belong to. It bounds memory: by number, by bytes, a lane and a tenant.
 */
export class InHand {
  readonly lanes = new Map<string, Lane>();
  readonly #tasks = new Map<string, DeliveryTask>();
  readonly #ofTenant = new Map<string, Share>();
  readonly #max: number;
  #bytes = 0;

  /** `max`: deliveries in memory at once. */
  constructor(max: number) {
    this.#max = max;
  }

  get size(): number {
    return this.#tasks.size;
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

  /** How many more deliveries of a lane there is room for. */
  room(lane: Lane): number {
    const ofTenant = this.#ofTenant.get(lane.tenantId) ?? NOTHING;
    // A tenant holds no more than is free, so however many fill their share, the next one finds room.
    if (ofTenant.bytes >= BYTES_MAX - this.#bytes) return 0;
    const free = this.#max - this.#tasks.size;
    return Math.max(0, Math.min(LANE_MAX - lane.held, Math.ceil((free - ofTenant.deliveries) / 2)));
  }

  /** One that is held already is replaced: its row came back before it was known that the row had been given up. */
  hold(task: DeliveryTask): void {
    const before = this.#tasks.get(task.id);
    if (before !== undefined) this.#release(before);
    this.#tasks.set(task.id, task);
    this.lane(task).held += 1;
    this.#bytes += task.event.data.length;
    let share = this.#ofTenant.get(task.tenantId);
    if (share === undefined) {
      share = { ...NOTHING };
      this.#ofTenant.set(task.tenantId, share);
    }
    share.deliveries += 1;
    share.bytes += task.event.data.length;
  }

  letGo(task: DeliveryTask): void {
    if (this.#tasks.get(task.id) !== task) return;
    this.#tasks.delete(task.id);
    this.#release(task);
    const lane = this.lane(task);
    if (lane.idle) this.lanes.delete(lane.webhookId);
  }

  #release(task: DeliveryTask): void {
    this.lane(task).held -= 1;
    this.#bytes -= task.event.data.length;
    const share = this.#ofTenant.get(task.tenantId);
    if (share !== undefined) {
      share.deliveries -= 1;
      share.bytes -= task.event.data.length;
      if (share.deliveries === 0) this.#ofTenant.delete(task.tenantId);
    }
  }
}

/** What a tenant has in memory. */
interface Share {
  deliveries: number;
  bytes: number;
}

const NOTHING: Share = { deliveries: 0, bytes: 0 };
