/**
 * Stores events and their deliveries in one commit. A delivery that this node will send at once is inserted leased
 * (`lease_node` set, `due_at` null), so the happy path needs no claim and never enters the index of waiting rows.
 *
 * Whoever buries the node waits for this commit (`NodeRegistry.bury`), as the node's row is held; a node that is buried
 * already leases nothing, and then nothing is stored. $3: the node, null when nothing is leased. Gives `stored`.
 */
export const INSERT_EVENTS = {
  name: 'insert-events',
  text: `
WITH me AS MATERIALIZED (SELECT id FROM nodes WHERE id = $3 FOR KEY SHARE),
judged AS MATERIALIZED (SELECT $3::int IS NULL OR EXISTS (SELECT FROM me) AS stored),
event AS (
  INSERT INTO events (
    tenant_id, environment_id, id, external_id, event_type, occurred_at, data, metadata, ordering_key, priority,
    deliver_at, delivery_count, is_test
  )
  SELECT * FROM unnest($1::event_row[])
  WHERE (SELECT stored FROM judged)
),
delivery AS (
  INSERT INTO deliveries (
    tenant_id, environment_id, id, event_id, webhook_id, event_type, status, trigger, priority, ordering_key,
    attempt_count, due_at, lease_node, order_number
  )
  SELECT
    d.tenant_id, d.environment_id, d.id, d.event_id, d.webhook_id, d.event_type, d.status, d.trigger, d.priority,
    d.ordering_key, 0, d.due_at, d.lease_node, CASE WHEN d.ordered THEN nextval('delivery_order_numbers') END
  FROM unnest($2::delivery_row[]) d
  WHERE (SELECT stored FROM judged)
)
SELECT stored FROM judged`,
} as const;
