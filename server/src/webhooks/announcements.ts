import { sql, type Transaction } from 'kysely';
import type { Tables } from '../db/tables.ts';
import type { Scope } from '../http/caller.ts';

/** Operational events that are written with what they tell of, and published from there (`events/operational-events.ts`). */
export type AnnouncedType = 'webhook.disabled' | 'webhook.recovered' | 'delivery.dead';

/**
 * To be called in the transaction of what it tells of, once the webhook is as it will be. `details`: what the event tells
 * beside the webhook; no payload, no secret.
 */
export async function announce(
  trx: Transaction<Tables>,
  webhook: Scope & { id: string },
  type: AnnouncedType,
  occurredAt: Date,
  details: Record<string, unknown>,
): Promise<void> {
  const { tenantId, environmentId, id } = webhook;
  await sql`
    INSERT INTO announcements (${sql.raw(ANNOUNCED_COLUMNS)})
    SELECT w.tenant_id, w.environment_id, ${type}, w.id, w.name, w.url, w.owner, ${occurredAt},
      ${JSON.stringify(details)}::jsonb
    FROM webhooks w
    WHERE w.tenant_id = ${tenantId} AND w.environment_id = ${environmentId} AND w.id = ${id}`.execute(trx);
}

/** SQL of the columns that whoever announces fills. */
export const ANNOUNCED_COLUMNS =
  'tenant_id, environment_id, type, webhook_id, webhook_name, webhook_url, webhook_owner, occurred_at, details';

/**
 * SQL that holds where another webhook of the environment asks for `delivery.dead`, as `asksFor` says it. Dead deliveries
 * may be many: it is a look at an index of those who ask (`webhooks_told_of_deaths`). `row` has the dead one's columns.
 */
export const deathIsAskedFor = (row: string): string => `EXISTS (
    SELECT FROM webhooks o
    WHERE o.tenant_id = ${row}.tenant_id AND o.environment_id = ${row}.environment_id AND o.id <> ${row}.webhook_id
      AND o.events && '{delivery.dead,delivery.*}'::text[]
  )`;
