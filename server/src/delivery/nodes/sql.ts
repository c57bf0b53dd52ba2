/** Statements on `lanes`: which node has a lane that only one may have. Times are the database's. */

/**
 * Takes lanes that are free or whose node is gone; gives those taken, and for how long their pace forbids a start. A
 * node that is gone may have started a request just before its end, so a whole interval has to pass.
 * $1 node, $2 tenants, $3 webhooks, $4 milliseconds between two starts.
 */
export const ACQUIRE_LANES = {
  name: 'acquire-lanes',
  text: `
WITH wanted AS (
  SELECT * FROM unnest($2::uuid[], $3::uuid[], $4::int[]) AS w (tenant_id, webhook_id, interval_ms)
),
taken AS (
  UPDATE lanes l SET node_id = $1, paced_until = CASE
    WHEN l.node_id IS NULL OR l.node_id = $1 THEN l.paced_until
    ELSE greatest(l.paced_until, now() + w.interval_ms * interval '1 millisecond')
  END
  FROM wanted w
  WHERE l.tenant_id = w.tenant_id AND l.webhook_id = w.webhook_id
    AND (l.node_id IS NULL OR l.node_id = $1 OR NOT EXISTS (SELECT FROM nodes n WHERE n.id = l.node_id))
  RETURNING l.webhook_id, l.paced_until
),
made AS (
  INSERT INTO lanes (tenant_id, webhook_id, node_id, paced_until)
  SELECT h.tenant_id, h.id, $1, now() FROM wanted w JOIN webhooks h ON h.tenant_id = w.tenant_id AND h.id = w.webhook_id
  ON CONFLICT DO NOTHING
  RETURNING webhook_id, paced_until
)
SELECT webhook_id, extract(epoch FROM paced_until - now()) * 1000 AS wait_ms
FROM (SELECT * FROM taken UNION ALL SELECT * FROM made) t`,
} as const;

/** Gives lanes up. $1 node, $2 tenants, $3 webhooks, $4 milliseconds until their next start. */
export const RELEASE_LANES = {
  name: 'release-lanes',
  text: `
UPDATE lanes l SET node_id = NULL, paced_until = now() + r.wait_ms * interval '1 millisecond'
FROM unnest($2::uuid[], $3::uuid[], $4::int[]) AS r (tenant_id, webhook_id, wait_ms)
WHERE l.tenant_id = r.tenant_id AND l.webhook_id = r.webhook_id AND l.node_id = $1`,
} as const;
