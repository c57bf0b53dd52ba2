import type pg from 'pg';
import { statusesAllowing } from '../../src/delivery/transitions.ts';

/** What people do to single deliveries and events by way of the API, as statements. `$1` tenant, `$2` id. */

/** Ends a delivery that has not ended, whoever has it in hand. `$3` now. */
export function cancelDelivery(pool: pg.Pool, tenantId: string, id: string, now: Date) {
  return pool.query(
    `UPDATE deliveries SET status = 'cancelled', status_reason = NULL, due_at = NULL, lease_node = NULL, completed_at = $3
     WHERE tenant_id = $1 AND id = $2 AND status = ANY ($4) AND trigger <> 'test'`,
    [tenantId, id, now, statusesAllowing('cancel')],
  );
}

/** Lets an ended delivery go on. `$3` now. */
export async function replayDelivery(pool: pg.Pool, tenantId: string, id: string, now: Date): Promise<void> {
  await pool.query(
    `WITH moved AS (
       UPDATE deliveries SET
         status = CASE WHEN attempt_count > 0 THEN 'failed' ELSE 'pending' END,
         status_reason = NULL, trigger = 'replay', completed_at = NULL, due_at = $3
       WHERE tenant_id = $1 AND id = $2 AND status = ANY ($4) AND trigger <> 'test'
       RETURNING id
     )
     DELETE FROM dead_letters l USING moved m WHERE l.tenant_id = $1 AND l.delivery_id = m.id`,
    [tenantId, id, now, statusesAllowing('replay')],
  );
}

/** Removes what an event carried, and ends those of its deliveries that wait. `$3` now. */
export function erasePayload(pool: pg.Pool, tenantId: string, eventId: string, now: Date) {
  return pool.query(
    `WITH erased AS (
       UPDATE events SET data = NULL, metadata = NULL WHERE tenant_id = $1 AND id = $2 RETURNING id
     )
     UPDATE deliveries d SET status = 'discarded', status_reason = 'payload_erased', due_at = NULL, completed_at = $3
     FROM erased e WHERE d.tenant_id = $1 AND d.event_id = e.id AND d.due_at IS NOT NULL`,
    [tenantId, eventId, now],
  );
}
