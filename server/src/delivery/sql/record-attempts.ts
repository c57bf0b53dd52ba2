import { ANNOUNCED_COLUMNS, deathIsAskedFor } from '../../webhooks/announcements.ts';
import { OPERATIONAL_TYPES } from '../../webhooks/operational-types.ts';
import { ATTEMPT_CODE, SUCCESS_CODE } from '../attempt-codes.ts';

/**
 * What stores attempts and moves their deliveries on, in this order and in one transaction.
 *
 * - An attempt is stored even when the lease was lost meanwhile; its delivery is then left to the new holder.
 * - Dead letters and tallies come from the deliveries that really moved, so doing it again counts nothing twice.
 * - Where somebody asks for it, a death is announced in the same statement: its event is published from there, whoever is
 *   killed when. Of a delivery of Posthorn's own events there is none, since it would be the cause of the next.
 * - A success at the failover URL is none of the webhook itself, and a fault of ours no failure.
 * - A key whose delivery ended dead is parked where the webhook wants it, and goes on when that delivery ends otherwise.
 *   What was erased meanwhile parks nothing, since it can never be delivered; whoever is just erasing it goes first or
 *   finds the key parked, by the lock on the event. The same holds for a webhook that parks keys no more, by its lock:
 *   that change lets the keys go on that it finds, and none is to be parked after it.
 */

/** For attempts that an earlier transaction may have stored, whose answer never came. $1 tenants, $2 environments, $3 deliveries, $4 ids. */
export const FORGET_ATTEMPTS = {
  name: 'forget-attempts',
  text: `
DELETE FROM attempts a
USING unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[]) AS i (tenant_id, environment_id, delivery_id, id)
WHERE a.tenant_id = i.tenant_id AND a.environment_id = i.environment_id AND a.delivery_id = i.delivery_id
  AND a.id = i.id`,
} as const;

/** `table`: `attempts` or one of its partitions. */
export function copyAttempts(table: string) {
  return {
    name: `copy-${table}`,
    text: `
COPY ${table} (
  tenant_id, environment_id, id, delivery_id, event_id, webhook_id, event_type, number, trigger, url, http_method,
  request_headers, envelope, response_status, response_headers, response_body, response_truncated, error_class,
  error_message, duration_ms, request_body, template_id, template_version
) FROM STDIN (FORMAT binary)`,
  };
}

/**
 * What became of deliveries. $1: the outcomes.
 *
 * `table`: the partition that has them all. With the whole table the planner looks up each outcome in each partition, or
 * takes all rows of a day and compares each with each outcome: ten times the work for 300 outcomes (measured).
 */
export function recordOutcomes(table: string) {
  return { name: `record-outcomes-${table}`, text: `WITH moved AS (${moved(table)})${ENDS}${tallies(ATTEMPT_CODE)}` };
}

/** The same for deliveries that all succeeded and keep no order, as most do: without the parts for the others. */
export function recordSuccesses(table: string) {
  return { name: `record-successes-${table}`, text: `WITH moved AS (${moved(table)})${tallies(SUCCESS_CODE)}` };
}

const moved = (table: string) => `
UPDATE ${table} d SET
  status = i.status,
  status_reason = i.status_reason,
  trigger = i.next_trigger,
  attempt_count = i.number,
  due_at = i.due_at,
  lease_node = NULL,
  response_status = i.response_status,
  response_time_ms = i.duration_ms,
  error_class = i.error_class,
  error_message = i.error_message,
  completed_at = CASE WHEN i.due_at IS NULL THEN i.ended_at END
FROM unnest($1::delivery_outcome[]) i
WHERE d.tenant_id = i.tenant_id AND d.environment_id = i.environment_id AND d.id = i.delivery_id
  AND d.lease_node = i.lease_node
RETURNING
  d.tenant_id, d.environment_id, d.id, d.event_id, d.webhook_id, d.event_type, i.status, i.status_reason, i.number,
  i.trigger, i.ended_at, i.duration_ms, i.response_status, i.error_class, d.ordering_key, i.parks`;

/** What only failures and ordered deliveries may need. */
const ENDS = `,
parking AS (
  SELECT m.* FROM moved m
  JOIN events e ON e.tenant_id = m.tenant_id AND e.environment_id = m.environment_id AND e.id = m.event_id
  JOIN webhooks w ON w.tenant_id = m.tenant_id AND w.id = m.webhook_id
  WHERE m.parks AND e.data IS NOT NULL
    AND (w.ordering->>'enabled')::boolean AND w.ordering->>'on_dead' = 'park'
  FOR SHARE OF e, w
),
parked AS (
  INSERT INTO parked_keys (tenant_id, webhook_id, ordering_key, delivery_id, parked_at)
  SELECT tenant_id, webhook_id, ordering_key, id, ended_at FROM parking
  ON CONFLICT DO NOTHING
),
unparked AS (
  DELETE FROM parked_keys k USING moved m
  WHERE m.ordering_key IS NOT NULL AND NOT m.parks AND m.status IN ('delivered', 'dead')
    AND k.tenant_id = m.tenant_id AND k.webhook_id = m.webhook_id AND k.ordering_key = m.ordering_key
    AND k.delivery_id = m.id
),
buried AS (
  INSERT INTO dead_letters (
    tenant_id, environment_id, delivery_id, event_id, webhook_id, event_type, reason, attempt_count,
    response_status, dead_at
  )
  SELECT
    tenant_id, environment_id, id, event_id, webhook_id, event_type, status_reason, number, response_status, ended_at
  FROM moved WHERE status = 'dead' AND trigger <> 'test'
  ON CONFLICT DO NOTHING
),
announced AS (
  INSERT INTO announcements (${ANNOUNCED_COLUMNS})
  SELECT
    m.tenant_id, m.environment_id, 'delivery.dead', w.id, w.name, w.url, w.owner, m.ended_at,
    jsonb_build_object(
      'delivery_id', m.id, 'event_id', m.event_id, 'event_type', m.event_type, 'reason', m.status_reason,
      'attempt_count', m.number, 'response_status', m.response_status, 'error_class', m.error_class
    )
  FROM moved m JOIN webhooks w ON w.tenant_id = m.tenant_id AND w.id = m.webhook_id
  WHERE m.status = 'dead' AND m.trigger <> 'test' AND m.event_type <> ALL ('{${OPERATIONAL_TYPES}}')
    AND ${deathIsAskedFor('m')}
)`;

/**
 * One row for all webhooks of the commit: what it counted, which `fold-tallies.ts` adds to their totals, and a number for
 * each attempt, of which that makes parts of rollups. `code`: SQL of this number.
 */
const tallies = (code: string) => `
INSERT INTO webhook_tallies (tallies, seen)
SELECT counted.tallies, noted.seen
FROM (
  SELECT array_agg(c::webhook_tally) AS tallies FROM (
    SELECT
      tenant_id,
      webhook_id,
      count(*) FILTER (WHERE status = 'delivered')::int AS delivered,
      count(*) FILTER (WHERE status = 'dead')::int AS dead,
      count(*)::int AS attempts,
      sum(duration_ms)::bigint AS response_time_ms,
      max(ended_at) AS last_at,
      max(ended_at) FILTER (WHERE status = 'delivered' AND trigger <> 'failover') AS last_success_at,
      min(ended_at) FILTER (WHERE status <> 'delivered' AND error_class NOT IN ('internal', 'template')) AS first_failure_at,
      max(ended_at) FILTER (WHERE status <> 'delivered' AND error_class NOT IN ('internal', 'template')) AS last_failure_at
    FROM moved
    GROUP BY tenant_id, webhook_id
  ) c
) counted, (
  SELECT array_agg(s::attempts_seen) AS seen FROM (
    SELECT
      tenant_id,
      environment_id,
      webhook_id,
      event_type,
      date_bin('1 minute', ended_at, '2000-01-01Z') AS at,
      count(*) FILTER (WHERE status = 'dead')::int AS dead,
      array_agg(${code}) AS codes
    FROM moved
    GROUP BY tenant_id, environment_id, webhook_id, event_type, at
  ) s
) noted
WHERE counted.tallies IS NOT NULL`;
