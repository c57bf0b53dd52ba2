import { sql, type Transaction } from 'kysely';
import type { Tables } from '../../db/tables.ts';
import type { Scope } from '../../http/caller.ts';
import { tellOfHeldOrDiscarded } from '../../webhooks/told-deliveries.ts';

/** A delivery to make for an event that was published before. */
export interface NewReplay {
  /** UUID of the new delivery. */
  id: string;
  eventId: string;
  webhookId: string;
  eventType: string;
  priority: number;
  orderingKey: string | null;
  /** Its webhook is not active: it waits until the webhook is. */
  held: boolean;
}

/**
 * Gives those of the events that have their payload, and keeps it there until the transaction ends. Whoever is just
 * erasing one goes first, or finds the deliveries that the transaction makes of it: what they copy is erased too. To be
 * called before any delivery is locked, as an erasure does.
 */
export async function holdPayloads(trx: Transaction<Tables>, scope: Scope, eventIds: string[]): Promise<string[]> {
  const held = await sql<{ id: string }>`
    SELECT id FROM events
    WHERE tenant_id = ${scope.tenantId} AND environment_id = ${scope.environmentId} AND id = ANY (${eventIds}::uuid[])
      AND data IS NOT NULL
    ORDER BY id FOR SHARE`.execute(trx);
  return held.rows.map(({ id }) => id);
}

/**
 * Inserts deliveries of events whose payloads are held (`holdPayloads`). They wait for their first attempt, marked as replays. They name
 * the events that are there, so `webhook-id` is what it was before. What is due has to be announced in the same transaction (`deliveries_due`).
 */
export async function addReplays(
  trx: Transaction<Tables>,
  scope: Scope,
  replays: readonly NewReplay[],
  now: Date,
): Promise<void> {
  if (replays.length === 0) return;
  await sql`
    INSERT INTO deliveries (
      tenant_id, environment_id, id, event_id, webhook_id, event_type, status, trigger, priority, ordering_key,
      attempt_count, due_at
    )
    SELECT
      ${scope.tenantId}, ${scope.environmentId}, id, event_id, webhook_id, event_type,
      CASE WHEN held THEN 'held' ELSE 'pending' END, 'replay', priority, ordering_key, 0,
      CASE WHEN held THEN 'infinity' ELSE ${now}::timestamptz END
    FROM unnest(
      ${replays.map(({ id }) => id)}::uuid[], ${replays.map(({ eventId }) => eventId)}::uuid[],
      ${replays.map(({ webhookId }) => webhookId)}::uuid[], ${replays.map(({ eventType }) => eventType)}::text[],
      ${replays.map(({ priority }) => priority)}::smallint[],
      ${replays.map(({ orderingKey }) => orderingKey)}::text[], ${replays.map(({ held }) => held)}::bool[]
    ) AS r (id, event_id, webhook_id, event_type, priority, ordering_key, held)`.execute(trx);
  const held = replays.filter((each) => each.held).map(({ id }) => id);
  await tellOfHeldOrDiscarded(trx, scope, held);
}
