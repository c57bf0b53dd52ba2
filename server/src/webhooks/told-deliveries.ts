import { sql, type Transaction } from 'kysely';
import type { Tables } from '../db/tables.ts';
import type { Scope } from '../http/caller.ts';

/** Of more deliveries that one change discards the first are told of. */
const TOLD_MAX = 1_000;

/**
 * SQL that writes for the live stream that deliveries are held or discarded, which no attempt tells of; only where somebody
 * listens, or may come back to what he missed (`live/`). Others of the rows are left out.
 *
 * `rows`: a relation with the columns of deliveries that are read here.
 */
export const tellOfDeliveries = (rows: string): string => `
  INSERT INTO stream_entries (tenant_id, environment_id, id, type, webhook_id, for_owner, data)
  SELECT m.tenant_id, m.environment_id, stream_entry_id(), 'delivery.' || m.status, m.webhook_id, true,
    jsonb_build_object(
      'delivery_id', m.id, 'event_id', m.event_id, 'event_type', m.event_type, 'status_reason', m.status_reason,
      'attempt', m.attempt_count, 'owner', w.owner
    )
  FROM ${rows} m LEFT JOIN webhooks w ON w.tenant_id = m.tenant_id AND w.id = m.webhook_id
  WHERE m.status IN ('held', 'discarded') AND EXISTS (
    SELECT FROM stream_listeners l
    WHERE l.tenant_id = m.tenant_id AND l.environment_id = m.environment_id AND l.until > now()
  )`;

/** To be called in the transaction that has just held or discarded these, by UUID. */
export async function tellOfHeldOrDiscarded(
  trx: Transaction<Tables>,
  { tenantId, environmentId }: Scope,
  ids: readonly string[],
): Promise<void> {
  if (ids.length === 0) return;
  await sql`${sql.raw(tellOfDeliveries('deliveries'))}
    AND m.tenant_id = ${tenantId} AND m.environment_id = ${environmentId}
    AND m.id = ANY (${ids.slice(0, TOLD_MAX)}::uuid[])`.execute(trx);
}

/** To be called in the transaction that is going to discard all that waits for a webhook: it may be a million rows. */
export async function tellOfWaiting(
  trx: Transaction<Tables>,
  { tenantId, environmentId }: Scope,
  webhookId: string,
): Promise<void> {
  // Locked, so that what is told of is what is discarded.
  await sql`
    WITH waiting AS MATERIALIZED (
      SELECT tenant_id, environment_id, id, event_id, webhook_id, event_type, attempt_count,
        'discarded' AS status, 'webhook_deleted' AS status_reason
      FROM deliveries
      WHERE tenant_id = ${tenantId} AND webhook_id = ${webhookId} AND due_at IS NOT NULL AND EXISTS (
        SELECT FROM stream_listeners WHERE tenant_id = ${tenantId} AND environment_id = ${environmentId} AND until > now()
      )
      LIMIT ${TOLD_MAX} FOR UPDATE OF deliveries
    )
    ${sql.raw(tellOfDeliveries('waiting'))}`.execute(trx);
}
