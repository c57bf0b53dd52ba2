import type pg from 'pg';
import { booleanArray, intArray, textArray, timestampArray, uuidArray } from '../db/binary-arrays.ts';
import { formatId, timeOfId } from '../kernel/ids.ts';
import type { LaneKey } from './lanes/lane.ts';
import { CLAIM_DUE } from './sql/claim-due.ts';
import { FIND_ENDED, FREE_LEASES_OF, GIVE_UP_LEASES } from './sql/leases.ts';
import { JUDGE_PARKED_KEYS, RELEASE_KEYS, WAITING_KEYS } from './sql/parked-keys.ts';
import { COUNT_WAITING, NEXT_DUE, RELEASE_STRANDED, WAITING_LANES } from './sql/waiting-lanes.ts';
import type { DeliveryTask, EventInHand, Trigger } from './task.ts';

/** Why a leased row goes back without an attempt. */
export type GiveUp =
  | { task: DeliveryTask; to: 'waiting'; dueAtMs: number }
  | { task: DeliveryTask; to: 'held' }
  /** Until its predecessor has ended. */
  | { task: DeliveryTask; to: 'parked' }
  | { task: DeliveryTask; to: 'discarded'; reason: DiscardReason; atMs: number };

/** `cancelled_by_transform`: the webhook's transform wants nothing to be sent of the event. */
export type DiscardReason = 'webhook_deleted' | 'payload_erased' | 'cancelled_by_transform';

export interface WaitingLane extends LaneKey {
  /** undefined: all that waits is held. */
  dueAtMs: number | undefined;
  /** Some of it is held. */
  holds: boolean;
}

/** What to claim for a lane. */
export interface LaneRoom {
  lane: LaneKey;
  /** Rows at most. */
  room: number;
  /** Of these at most for first attempts that wait for their turn. */
  first: number;
  /** Of these at most for what is later: retries, replays, and what waited for something. */
  later: number;
  /** Bytes of their payloads at most; one row is claimed however large it is. */
  bytes: number;
  /** Its webhook keeps an order; rows of one that does so no longer go as they come. */
  ordered: boolean;
}

/** A claimed row. */
export type ClaimedRow =
  /** `erased`: the event's payload is gone and there is nothing to send. */
  | { task: DeliveryTask; erased: boolean }
  /** A predecessor still waits, so the row was parked. */
  | { parkedKey: string; webhookId: string };

interface ClaimedColumns {
  tenant_id: string;
  environment_id: string;
  id: string;
  event_id: string;
  webhook_id: string;
  attempt_count: number;
  trigger: Trigger;
  priority: number;
  ordering_key: string | null;
  order_number: number | null;
  later: boolean;
  blocked: boolean;
  external_id: string | null;
  event_type: string | null;
  occurred_at: Date | null;
  data: Buffer | null;
  metadata: Buffer | null;
}

/** The queue's truth: rows of `deliveries`, leased to this node or waiting. */
export class DeliveryRows {
  readonly #pool: pg.Pool;
  /** Set once the node has its number. */
  nodeId = 0;

  constructor(pool: pg.Pool) {
    this.#pool = pool;
  }

  /** Leases due rows of these lanes, the most urgent and then the oldest first; parks those that must not be sent yet. */
  async claim(lanes: LaneRoom[], nowMs: number): Promise<ClaimedRow[]> {
    const result = await this.#pool.query<ClaimedColumns>({
      ...CLAIM_DUE,
      values: [
        uuidArray(lanes.map(({ lane }) => lane.tenantId)),
        uuidArray(lanes.map(({ lane }) => lane.webhookId)),
        intArray(lanes.map(({ room }) => room)),
        new Date(nowMs),
        this.nodeId,
        booleanArray(lanes.map(({ ordered }) => ordered)),
        intArray(lanes.map(({ bytes }) => bytes)),
        intArray(lanes.map(({ first }) => first)),
        intArray(lanes.map(({ later }) => later)),
      ],
    });
    const events = new Map<string, EventInHand>();
    return result.rows.map((row) =>
      row.blocked
        ? { parkedKey: row.ordering_key ?? '', webhookId: row.webhook_id }
        : { task: toTask(row, events, nowMs), erased: row.data === null },
    );
  }

  /** When the next waiting row of each lane is due, by webhook; lanes with none are absent. */
  async nextDue(lanes: LaneKey[]): Promise<Map<string, number>> {
    const result = await this.#pool.query<{ webhook_id: string; due_at: Date | null }>({
      ...NEXT_DUE,
      values: [uuidArray(lanes.map((lane) => lane.tenantId)), uuidArray(lanes.map((lane) => lane.webhookId))],
    });
    const due = new Map<string, number>();
    for (const row of result.rows) if (row.due_at !== null) due.set(row.webhook_id, row.due_at.getTime());
    return due;
  }

  async waitingLanes(): Promise<WaitingLane[]> {
    const result = await this.#pool.query<{
      tenant_id: string;
      environment_id: string;
      webhook_id: string;
      due_at: Date | null;
      holds: boolean;
    }>(WAITING_LANES);
    return result.rows.map((row) => ({
      tenantId: row.tenant_id,
      environmentId: row.environment_id,
      webhookId: row.webhook_id,
      dueAtMs: row.due_at?.getTime(),
      holds: row.holds,
    }));
  }

  /** Deliveries that wait in rows, by tenant. */
  async waitingOfTenants(): Promise<Map<string, number>> {
    const result = await this.#pool.query<{ tenant_id: string; waiting: number }>(COUNT_WAITING);
    return new Map(result.rows.map((row) => [row.tenant_id, row.waiting]));
  }

  /** Makes due what is held or parked and waits for nothing any more, `rowsMax` a lane; gives the numbers by webhook. */
  async releaseStranded(lanes: LaneKey[], rowsMax: number, nowMs: number): Promise<Map<string, number>> {
    const result = await this.#pool.query<{ webhook_id: string; released: number }>({
      ...RELEASE_STRANDED,
      values: [
        uuidArray(lanes.map((lane) => lane.tenantId)),
        uuidArray(lanes.map((lane) => lane.webhookId)),
        new Date(nowMs),
        rowsMax,
      ],
    });
    return new Map(result.rows.map((row) => [row.webhook_id, row.released]));
  }

  /**
   * Keys of an ordered lane of which rows wait, in their order from `from` on, `keysMax` at most. `parked`: some of them
   * wait for a predecessor; `stranded`: all of them, and there is none.
   */
  async waitingKeys(
    lane: LaneKey,
    from: string,
    keysMax: number,
  ): Promise<{ key: string; parked: boolean; stranded: boolean }[]> {
    const result = await this.#pool.query<{ ordering_key: string; parked: boolean; stranded: boolean }>({
      ...WAITING_KEYS,
      values: [lane.tenantId, lane.webhookId, from, keysMax],
    });
    return result.rows.map(({ ordering_key, parked, stranded }) => ({ key: ordering_key, parked, stranded }));
  }

  /** Those of parked keys whose rows wait for nothing any more, and those of which no row waits at all. */
  async judgeParkedKeys(lane: LaneKey, keys: string[]): Promise<{ stranded: string[]; gone: string[] }> {
    const result = await this.#pool.query<{ ordering_key: string; gone: boolean }>({
      ...JUDGE_PARKED_KEYS,
      values: [lane.tenantId, lane.webhookId, textArray(keys)],
    });
    const keysOf = (gone: boolean) => result.rows.filter((row) => row.gone === gone).map((row) => row.ordering_key);
    return { stranded: keysOf(false), gone: keysOf(true) };
  }

  /** Makes the first parked rows of these keys due, `rowsMax` of each at most; gives the keys of which there were some. */
  async releaseKeys(lane: LaneKey, keys: string[], rowsMax: number, nowMs: number): Promise<Set<string>> {
    const result = await this.#pool.query<{ ordering_key: string }>({
      ...RELEASE_KEYS,
      values: [lane.tenantId, lane.webhookId, textArray(keys), rowsMax, new Date(nowMs)],
    });
    return new Set(result.rows.map((row) => row.ordering_key));
  }

  /** The ids of those that have ended. */
  async endedOf(tasks: DeliveryTask[]): Promise<string[]> {
    if (tasks.length === 0) return [];
    const result = await this.#pool.query<{ id: string }>({
      ...FIND_ENDED,
      values: [
        uuidArray(tasks.map(({ tenantId }) => tenantId)),
        uuidArray(tasks.map(({ environmentId }) => environmentId)),
        uuidArray(tasks.map(({ id }) => id)),
      ],
    });
    return result.rows.map(({ id }) => id);
  }

  /** `tells`: whether the live stream is to tell of one that is held or discarded. */
  async giveUp(leases: GiveUp[], tells: (lease: GiveUp) => boolean = () => true): Promise<void> {
    if (leases.length === 0) return;
    await this.#pool.query({
      ...GIVE_UP_LEASES,
      values: [
        this.nodeId,
        uuidArray(leases.map(({ task }) => task.tenantId)),
        uuidArray(leases.map(({ task }) => task.environmentId)),
        uuidArray(leases.map(({ task }) => task.id)),
        textArray(leases.map(({ to }) => (to === 'held' || to === 'discarded' ? to : null))),
        textArray(leases.map((lease) => (lease.to === 'discarded' ? lease.reason : null))),
        timestampArray(leases.map(waitsUntil)),
        timestampArray(leases.map((lease) => (lease.to === 'discarded' ? lease.atMs : null))),
        booleanArray(leases.map((lease) => (lease.to === 'held' || lease.to === 'discarded') && tells(lease))),
      ],
    });
  }

  /**
   * Frees what a node had in hand, deliveries from `oldestId` on; gives their number. For this node's own leases,
   * `held` says which of them it knows: those it holds, and all that are not older than `before`. `connection`: one that
   * is in a transaction.
   */
  async freeLeasesOf(
    nodeId: number,
    oldestId: string,
    nowMs: number,
    held: { before: string; except: string[] } = { before: LAST_ID, except: [] },
    connection: pg.Pool | pg.PoolClient = this.#pool,
  ): Promise<number> {
    const result = await connection.query({
      ...FREE_LEASES_OF,
      values: [nodeId, oldestId, held.before, new Date(nowMs), uuidArray(held.except)],
    });
    return result.rowCount ?? 0;
  }
}

const LAST_ID = 'ffffffff-ffff-ffff-ffff-ffffffffffff';

function waitsUntil(lease: GiveUp): number | null {
  switch (lease.to) {
    case 'waiting':
      return lease.dueAtMs;
    case 'held':
    case 'parked':
      return Number.POSITIVE_INFINITY;
    case 'discarded':
      return null;
  }
}

function toTask(row: ClaimedColumns, events: Map<string, EventInHand>, nowMs: number): DeliveryTask {
  let event = events.get(row.event_id);
  if (event === undefined) {
    event = toEvent(row);
    events.set(row.event_id, event);
  }
  return {
    tenantId: row.tenant_id,
    environmentId: row.environment_id,
    id: row.id,
    webhookId: row.webhook_id,
    event,
    attemptCount: row.attempt_count,
    trigger: row.trigger,
    priority: row.priority,
    late: row.attempt_count > 0 || row.trigger !== 'scheduled' || nowMs - timeOfId(row.id) > FRESH_MS_MAX,
    claimed: row.later ? 'later' : 'first',
    orderingKey: row.ordering_key,
    orderNumber: row.order_number,
  };
}

/** A first attempt that had to wait for longer is part of a backlog: newer events do not wait for it. */
export const FRESH_MS_MAX = 10_000;

function toEvent(row: ClaimedColumns): EventInHand {
  const id = formatId('event', row.event_id);
  return {
    uuid: row.event_id,
    id,
    publicId: row.external_id ?? id,
    type: row.event_type ?? '',
    timestamp: row.occurred_at?.toISOString() ?? '',
    data: row.data ?? Buffer.alloc(0),
    metadata: row.metadata,
    source: EVENT_SOURCE,
  };
}

/** `source` of CloudEvents: who speaks. */
export const EVENT_SOURCE = 'posthorn';
