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
