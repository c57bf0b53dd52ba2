import { ANNOUNCED_COLUMNS } from '../../webhooks/announcements.ts';

/**
 * Statements on `circuits`: the circuits that are not closed. Times are the database's, so that clocks of nodes may
 * differ. Those that change a circuit tell every node in the same commit: no node can miss what is stored.
 */

const TELL_CHANGED = `SELECT pg_notify('posthorn_changes', $3) FROM changed`;

/** Opens a circuit, or keeps it open. $1 tenant, $2 webhook, $3 notice, $4 milliseconds until it is probed, $5 reason. */
export const OPEN_CIRCUIT = {
  name: 'open-circuit',
  text: `
WITH changed AS (
  INSERT INTO circuits AS c (tenant_id, environment_id, webhook_id, state, opened_at, reopens_at, reason)
  SELECT w.tenant_id, w.environment_id, w.id, 'open', now(), now() + $4 * interval '1 millisecond', $5
  FROM webhooks w WHERE w.tenant_id = $1 AND w.id = $2
  ON CONFLICT (tenant_id, webhook_id) DO UPDATE SET
    state = 'open', reopens_at = excluded.reopens_at, reason = excluded.reason
  RETURNING webhook_id
)
${TELL_CHANGED}`,
} as const;

/**
 * Takes the right to probe: of all nodes one finds the time come, and has moved it on for the others. While nothing is
 * due there is nothing to probe with, and the right is left to the node that has something first. $1 tenant, $2 webhook,
 * $3 milliseconds after which another may probe if this one is never heard of again, $4 now by this node's clock (null:
 * whether anything is due or not).
 */
export const TAKE_PROBE = {
  name: 'take-probe',
  text: `
UPDATE circuits SET state = 'half_open', reopens_at = now() + $3 * interval '1 millisecond'
WHERE tenant_id = $1 AND webhook_id = $2 AND reopens_at <= now() AND (
  $4::timestamptz IS NULL
  OR EXISTS (SELECT FROM deliveries d WHERE d.webhook_id = $2 AND d.tenant_id = $1 AND d.due_at <= $4)
)`,
} as const;

/** Gives the right to probe back unused. $1 tenant, $2 webhook, $3 notice. */
export const RETURN_PROBE = {
  name: 'return-probe',
  text: `
WITH changed AS (
  UPDATE circuits SET state = 'open', reopens_at = now()
  WHERE tenant_id = $1 AND webhook_id = $2 AND state = 'half_open'
  RETURNING webhook_id
)
${TELL_CHANGED}`,
} as const;

/** Closes a circuit, and announces that its webhook has recovered. $1 tenant, $2 webhook, $3 notice. */
export const CLOSE_CIRCUIT = {
  name: 'close-circuit',
  text: `
WITH changed AS (DELETE FROM circuits WHERE tenant_id = $1 AND webhook_id = $2 RETURNING tenant_id, webhook_id),
announced AS (
  INSERT INTO announcements (${ANNOUNCED_COLUMNS})
  SELECT
    w.tenant_id, w.environment_id, 'webhook.recovered', w.id, w.name, w.url, w.owner, date_trunc('milliseconds', now()),
    '{"reason":"circuit_closed"}'
  FROM changed c JOIN webhooks w ON w.tenant_id = c.tenant_id AND w.id = c.webhook_id
)
${TELL_CHANGED}`,
} as const;

/** $1: a webhook, or null for all. */
export const READ_CIRCUITS = {
  name: 'read-circuits',
  text: `
SELECT tenant_id, environment_id, webhook_id, state,
  extract(epoch FROM reopens_at - now()) * 1000 AS wait_ms, reopens_at::text AS reopens_at
FROM circuits WHERE $1::uuid IS NULL OR webhook_id = $1`,
} as const;
