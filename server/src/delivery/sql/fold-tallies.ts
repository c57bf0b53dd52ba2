import { countCodes } from '../attempt-codes.ts';

/** The last success that either side knows of. */
const SUCCESS = `coalesce(greatest(t.last_success_at, excluded.last_success_at), '-infinity')`;

/**
 * Adds tallies to the totals of their webhooks, and makes one part of the rollups of them (`analytics/`); gives how many
 * rows of them it took. $1: rows at most.
 *
 * Several nodes may do it at once: each takes rows of its own, in whatever order, so a streak of failures is judged by
 * the times of its failures and of the last success. A webhook that is gone gets no totals again.
 */
export const FOLD_TALLIES = {
  name: 'fold-tallies',
  text: `
WITH taken AS (
  DELETE FROM webhook_tallies WHERE id IN (
    SELECT id FROM webhook_tallies ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED
  )
  RETURNING tallies, seen
),
seen AS (
  SELECT
    s.tenant_id, s.webhook_id, sum(s.delivered) AS delivered, sum(s.dead) AS dead, sum(s.attempts) AS attempts,
    sum(s.response_time_ms) AS response_time_ms, max(s.last_at) AS last_at, max(s.last_success_at) AS last_success_at,
    min(s.first_failure_at) AS first_failure_at, max(s.last_failure_at) AS last_failure_at
  FROM taken, unnest(taken.tallies) s
  GROUP BY s.tenant_id, s.webhook_id
),
judged AS (
  SELECT *, CASE
    WHEN first_failure_at > coalesce(last_success_at, '-infinity') THEN first_failure_at
    WHEN last_failure_at > last_success_at THEN last_failure_at
  END AS failing_since
  FROM seen
),
folded AS (
  INSERT INTO webhook_totals AS t (
    tenant_id, webhook_id, delivered, dead, attempts, response_time_ms_sum, last_triggered_at, last_success_at,
    failing_since, failing_days, last_failure_at
  )
  SELECT
    tenant_id, webhook_id, delivered, dead, attempts, response_time_ms, last_at, last_success_at, failing_since,
    (failing_since IS NOT NULL)::int, last_failure_at
  FROM judged j
  WHERE EXISTS (SELECT FROM webhooks w WHERE w.tenant_id = j.tenant_id AND w.id = j.webhook_id)
  ORDER BY tenant_id, webhook_id
  ON CONFLICT (tenant_id, webhook_id) DO UPDATE SET
    delivered = t.delivered + excluded.delivered,
    dead = t.dead + excluded.dead,
    attempts = t.attempts + excluded.attempts,
    response_time_ms_sum = t.response_time_ms_sum + excluded.response_time_ms_sum,
    last_triggered_at = greatest(t.last_triggered_at, excluded.last_triggered_at),
    last_success_at = greatest(t.last_success_at, excluded.last_success_at),
    failing_since = least(
      CASE
        WHEN t.failing_since > ${SUCCESS} THEN t.failing_since
        WHEN t.last_failure_at > ${SUCCESS} THEN t.last_failure_at
      END,
      CASE
        WHEN excluded.failing_since > ${SUCCESS} THEN excluded.failing_since
        WHEN excluded.last_failure_at > ${SUCCESS} THEN excluded.last_failure_at
      END
    ),
    failing_days = CASE
      WHEN t.failing_since > ${SUCCESS} THEN t.failing_days + coalesce(
        ((t.last_failure_at AT TIME ZONE 'UTC')::date < (excluded.last_failure_at AT TIME ZONE 'UTC')::date)::int, 0
      )
      WHEN greatest(t.last_failure_at, excluded.last_failure_at) > ${SUCCESS} THEN 1
      ELSE 0
    END,
    last_failure_at = greatest(t.last_failure_at, excluded.last_failure_at)
),
noted AS (SELECT n.* FROM taken, unnest(taken.seen) n),
counted AS (${countCodes('noted')}),
parted AS (
  INSERT INTO rollup_parts (parts)
  SELECT array_agg(p::counted_attempts) FROM (
    SELECT tenant_id, environment_id, webhook_id, event_type, at, array_agg(code), array_agg(n) FROM counted
    GROUP BY tenant_id, environment_id, webhook_id, event_type, at
  ) p
  HAVING count(*) > 0
)
SELECT count(*)::int AS rows FROM taken`,
} as const;
