import { createHash } from 'node:crypto';
import type pg from 'pg';
import { intArray, uuidArray } from '../../db/binary-arrays.ts';
import type { Clock } from '../../kernel/clock.ts';
import type { LaneKey } from '../lanes/lane.ts';
import { ACQUIRE_LANES, RELEASE_LANES } from './sql.ts';

/** A lane to take, with the milliseconds between two starts under its rate limit; 0 without one. */
export interface WantedLane {
  lane: LaneKey;
  paceIntervalMs: number;
}

/** A lane that this node has taken. */
export interface OwnedLane {
  lane: LaneKey;
  /** Earliest first start under a rate limit, on the monotonic clock. */
  notBeforeMs: number;
}

/** A lane to give up, with the time before which its next owner must not start, on the monotonic clock. */
export interface LeavingLane {
  lane: LaneKey;
  pacedUntilMs: number;
}

/**
 * Which node sends to the webhooks that only one node at a time may send to, those with a rate limit, a
 * `max_concurrency` or an order. All others are sent to by whichever node has their deliveries.
 *
 * Which node should have a lane follows from the nodes alive (rendezvous hashing), without asking anybody; which one
 * has it is a row of `lanes`. A node takes a lane that is free or whose node is gone, and gives up one that should be
 * another's when nothing of it is under way any more, so at no time two nodes send.
 */
export class LaneOwners {
  readonly #pool: pg.Pool;
  readonly #clock: Clock;
  readonly #owned = new Map<string, OwnedLane>();
  /** Given up, but their rows may not say so yet: until they do, this node must not take them again. */
  readonly #releasing = new Map<string, LeavingLane & { underWay: boolean }>();
  #nodeId = 0;
  #alive: number[] = [];

  constructor(pool: pg.Pool, clock: Clock) {
    this.#pool = pool;
    this.#clock = clock;
  }

  /** This process has become another node: what the former one owned is not its own. */
  becomeNode(nodeId: number): void {
    this.#nodeId = nodeId;
    this.#owned.clear();
    this.#releasing.clear();
    this.#alive = [nodeId];
  }

  /** The nodes alive, this one among them; true when they have changed. */
  setAlive(nodeIds: number[]): boolean {
    const sorted = [...nodeIds].sort((a, b) => a - b);
    const changed = sorted.length !== this.#alive.length || sorted.some((id, at) => id !== this.#alive[at]);
    this.#alive = sorted;
    return changed;
  }

  /** Nobody else is there to be told of anything. */
  get alone(): boolean {
    return this.#alive.length <= 1;
  }

  owns(webhookId: string): boolean {
    return this.#owned.has(webhookId);
  }

  get owned(): LaneKey[] {
    return [...this.#owned.values()].map(({ lane }) => lane);
  }

  /** This node is the one that should have the lane. */
  shouldOwn(webhookId: string): boolean {
    return this.alone || preferredNode(webhookId, this.#alive) === this.#nodeId;
  }

  /** Takes those of the lanes that can be taken. */
  async acquire(all: WantedLane[]): Promise<OwnedLane[]> {
    const wanted = all.filter(({ lane }) => !this.#releasing.has(lane.webhookId));
    if (wanted.length === 0) return [];
    const nodeId = this.#nodeId;
    const result = await this.#acquire(nodeId, wanted);
    // The node was taken for dead meanwhile, and so was the one that took these.
    if (nodeId !== this.#nodeId) return [];
    const waits = new Map(result.rows.map((row) => [row.webhook_id, Number(row.wait_ms)]));
    const now = this.#clock.monotonicMs();
    const taken: OwnedLane[] = [];
    for (const { lane } of wanted) {
      const waitMs = waits.get(lane.webhookId);
      if (waitMs === undefined) continue;
      const owned = { lane, notBeforeMs: now + Math.max(0, waitMs) };
      this.#owned.set(lane.webhookId, owned);
      taken.push(owned);
    }
    return taken;
  }

  async #acquire(nodeId: number, wanted: WantedLane[]) {
    try {
      return await this.#pool.query<{ webhook_id: string; wait_ms: string }>({
        ...ACQUIRE_LANES,
        values: [
          nodeId,
          uuidArray(wanted.map(({ lane }) => lane.tenantId)),
          uuidArray(wanted.map(({ lane }) => lane.webhookId)),
          intArray(wanted.map(({ paceIntervalMs }) => Math.ceil(paceIntervalMs))),
        ],
      });
    } catch (error) {
      // They may be this node's now; given up, they are free for whoever should have them.
      const now = this.#clock.monotonicMs();
      for (const { lane, paceIntervalMs } of wanted) {
        this.#releasing.set(lane.webhookId, { lane, pacedUntilMs: now + paceIntervalMs, underWay: false });
      }
      throw error;
    }
  }

  /** Some lanes are given up of which the rows may not say so yet. */
  get releasing(): boolean {
    return this.#releasing.size > 0;
  }

  /** Gives lanes up, these and those that an earlier call could not; gives the lanes that are free now. */
  async release(lanes: LeavingLane[]): Promise<LaneKey[]> {
    for (const each of lanes) {
      if (this.#owned.delete(each.lane.webhookId))
        this.#releasing.set(each.lane.webhookId, { ...each, underWay: false });
    }
    const leaving = [...this.#releasing.values()].filter(({ underWay }) => !underWay);
    if (leaving.length === 0) return [];
    const now = this.#clock.monotonicMs();
    for (const each of leaving) each.underWay = true;
    try {
      await this.#pool.query({
        ...RELEASE_LANES,
        values: [
          this.#nodeId,
          uuidArray(leaving.map(({ lane }) => lane.tenantId)),
          uuidArray(leaving.map(({ lane }) => lane.webhookId)),
          intArray(leaving.map(({ pacedUntilMs }) => Math.max(0, Math.ceil(pacedUntilMs - now)))),
        ],
      });
    } catch (error) {
      for (const each of leaving) each.underWay = false;
      throw error;
    }
    for (const { lane } of leaving) this.#releasing.delete(lane.webhookId);
    return leaving.map(({ lane }) => lane);
  }
}

/** Rendezvous hashing (highest random weight): when a node comes or goes, only its own share of the lanes moves. */
export function preferredNode(webhookId: string, nodeIds: readonly number[]): number | undefined {
  let best: number | undefined;
  let highest = -1;
  for (const nodeId of nodeIds) {
    const weight = createHash('md5').update(`${nodeId}/${webhookId}`).digest().readUInt32BE(0);
    if (weight > highest) {
      highest = weight;
      best = nodeId;
    }
  }
  return best;
}
