import { sql } from 'kysely';
import type { Recording } from '../audit/log.ts';
import type { Database } from '../db/pool.ts';
import { unparkKeys } from '../delivery/parked-keys.ts';
import { URL_WITHOUT_PATH } from '../delivery/sql/url-without-path.ts';
import type { Scope } from '../http/caller.ts';
import { notify } from '../tenants/queries.ts';
import { tellOfHeldOrDiscarded } from '../webhooks/told-deliveries.ts';

/**
 * Removes what an event carried, and what templates made of it, the URL of a request but for its host among it; its type,
 * time and deliveries stay on record. Deliveries of it that wait or are held
 * end as discarded in the same commit; one that a node has in memory may still be sent. An ordering key that a dead one
 * of them parks goes on. Gives false for an event that is not there.
 */
export function erasePayload(
  db: Database,
  scope: Scope,
  id: string,
  now: Date,
  onErase?: Recording<{ discarded: number }>,
): Promise<boolean> {
  return db.transaction().execute(async (trx) => {
    const erased = await trx
      .updateTable('events')
      .set({ data: null, metadata: null })
      .where('tenant_id', '=', scope.tenantId)
      .where('environment_id', '=', scope.environmentId)
      .where('id', '=', id)
      .executeTakeFirst();
    if (erased.numUpdatedRows === 0n) return false;
    await trx
      .updateTable('attempts')
      .set({ request_body: null, request_headers: '{}', url: sql<string>`${sql.raw(URL_WITHOUT_PATH)}` })
      .where('tenant_id', '=', scope.tenantId)
      .where('environment_id', '=', scope.environmentId)
      .where('event_id', '=', id)
      .where('request_body', 'is not', null)
      .execute();
    const deliveries = await trx
      .selectFrom('deliveries')
      .select('id')
      .where('tenant_id', '=', scope.tenantId)
      .where('environment_id', '=', scope.environmentId)
      .where('event_id', '=', id)
      .execute();
    await unparkKeys(
      trx,
      scope,
      deliveries.map((delivery) => delivery.id),
    );
    const ended = await trx
      .updateTable('deliveries')
      .set({ status: 'discarded', status_reason: 'payload_erased', due_at: null, completed_at: now })
      .where('tenant_id', '=', scope.tenantId)
      .where('environment_id', '=', scope.environmentId)
      .where('event_id', '=', id)
      .where('due_at', 'is not', null)
      .returning('id')
      .execute();
    await tellOfHeldOrDiscarded(
      trx,
      scope,
      ended.map((delivery) => delivery.id),
    );
    // Nobody has these in hand; what waits behind one of them in an order goes on.
    if (ended.length > 0) {
      await notify(trx, {
        topic: 'deliveries_cancelled',
        tenantId: scope.tenantId,
        environmentId: scope.environmentId,
        deliveryIds: [],
      });
    }
    await onErase?.(trx, { discarded: ended.length });
    return true;
  });
}
