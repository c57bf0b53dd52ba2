/** Statements on the rows of `deliveries` that wait, lane by lane. */

/** When the next waiting row of each lane is due; null where none waits. $1 tenants, $2 webhooks. */
export const NEXT_DUE = {
  name: 'next-due',
  text: `
SELECT l.webhook_id, (
  SELECT d.due_at FROM deliveries d
  WHERE d.tenant_id = l.tenant_id AND d.webhook_id = l.webhook_id AND d.due_at < 'infinity'
  ORDER BY d.due_at LIMIT 1
) AS due_at
FROM unnest($1::uuid[], $2::uuid[]) AS l (tenant_id, webhook_id)`,
} as const;

/** How many deliveries of each tenant wait, but for those that are held for a webhook that is not active. */
export const COUNT_WAITING = {
  name: 'count-waiting',
  text: `
SELECT tenant_id, count(*)::int AS waiting FROM deliveries
WHERE due_at IS NOT NULL AND status <> 'held'
GROUP BY tenant_id`,
} as const;

/**
 * Every lane that has waiting rows, when its first is due, and whether it holds some. It hops from lane to lane in the
 * index, so its cost is that of the lanes, not of the rows that wait in them.
 */
export const WAITING_LANES = {
  name: 'waiting-lanes',
  text: `
WITH RECURSIVE lane AS (
  (
    SELECT tenant_id, environment_id, webhook_id FROM deliveries
    WHERE due_at IS NOT NULL ORDER BY webhook_id, tenant_id LIMIT 1
  )
  UNION ALL
  SELECT n.* FROM lane CROSS JOIN LATERAL (
    SELECT d.tenant_id, d.environment_id, d.webhook_id FROM deliveries d
    WHERE d.due_at IS NOT NULL AND (d.webhook_id, d.tenant_id) > (lane.webhook_id, lane.tenant_id)
    ORDER BY d.webhook_id, d.tenant_id LIMIT 1
  ) n
)
SELECT lane.tenant_id, lane.environment_id, lane.webhook_id, (
  SELECT d.due_at FROM deliveries d
  WHERE d.tenant_id = lane.tenant_id AND d.webhook_id = lane.webhook_id AND d.due_at < 'infinity'
  ORDER BY d.due_at LIMIT 1
) AS due_at, EXISTS (
  SELECT FROM deliveries d
  WHERE d.tenant_id = lane.tenant_id AND d.webhook_id = lane.webhook_id AND d.due_at = 'infinity'
) AS holds
FROM lane`,
} as const;

/**
 * Makes rows due that wait for nothing any more, at most so many a lane: held ones whose webhook is active and whose
 * tenant is not suspended, or whose webhook is gone, and parked ones whose webhook keeps no order any more. Gives their number by webhook. What is held for a webhook that is
 * not active is not looked at. $1 tenants, $2 webhooks, $3 now, $4 rows a lane.
 */
export const RELEASE_STRANDED = {
  name: 'release-stranded',
  text: `
WITH lane AS (
  SELECT
    l.tenant_id, l.webhook_id, w.id IS NULL OR (w.status = 'active' AND t.suspended_at IS NULL) AS lets_held,
    w.id IS NULL OR NOT coalesce((w.ordering->>'enabled')::boolean, false) AS lets_parked
  FROM unnest($1::uuid[], $2::uuid[]) AS l (tenant_id, webhook_id)
  LEFT JOIN webhooks w ON w.tenant_id = l.tenant_id AND w.id = l.webhook_id
  LEFT JOIN tenants t ON t.id = l.tenant_id
),
stranded AS MATERIALIZED (
  SELECT d.* FROM lane CROSS JOIN LATERAL (
    SELECT tenant_id, environment_id, id FROM deliveries
    WHERE tenant_id = lane.tenant_id AND webhook_id = lane.webhook_id AND due_at = 'infinity' AND status = 'held'
    LIMIT $4
  ) d WHERE lane.lets_held
  UNION ALL
  SELECT d.* FROM lane CROSS JOIN LATERAL (
    SELECT tenant_id, environment_id, id FROM deliveries
    WHERE tenant_id = lane.tenant_id AND webhook_id = lane.webhook_id AND due_at = 'infinity' AND status <> 'held'
      AND order_number IS NOT NULL
    LIMIT $4
  ) d WHERE lane.lets_parked
),
released AS (
  UPDATE deliveries d SET
    status = CASE WHEN d.status <> 'held' THEN d.status WHEN d.attempt_count > 0 THEN 'failed' ELSE 'pending' END,
    due_at = $3
  FROM stranded s
  WHERE d.tenant_id = s.tenant_id AND d.environment_id = s.environment_id AND d.id = s.id AND d.due_at = 'infinity'
  RETURNING d.webhook_id
)
SELECT webhook_id, count(*)::int AS released FROM released GROUP BY webhook_id`,
} as const;
