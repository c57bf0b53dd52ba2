import type { Recording } from '../../audit/log.ts';
import type { Database } from '../../db/pool.ts';
import type { Reach } from '../../http/caller.ts';
import { type AppError, conflict, notFound } from '../../kernel/errors.ts';
import { notify } from '../../tenants/queries.ts';
import { isWithin } from '../../webhooks/owner.ts';
import { unparkKeys } from '../parked-keys.ts';
import type { DeliveryRow } from '../queries.ts';
import { statusesAllowing } from '../transitions.ts';

/**
 * Ends a delivery that waits, is held or is under way. A node that has it in hand loses its lease and is told: what is
 * only queued there is not sent, nor once it hears of anything again; a request under way ends by itself and is recorded as an attempt that moves nothing.
 * A delivery that was cancelled before is given as it is.
 *
 * @throws AppError 404; 409 for a delivery that ended otherwise, and for a test.
 */
export function cancelDelivery(
  db: Database,
  scope: Reach,
  id: string | undefined,
  now: Date,
  onCancel?: Recording<{ before: DeliveryRow; after: DeliveryRow }>,
): Promise<DeliveryRow> {
  if (id === undefined) throw notFound('delivery');
  return db.transaction().execute(async (trx) => {
    const before = await trx
      .selectFrom('deliveries')
      .selectAll()
      .where('tenant_id', '=', scope.tenantId)
      .where('environment_id', '=', scope.environmentId)
      .where('id', '=', id)
      .where(isWithin(scope, 'webhook_id'))
      .forUpdate()
      .executeTakeFirst();
    if (before === undefined) throw notFound('delivery');
    if (before.status === 'cancelled') return before;
    const cancelled = await trx
      .updateTable('deliveries')
      .set({ status: 'cancelled', status_reason: null, due_at: null, lease_node: null, completed_at: now })
      .where('tenant_id', '=', scope.tenantId)
      .where('environment_id', '=', scope.environmentId)
      .where('id', '=', id)
      .where('status', 'in', statusesAllowing('cancel'))
      .where('trigger', '<>', 'test')
      .returningAll()
      .executeTakeFirst();
    if (cancelled === undefined) throw obstacleOf(before);
    if (before.lease_node !== null) {
      const { tenantId, environmentId } = scope;
      await notify(trx, { topic: 'deliveries_cancelled', tenantId, environmentId, deliveryIds: [id] });
    }
    await unparkKeys(trx, scope, [id]);
    await onCancel?.(trx, { before, after: cancelled });
    return cancelled;
  });
}

function obstacleOf(row: DeliveryRow): AppError {
  if (row.trigger === 'test') return conflict('test_delivery', 'A test is sent at once; it cannot be cancelled.');
  switch (row.status) {
    case 'delivered':
      return conflict('already_delivered', 'The delivery has succeeded; there is nothing left to cancel.');
    case 'dead':
      return conflict('delivery_dead', 'The delivery was given up; there is nothing left to cancel.');
    case 'discarded':
      return conflict('delivery_discarded', 'The delivery was discarded; there is nothing left to cancel.');
    default:
      return conflict('not_cancellable', `A delivery that is ${row.status} cannot be cancelled.`);
  }
}
