import { tellOfDeliveries } from '../../webhooks/told-deliveries.ts';

/**
 * What stores events and their deliveries, in this order and in one transaction. A delivery that this node will send at
 * once is inserted leased (`lease_node` set, `due_at` null), so the happy path needs no claim and never enters the index
 * of waiting rows.
 */

/**
 * Whoever buries the node waits for this transaction (`NodeRegistry.bury`), as the node's row is held; a node that is
 * buried already leases nothing, and then nothing is stored (`NODE_IS_BURIED`). $1: the node.
 */
export const HOLD_NODE = { name: 'hold-node', text: 'SELECT hold_node($1)' } as const;

/** SQLSTATE of `hold_node` for a node that is gone from `nodes`. */
export const NODE_IS_BURIED = 'PH001';

/** `table`: `events` or one of its partitions. */
export function copyEvents(table: string) {
  return {
    name: `copy-${table}`,
    text: `
COPY ${table} (
  tenant_id, environment_id, id, external_id, event_type, occurred_at, data, metadata, ordering_key, priority, deliver_at,
  delivery_count, is_test
) FROM STDIN (FORMAT binary)`,
  };
}

/** Deliveries without an order. `table`: `deliveries` or one of its partitions. */
export function copyDeliveries(table: string) {
  return {
    name: `copy-${table}`,
    text: `
COPY ${table} (
  tenant_id, environment_id, id, event_id, webhook_id, event_type, status, trigger, priority, ordering_key, due_at,
  lease_node, attempt_count
) FROM STDIN (FORMAT binary)`,
  };
}

/**
 * What filters kept from webhooks, one row for all webhooks of the commit. $1 tenants, $2 webhooks, $3 counts.
 * `delivery/sql/fold-filtered.ts` adds it to their totals.
 */
export const COUNT_FILTERED = {
  name: 'count-filtered',
  text: 'INSERT INTO filtered_tallies (tenants, webhooks, counts) VALUES ($1::uuid[], $2::uuid[], $3::int[])',
} as const;

/**
 * Deliveries that are held from the beginning, for the live stream. $1 tenants, $2 environments, $3 deliveries, $4 events,
 * $5 webhooks, $6 event types.
 */
export const TELL_HELD = {
  name: 'tell-held',
  text: `
WITH held AS (
  SELECT *, 'held' AS status, NULL AS status_reason, 0 AS attempt_count
  FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[], $6::text[])
    AS h (tenant_id, environment_id, id, event_id, webhook_id, event_type)
)${tellOfDeliveries('held')}`,
} as const;

/** Each gets the next place in its order. $1: the deliveries. */
export const INSERT_ORDERED_DELIVERIES = {
  name: 'insert-ordered-deliveries',
  text: `
INSERT INTO deliveries (
  tenant_id, environment_id, id, event_id, webhook_id, event_type, status, trigger, priority, ordering_key, due_at,
  lease_node, attempt_count, order_number
)
SELECT d.*, 0, nextval('delivery_order_numbers') FROM unnest($1::ordered_delivery[]) d`,
} as const;
