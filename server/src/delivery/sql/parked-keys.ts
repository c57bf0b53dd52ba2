/** Statements on the rows of `deliveries` that wait in an order, key by key. */

/**
 * The keys of an ordered lane that have waiting rows, from one on: whether some of these are parked, and whether the key
 * is stranded: nothing before them waits, and no dead delivery parks it. It hops from key to key, and to no more than are
 * asked for, so a lane with very many keys is looked through in many short statements.
 * $1 tenant, $2 webhook, $3 first key, $4 keys at most.
 */
export const WAITING_KEYS = {
  name: 'waiting-keys',
  text: `
WITH RECURSIVE head AS (
  (
    SELECT ordering_key, due_at, status FROM deliveries
    WHERE webhook_id = $2 AND tenant_id = $1 AND due_at IS NOT NULL AND order_number IS NOT NULL AND ordering_key >= $3
    ORDER BY ordering_key, order_number LIMIT 1
  )
  UNION ALL
  SELECT n.* FROM head CROSS JOIN LATERAL (
    SELECT ordering_key, due_at, status FROM deliveries
    WHERE webhook_id = $2 AND tenant_id = $1 AND due_at IS NOT NULL AND order_number IS NOT NULL
      AND ordering_key > head.ordering_key
    ORDER BY ordering_key, order_number LIMIT 1
  ) n
),
looked_at AS (SELECT * FROM head LIMIT $4)
SELECT ordering_key, EXISTS (
  SELECT FROM deliveries d
  WHERE d.webhook_id = $2 AND d.tenant_id = $1 AND d.ordering_key = looked_at.ordering_key AND d.order_number IS NOT NULL
    AND d.due_at = 'infinity' AND d.status <> 'held'
) AS parked, due_at = 'infinity' AND status <> 'held' AND NOT EXISTS (
  SELECT FROM parked_keys k WHERE k.tenant_id = $1 AND k.webhook_id = $2 AND k.ordering_key = looked_at.ordering_key
) AS stranded
FROM looked_at`,
} as const;

/** Those of some keys that are stranded, and those of which no row waits any more. $1 tenant, $2 webhook, $3 keys. */
export const JUDGE_PARKED_KEYS = {
  name: 'judge-parked-keys',
  text: `
SELECT k.ordering_key, head.due_at IS NULL AS gone
FROM unnest($3::text[]) AS k (ordering_key) LEFT JOIN LATERAL (
  SELECT due_at, status FROM deliveries
  WHERE webhook_id = $2 AND tenant_id = $1 AND ordering_key = k.ordering_key AND due_at IS NOT NULL
    AND order_number IS NOT NULL
  ORDER BY order_number LIMIT 1
) head ON true
WHERE head.due_at IS NULL OR head.due_at = 'infinity' AND head.status <> 'held' AND NOT EXISTS (
  SELECT FROM parked_keys p WHERE p.tenant_id = $1 AND p.webhook_id = $2 AND p.ordering_key = k.ordering_key
)`,
} as const;

/**
 * Makes the first parked rows of keys due; the claim parks again what must still wait.
 * $1 tenant, $2 webhook, $3 keys, $4 rows a key at most, $5 now.
 */
export const RELEASE_KEYS = {
  name: 'release-keys',
  text: `
UPDATE deliveries d SET due_at = $5 FROM (
  SELECT p.* FROM unnest($3::text[]) AS k (ordering_key) CROSS JOIN LATERAL (
    SELECT tenant_id, environment_id, id FROM deliveries
    WHERE webhook_id = $2 AND tenant_id = $1 AND ordering_key = k.ordering_key AND order_number IS NOT NULL
      AND due_at = 'infinity' AND status <> 'held'
    ORDER BY order_number LIMIT $4
  ) p
) first
WHERE d.tenant_id = first.tenant_id AND d.environment_id = first.environment_id AND d.id = first.id
RETURNING d.ordering_key`,
} as const;
