/**
 * Stores attempts and moves their deliveries on, in one round trip and one commit.
 *
 * - An attempt is stored even when the lease was lost meanwhile; its delivery is then left to the new holder.
 * - Dead letters and totals come from the deliveries that really moved, so repeating the statement counts nothing twice.
 * - Rows are touched in the order of their keys, so two nodes cannot wait for each other in a circle.
 */
export const RECORD_ATTEMPTS = {
  name: 'record-attempts',
  text: `
WITH input AS (
  SELECT * FROM unnest(
    $3::uuid[], $4::uuid[], $5::uuid[], $6::uuid[], $7::uuid[], $8::text[], $9::text[], $10::uuid[], $11::int[],
    $12::text[], $13::text[], $14::timestamptz[], $15::timestamptz[], $16::text[], $17::text[], $18::text[],
    $19::text[], $20::int[], $21::text[], $22::bytea[], $23::bool[], $24::text[], $25::text[], $26::int[]
  ) AS i (
    tenant_id, environment_id, delivery_id, event_id, webhook_id, event_type, trigger, attempt_id, number,
    status, status_reason, due_at, ended_at, url, http_method, request_headers,
    envelope, response_status, response_headers, response_body, response_truncated, error_class, error_message,
    duration_ms
  )
),
stored AS (
  INSERT INTO attempts (
    tenant_id, environment_id, id, delivery_id, event_id, webhook_id, event_type, number, trigger, url, http_method,
    request_headers, envelope, response_status, response_headers, response_body, response_truncated, error_class,
    error_message, duration_ms
  )
  SELECT
    tenant_id, environment_id, attempt_id, delivery_id, event_id, webhook_id, event_type, number, trigger, url,
    http_method, request_headers, envelope, response_status, response_headers, response_body, response_truncated,
    error_class, error_message, duration_ms
  FROM input
  ON CONFLICT DO NOTHING
),
moved AS (
  UPDATE deliveries d SET
    status = i.status,
    status_reason = i.status_reason,
    trigger = CASE WHEN i.trigger = 'manual' THEN 'scheduled' ELSE d.trigger END,
    attempt_count = i.number,
    due_at = i.due_at,
    lease_node = NULL,
    response_status = i.response_status,
    response_time_ms = i.duration_ms,
    error_class = i.error_class,
    error_message = i.error_message,
    completed_at = CASE WHEN i.due_at IS NULL THEN i.ended_at END
  FROM input i
  WHERE d.tenant_id = i.tenant_id AND d.environment_id = i.environment_id AND d.id = i.delivery_id
    AND d.lease_node = $1
  RETURNING
    d.tenant_id, d.environment_id, d.id, d.event_id, d.webhook_id, d.event_type, i.status, i.status_reason, i.number,
    i.trigger, i.ended_at, i.duration_ms
),
buried AS (
  INSERT INTO dead_letters (
    tenant_id, environment_id, delivery_id, event_id, webhook_id, event_type, reason, attempt_count, dead_at
  )
  SELECT tenant_id, environment_id, id, event_id, webhook_id, event_type, status_reason, number, ended_at
  FROM moved WHERE status = 'dead' AND trigger <> 'test'
  ON CONFLICT DO NOTHING
)
INSERT INTO webhook_totals AS t (
  tenant_id, webhook_id, shard, delivered, dead, attempts, failed_attempts, response_time_ms_sum, last_triggered_at
)
SELECT
  tenant_id, webhook_id, $2::int,
  count(*) FILTER (WHERE status = 'delivered'),
  count(*) FILTER (WHERE status = 'dead'),
  count(*),
  count(*) FILTER (WHERE status <> 'delivered'),
  sum(duration_ms),
  max(ended_at)
FROM moved
GROUP BY tenant_id, webhook_id
ORDER BY tenant_id, webhook_id
ON CONFLICT (tenant_id, webhook_id, shard) DO UPDATE SET
  delivered = t.delivered + excluded.delivered,
  dead = t.dead + excluded.dead,
  attempts = t.attempts + excluded.attempts,
  failed_attempts = t.failed_attempts + excluded.failed_attempts,
  response_time_ms_sum = t.response_time_ms_sum + excluded.response_time_ms_sum,
  last_triggered_at = greatest(t.last_triggered_at, excluded.last_triggered_at)`,
} as const;
