import { sql } from 'kysely';

interface UncountedRow {
  webhook_id: string;
  delivered: number;
  dead: number;
  attempts: number;
  response_time_ms: number;
  last_at: Date;
}

/**
 * A table to join beside `webhook_totals`: what commits of the last seconds counted of the tenant's webhooks, and nobody
 * has added to their totals yet. Under load it is tens of thousands of tallies (20 ms), else next to nothing.
 */
export function uncounted(tenantId: string) {
  return sql<UncountedRow>`(
    SELECT
      s.webhook_id, sum(s.delivered)::int AS delivered, sum(s.dead)::int AS dead, sum(s.attempts)::int AS attempts,
      sum(s.response_time_ms)::bigint AS response_time_ms, max(s.last_at) AS last_at
    FROM webhook_tallies, unnest(tallies) s
    WHERE s.tenant_id = ${tenantId}
    GROUP BY s.webhook_id
  )`.as('uncounted');
}

/** The same for the events that filters kept from the tenant's webhooks. */
export function uncountedFiltered(tenantId: string) {
  return sql<{ webhook_id: string; filtered: number }>`(
    SELECT f.webhook_id, sum(f.count)::int AS filtered
    FROM filtered_tallies, unnest(tenants, webhooks, counts) f (tenant_id, webhook_id, count)
    WHERE f.tenant_id = ${tenantId}
    GROUP BY f.webhook_id
  )`.as('uncounted_filtered');
}
