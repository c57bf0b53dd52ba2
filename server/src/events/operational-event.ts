import type { Scope } from '../http/caller.ts';
import { asksFor, type OperationalType } from '../webhooks/operational-types.ts';
import type { WebhookTarget } from '../webhooks/target.ts';
import type { Publisher } from './publisher.ts';

/** Something that Posthorn itself has to tell. */
export interface OperationalEvent {
  scope: Scope;
  type: OperationalType;
  /** The same for every try. */
  id: string;
  occurredAt: Date;
  data: Record<string, unknown>;
  /** Which of the webhooks that ask for it get it. */
  isFor: (target: WebhookTarget) => boolean;
  /** UUID of a webhook that gets it whatever it asks for. */
  to?: string;
}

/**
 * Publishes it; again does nothing.
 *
 * @throws AppError 409 when the id was used for something else; 503.
 */
export function publishOperational(publisher: Publisher, event: OperationalEvent): Promise<void> {
  const { scope, type, id, occurredAt, isFor, to } = event;
  const request = {
    type,
    data: Buffer.from(JSON.stringify(event.data)),
    dataValue: event.data,
    metadata: null,
    eventId: id,
    occurredAtMs: occurredAt.getTime(),
    orderingKey: null,
    priority: 0,
    deliverAtMs: null,
  };
  return publisher.publishOwn(scope, request, (target) => asksFor(target.events, type) && isFor(target), to);
}

/** The owner of a webhook is told of this owner's webhooks only; a webhook without an owner is told of all. */
export function tellsOwner(target: WebhookTarget, owner: string | null): boolean {
  return target.owner === null || target.owner === owner;
}
