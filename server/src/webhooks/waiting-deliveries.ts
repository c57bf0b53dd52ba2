import { sql, type Transaction } from 'kysely';
import type { Tables } from '../db/tables.ts';

/**
 * Makes the deliveries due that were held while their webhook was not active. In the transaction that makes it active,
 * so that none is forgotten. Returns how many there were.
 *
 * The searched rows are those of one webhook in the partial index `deliveries_due`, whatever else the table holds.
 */
export async function releaseHeld(
  trx: Transaction<Tables>,
  tenantId: string,
  webhookId: string,
  now: Date,
): Promise<number> {
  await allowLongStatement(trx);
  const result = await sql`
    UPDATE deliveries SET status = CASE WHEN attempt_count > 0 THEN 'failed' ELSE 'pending' END, due_at = ${now}
    WHERE tenant_id = ${tenantId} AND webhook_id = ${webhookId} AND due_at = 'infinity' AND status = 'held'`.execute(
    trx,
  );
  return Number(result.numAffectedRows ?? 0);
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
