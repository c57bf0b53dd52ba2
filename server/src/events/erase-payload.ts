import type { Database } from '../db/pool.ts';
import type { Scope } from '../http/caller.ts';

/**
 * Removes what an event carried; its type, time and deliveries stay on record. Deliveries that wait end as discarded
 * when they are next taken up (`payload_erased`); one that a node has in memory may still be sent. Gives false for an
 * event that is not there.
 */
export async function erasePayload(db: Database, scope: Scope, id: string): Promise<boolean> {
  const erased = await db
    .updateTable('events')
    .set({ data: null, metadata: null })
    .where('tenant_id', '=', scope.tenantId)
    .where('environment_id', '=', scope.environmentId)
    .where('id', '=', id)
    .executeTakeFirst();
  return erased.numUpdatedRows > 0n;
}
