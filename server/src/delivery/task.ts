import type { Scope } from '../http/caller.ts';
import type { ShapedEvent } from '../shaping/envelopes.ts';

/**
 * Why an attempt is made: by the schedule, by a person's retry or replay, as a test, or at the failover URL because the
 * webhook's own could not be reached.
 */
export type Trigger = 'scheduled' | 'manual' | 'replay' | 'test' | 'failover';

/** An event as deliveries hold it in memory: one object for all the webhooks it goes to. */
export interface EventInHand extends ShapedEvent {
  /** UUID; `id` is the same as a TypeID. */
  uuid: string;
}

/** One delivery that this node has leased and holds in memory: one event to one webhook. */
export interface DeliveryTask extends Scope {
  /** UUID of the delivery. */
  id: string;
  webhookId: string;
  event: EventInHand;
  /** Attempts made before this one. */
  attemptCount: number;
  trigger: Trigger;
  /** Higher ones of a webhook go first. */
  priority: number;
  /** Its turn is one of those for retries and what had to wait. */
  late: boolean;
  /**
   * It was claimed from its row, as a first attempt that waited for its turn only, or as something later; false: it came
   * straight from the commit that stored it.
   */
  claimed: 'first' | 'later' | false;
  /** With `orderNumber`: the sequence it belongs to; not sent before its predecessors have ended. */
  orderingKey: string | null;
  /** Its place in the sequence; null: it is not ordered. */
  orderNumber: number | null;
}
