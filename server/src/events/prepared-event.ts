import type { DeliveryTask, EventInHand } from '../delivery/task.ts';
import type { Scope } from '../http/caller.ts';

/** What makes a second publish of the same event recognisable. */
export interface EventKey {
  kind: 'event_id' | 'idempotency_key';
  key: string;
  /** SHA-256 of what must be the same for it to be the same event. */
  contentHash: Buffer;
}

/** A delivery that an accepted event brings. */
export interface PlannedDelivery {
  task: DeliveryTask;
  /**
   * - `leased`: this node has room and sends it after the commit
   * - `waiting`: it waits in its row until `dueAtMs`
   * - `held`: its webhook is paused or disabled
   * - `test`: this node has it, and whoever stored it sends it
   */
  place: 'leased' | 'waiting' | 'held' | 'test';
  dueAtMs: number | null;
  /** Its webhook keeps an order: it gets its place among those of its key at the commit. */
  ordered: boolean;
}

/** An event that was checked and needs only its commit. */
export interface PreparedEvent extends Scope {
  event: EventInHand;
  /** The publisher's own id of the event. */
  externalId: string | null;
  occurredAtMs: number;
  orderingKey: string | null;
  priority: number;
  deliverAtMs: number | null;
  isTest: boolean;
  keys: EventKey[];
  deliveries: PlannedDelivery[];
  /** UUIDs of the webhooks whose filters kept it from them. */
  filtered: readonly string[];
}

/** What came of an event at its commit. */
export type StoredEvent =
  | { kind: 'stored' }
  /** It was there already; nothing was stored and nothing is delivered again. */
  | { kind: 'duplicate'; original: { id: string; externalId: string | null; deliveryCount: number } };

/** The events of one request: they are stored together or not at all. */
export interface Submission {
  events: PreparedEvent[];
  /** What came of each, in order; set by the commit. */
  results: StoredEvent[];
  resolve: (results: StoredEvent[]) => void;
  reject: (error: unknown) => void;
}
