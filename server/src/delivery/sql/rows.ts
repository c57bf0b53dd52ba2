import { tellOfDeliveries } from '../../webhooks/told-deliveries.ts';

/** Statements on the rows of `deliveries` that this node takes into its hands or gives back. */

/**
 * Leases rows that are due, lane by lane, at most `room` of each: the urgent ones first, then those that are due for
 * longest. Their payloads together have no more bytes than the lane has room for, but one row is leased however large
 * it is. A row that another node is just taking is passed over. The node's mark goes back to the oldest of them in the
 * same commit: were the node killed now, the search for its leases must begin there. A node that others have taken for
 * dead leases nothing, and whoever buries one waits for its claim (`NodeRegistry.bury`).
 *
 * The length of a payload is read without the payload, which is read only with the rows that were leased.
 *
 * Urgent ones leave one place in 32 to the others, as in memory.
 *
 * First attempts that wait for their turn stand before everything else (`first-attempts.ts`). They leave some of the room
 * to what is later, and that has a room of its own within the lane's: a storm of retries does not fill all of it. Where that
 * room is full, urgent retries are passed over in the index, and do not stand before less urgent first attempts.
 *
 * In a lane that keeps an order, a row whose predecessor still waits, or whose key is parked, is not leased: it is
 * parked, and `blocked` tells. The predecessors of a key are looked at once, not for each of its rows: the rows to be
 * leased are compared with the waiting ones place by place, and what comes after the first that differs is blocked. The
 * delivery that parks its key waits for none: all before it had ended, and what was set going again waits for it.
 * $1 tenants, $2 webhooks, $3 rooms, $4 now, $5 node, $6 whether they keep an order, $7 rooms in bytes, $8 rooms
 * for first attempts, $9 rooms for what is later.
 */
export const CLAIM_DUE = {
  name: 'claim-due',
  text: `
WITH me AS MATERIALIZED (SELECT id FROM nodes WHERE id = $5 FOR KEY SHARE),
lane AS (
  SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::int[], $6::bool[], $7::int[], $8::int[], $9::int[])
    AS l (tenant_id, webhook_id, room, ordered, byte_room, first_room, later_room)
  WHERE EXISTS (SELECT FROM me)
),
urgent AS MATERIALIZED (
  SELECT d.*, lane.ordered, lane.byte_room, lane.later_room FROM lane CROSS JOIN LATERAL (
    SELECT tenant_id, environment_id, id, event_id, webhook_id, ordering_key, order_number, priority, due_at
    FROM deliveries
    WHERE tenant_id = lane.tenant_id AND webhook_id = lane.webhook_id AND priority > 0
      AND due_at <= CASE WHEN lane.later_room > 0 THEN $4::timestamptz ELSE '1999-12-31Z' END
    ORDER BY priority DESC, due_at LIMIT greatest(1, lane.room - greatest(1, lane.room / 32))
    FOR UPDATE SKIP LOCKED
  ) d
),
plain_first AS MATERIALIZED (
  SELECT d.*, lane.ordered, lane.byte_room, lane.later_room FROM lane CROSS JOIN LATERAL (
    SELECT tenant_id, environment_id, id, event_id, webhook_id, ordering_key, order_number, priority, due_at
    FROM deliveries
    WHERE tenant_id = lane.tenant_id AND webhook_id = lane.webhook_id AND due_at < '2000-01-01Z' AND priority <= 0
    ORDER BY due_at
    LIMIT least(lane.first_room, (
      SELECT lane.room - count(*) FILTER (WHERE u.due_at < '2000-01-01Z')
        - least(lane.later_room, count(*) FILTER (WHERE u.due_at >= '2000-01-01Z'))
      FROM urgent u WHERE u.webhook_id = lane.webhook_id
    ))
    FOR UPDATE SKIP LOCKED
  ) d
),
plain_later AS MATERIALIZED (
  SELECT d.*, lane.ordered, lane.byte_room, lane.later_room FROM lane CROSS JOIN LATERAL (
    SELECT tenant_id, environment_id, id, event_id, webhook_id, ordering_key, order_number, priority, due_at
    FROM deliveries
    WHERE tenant_id = lane.tenant_id AND webhook_id = lane.webhook_id AND due_at >= '2000-01-01Z' AND due_at <= $4
      AND priority <= 0
    ORDER BY due_at
    LIMIT greatest(0, least(lane.later_room, lane.room) - (
      SELECT count(*) FROM (SELECT webhook_id FROM urgent UNION ALL SELECT webhook_id FROM plain_first) f
      WHERE f.webhook_id = lane.webhook_id
    ))
    FOR UPDATE SKIP LOCKED
  ) d
),
sized AS MATERIALIZED (
  SELECT found.*, found.due_at >= '2000-01-01Z' AS later, coalesce((
    SELECT octet_length(e.data) FROM events e
    WHERE e.tenant_id = found.tenant_id AND e.environment_id = found.environment_id AND e.id = found.event_id
  ), 0) AS bytes
  FROM (SELECT * FROM urgent UNION ALL SELECT * FROM plain_first UNION ALL SELECT * FROM plain_later) found
),
due AS MATERIALIZED (
  SELECT * FROM (
    SELECT *, sum(bytes) OVER so_far AS bytes_so_far, count(*) FILTER (WHERE later) OVER so_far AS later_so_far
    FROM sized
    WINDOW so_far AS (PARTITION BY webhook_id ORDER BY greatest(priority, 0) DESC, due_at, id)
  ) counted
  WHERE (bytes_so_far <= byte_room OR bytes_so_far = bytes) AND (NOT later OR later_so_far <= later_room)
),
keys AS MATERIALIZED (
  SELECT tenant_id, environment_id, webhook_id, ordering_key, count(*) AS rows,
    array_agg(id ORDER BY order_number) AS ids, array_agg(order_number ORDER BY order_number) AS numbers,
    array_agg(later ORDER BY order_number) AS laters
  FROM due WHERE ordered AND order_number IS NOT NULL
  GROUP BY tenant_id, environment_id, webhook_id, ordering_key
),
stopped AS MATERIALIZED (
  SELECT keys.*, (
    SELECT min(order_number) FROM (
      SELECT id, order_number, row_number() OVER (ORDER BY order_number) AS place FROM deliveries
      WHERE webhook_id = keys.webhook_id AND tenant_id = keys.tenant_id AND ordering_key = keys.ordering_key
        AND due_at IS NOT NULL AND order_number IS NOT NULL
      ORDER BY order_number LIMIT keys.rows + 1
    ) waiting
    WHERE waiting.id IS DISTINCT FROM keys.ids[place]
  ) AS first_waiting, (
    SELECT k.delivery_id FROM parked_keys k
    WHERE k.tenant_id = keys.tenant_id AND k.webhook_id = keys.webhook_id AND k.ordering_key = keys.ordering_key
  ) AS parked_by
  FROM keys
),
judged AS MATERIALIZED (
  SELECT tenant_id, environment_id, id, NULL::bigint AS order_number, later, false AS blocked
  FROM due WHERE NOT ordered OR order_number IS NULL
  UNION ALL
  SELECT s.tenant_id, s.environment_id, r.id, r.order_number, r.later,
    coalesce(s.parked_by <> r.id, r.order_number > s.first_waiting, false)
  FROM stopped s CROSS JOIN LATERAL unnest(s.ids, s.numbers, s.laters) AS r (id, order_number, later)
),
claimed AS (
  UPDATE deliveries d SET
    lease_node = CASE WHEN NOT j.blocked THEN $5::int END,
    due_at = CASE WHEN j.blocked THEN 'infinity'::timestamptz END
  FROM judged j
  WHERE d.tenant_id = j.tenant_id AND d.environment_id = j.environment_id AND d.id = j.id
  RETURNING
    d.tenant_id, d.environment_id, d.id, d.event_id, d.webhook_id, d.attempt_count, d.trigger, d.priority,
    d.ordering_key, j.order_number, j.later, j.blocked
),
marked AS (
  UPDATE nodes SET oldest_leased_id = least(oldest_leased_id, (SELECT id FROM due ORDER BY id LIMIT 1)) WHERE id = $5
)
SELECT c.*, e.external_id, e.event_type, e.occurred_at, e.data, e.metadata
FROM claimed c
LEFT JOIN events e ON NOT c.blocked
  AND e.tenant_id = c.tenant_id AND e.environment_id = c.environment_id AND e.id = c.event_id
ORDER BY c.order_number, c.id`,
} as const;

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
