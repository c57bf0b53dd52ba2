import type { Scope } from '../http/caller.ts';
import type { ShapedEvent } from '../shaping/envelopes.ts';

/** Why an attempt is made. */
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
}
