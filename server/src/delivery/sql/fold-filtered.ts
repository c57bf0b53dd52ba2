/**
 * Adds what commits of events counted of filters to the totals of the webhooks; gives how many rows of it were taken. $1:
 * rows at most. As with `fold-tallies.ts` several nodes may do it at once, and a webhook that is gone gets no totals again.
 */
export const FOLD_FILTERED = {
  name: 'fold-filtered',
  text: `
WITH taken AS (
  DELETE FROM filtered_tallies WHERE id IN (
    SELECT id FROM filtered_tallies ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED
  )
  RETURNING tenants, webhooks, counts
),
seen AS (
  SELECT f.tenant_id, f.webhook_id, sum(f.count) AS filtered
  FROM taken, unnest(taken.tenants, taken.webhooks, taken.counts) f (tenant_id, webhook_id, count)
  GROUP BY f.tenant_id, f.webhook_id
),
folded AS (
  INSERT INTO webhook_totals AS t (tenant_id, webhook_id, filtered)
  SELECT tenant_id, webhook_id, filtered
  FROM seen s
  WHERE EXISTS (SELECT FROM webhooks w WHERE w.tenant_id = s.tenant_id AND w.id = s.webhook_id)
  ORDER BY tenant_id, webhook_id
  ON CONFLICT (tenant_id, webhook_id) DO UPDATE SET filtered = t.filtered + excluded.filtered
)
SELECT count(*)::int AS rows FROM taken`,
} as const;
