import { tellOfDeliveries } from '../../webhooks/told-deliveries.ts';

/** Statements on the rows of `deliveries` that a node has in its hands. */

/**
 * Those of some deliveries that have ended. Each is looked up by itself, and only in the partition of its day, however
 * many they are: a join might read whole partitions. $1 tenants, $2 environments, $3 ids.
 */
export const FIND_ENDED = {
  name: 'find-ended',
  text: `
SELECT i.id FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS i (tenant_id, environment_id, id)
WHERE (
  SELECT d.completed_at FROM deliveries d
  WHERE d.tenant_id = i.tenant_id AND d.environment_id = i.environment_id AND d.id = i.id
) IS NOT NULL`,
} as const;

/**
 * Gives leased rows up without an attempt: back to waiting, held, parked, or discarded. A key that a discarded one parks
 * goes on.
 * $1 node, $2 tenants, $3 environments, $4 ids, $5 status (null: as it is), $6 reason, $7 due_at, $8 completed_at,
 * $9 whether the live stream tells of it.
 */
export const GIVE_UP_LEASES = {
  name: 'give-up-leases',
  text: `
WITH given_up AS (
  UPDATE deliveries d SET
    status = coalesce(i.status, d.status), status_reason = coalesce(i.status_reason, d.status_reason),
    due_at = i.due_at, lease_node = NULL, completed_at = i.completed_at
  FROM unnest($2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::timestamptz[], $8::timestamptz[],
    $9::bool[]) AS i (tenant_id, environment_id, id, status, status_reason, due_at, completed_at, tells)
  WHERE d.tenant_id = i.tenant_id AND d.environment_id = i.environment_id AND d.id = i.id AND d.lease_node = $1
  RETURNING
    d.tenant_id, d.environment_id, d.webhook_id, d.ordering_key, d.id, d.event_id, d.event_type, d.status, d.status_reason,
    d.attempt_count, i.tells
),
told AS (${tellOfDeliveries('(SELECT * FROM given_up WHERE tells)')})
DELETE FROM parked_keys k USING given_up g
WHERE g.status = 'discarded' AND g.ordering_key IS NOT NULL
  AND k.tenant_id = g.tenant_id AND k.webhook_id = g.webhook_id AND k.ordering_key = g.ordering_key
  AND k.delivery_id = g.id`,
} as const;

/**
 * Frees what a node had in hand: scheduled work waits again, an unfinished test is discarded, since nobody waits for
 * its answer any more. $1 node, $2 oldest id, $3 id before which to look, $4 now, $5 ids to leave alone.
 */
export const FREE_LEASES_OF = {
  name: 'free-leases-of',
  text: `
UPDATE deliveries SET
  lease_node = NULL,
  status = CASE WHEN trigger = 'test' THEN 'discarded' ELSE status END,
  status_reason = CASE WHEN trigger = 'test' THEN 'interrupted' ELSE status_reason END,
  completed_at = CASE WHEN trigger = 'test' THEN $4::timestamptz END,
  due_at = CASE WHEN trigger = 'test' THEN NULL ELSE $4::timestamptz END
WHERE id >= $2 AND id < $3 AND lease_node = $1 AND NOT (id = ANY ($5::uuid[]))`,
} as const;
