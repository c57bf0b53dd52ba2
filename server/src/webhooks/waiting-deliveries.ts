import { sql, type Transaction } from 'kysely';
import type { Tables } from '../db/tables.ts';

/** Held rows that become due at once; the engine releases the others, part by part. */
const RELEASE_ROWS = 2_000;

/**
 * Makes the first deliveries due that were held while their webhook was not active, in the transaction that makes it
 * active. Whatever more is held the engine finds by itself (`Claims`), and makes due as it gets on.
 *
 * The searched rows are those of one webhook in the partial index `deliveries_due`, whatever else the table holds.
 */
export async function releaseHeld(
  trx: Transaction<Tables>,
  tenantId: string,
  webhookId: string,
  now: Date,
): Promise<void> {
  await sql`
    UPDATE deliveries d SET status = CASE WHEN d.attempt_count > 0 THEN 'failed' ELSE 'pending' END, due_at = ${now}
    FROM (
      SELECT tenant_id, environment_id, id FROM deliveries
      WHERE tenant_id = ${tenantId} AND webhook_id = ${webhookId} AND due_at = 'infinity' AND status = 'held'
      LIMIT ${RELEASE_ROWS}
    ) first
    WHERE d.tenant_id = first.tenant_id AND d.environment_id = first.environment_id AND d.id = first.id`.execute(trx);
}

/** Ends the deliveries that wait for a webhook which is being deleted. Those under way end by themselves. */
export async function discardWaiting(
  trx: Transaction<Tables>,
  tenantId: string,
  webhookId: string,
  now: Date,
): Promise<void> {
  await allowLongStatement(trx);
  await sql`
    UPDATE deliveries SET status = 'discarded', status_reason = 'webhook_deleted', due_at = NULL, completed_at = ${now}
    WHERE tenant_id = ${tenantId} AND webhook_id = ${webhookId} AND due_at IS NOT NULL`.execute(trx);
}

/** A backlog of a million rows takes longer than the pool's bound for statements, and half of it cannot be kept. */
async function allowLongStatement(trx: Transaction<Tables>): Promise<void> {
  await sql`SET LOCAL statement_timeout = '10min'`.execute(trx);
}
