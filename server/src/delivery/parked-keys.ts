import { sql, type Transaction } from 'kysely';
import type { Tables } from '../db/tables.ts';
import type { Scope } from '../http/caller.ts';
import { notify } from '../tenants/queries.ts';

/**
 * Keys that these deliveries park go on without them, as none of them can be delivered any more; every node is told.
 * `trx`: the transaction that ended them.
 */
export async function unparkKeys(
  trx: Transaction<Tables>,
  scope: Scope,
  deliveryIds: readonly string[],
): Promise<void> {
  const unparked = await sql`
    DELETE FROM parked_keys
    WHERE tenant_id = ${scope.tenantId} AND delivery_id = ANY (${deliveryIds}::uuid[])`.execute(trx);
  if (Number(unparked.numAffectedRows ?? 0) === 0) return;
  const { tenantId, environmentId } = scope;
  await notify(trx, { topic: 'deliveries_cancelled', tenantId, environmentId, deliveryIds: [] });
}
