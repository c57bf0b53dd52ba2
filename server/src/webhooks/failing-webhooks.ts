import { type Selectable, sql, type Transaction } from 'kysely';
import type { Database } from '../db/pool.ts';
import type { Tables } from '../db/tables.ts';
import type { Scope } from '../http/caller.ts';
import { FAILING_MS_MIN, failingTooLongSince, type WebhookHealth } from './failure-streak.ts';

/** Webhooks that one statement looks at. */
const PAGE = 5_000;

/**
 * The active webhooks, of all tenants but suspended ones, that have failed for long enough to be disabled. It looks at
 * every webhook, a page at a time.
 */
export async function* failingWebhooks(db: Database, nowMs: number): AsyncGenerator<Scope & { id: string }> {
  let after: Place | undefined = FIRST_PLACE;
  while (after !== undefined) {
    const end: Place | undefined = await endOfPage(db, after);
    const rows = await selectCandidates(db, nowMs, after, end ?? LAST_PLACE);
    for (const row of rows) {
      if (failingTooLongSince(row, nowMs) === undefined) continue;
      yield { tenantId: row.tenant_id, environmentId: row.environment_id, id: row.id };
    }
    after = end;
  }
}

/** Reads what is known of a webhook's health; undefined when nothing was sent to it yet. */
export function readHealth(db: Database, tenantId: string, webhookId: string): Promise<WebhookHealth | undefined> {
  return db
    .selectFrom('webhook_totals')
    .select(['failing_since', 'failing_days', 'last_failure_at'])
    .where('tenant_id', '=', tenantId)
    .where('webhook_id', '=', webhookId)
    .executeTakeFirst();
}

/** Begins anew with counting a webhook's failures: it was enabled, or leads elsewhere. */
export async function forgetStreak(trx: Transaction<Tables>, tenantId: string, webhookId: string): Promise<void> {
  await trx
    .updateTable('webhook_totals')
    .set({ failing_since: null, failing_days: 0, last_failure_at: null })
    .where('tenant_id', '=', tenantId)
    .where('webhook_id', '=', webhookId)
    .where('last_failure_at', 'is not', null)
    .execute();
}

/** Where a webhook stands in the order of the primary key. */
type Place = Pick<Selectable<Tables['webhooks']>, 'tenant_id' | 'id'>;

interface Candidate extends WebhookHealth, Place {
  environment_id: string;
}

const [LEAST_UUID, GREATEST_UUID] = ['00000000-0000-0000-0000-000000000000', 'ffffffff-ffff-ffff-ffff-ffffffffffff'];
const FIRST_PLACE: Place = { tenant_id: LEAST_UUID, id: LEAST_UUID };
const LAST_PLACE: Place = { tenant_id: GREATEST_UUID, id: GREATEST_UUID };

/** The last webhook of the page after a place; undefined when fewer are left. */
async function endOfPage(db: Database, after: Place): Promise<Place | undefined> {
  const result = await sql<Place>`
    SELECT tenant_id, id FROM webhooks WHERE (tenant_id, id) > (${after.tenant_id}, ${after.id})
    ORDER BY tenant_id, id OFFSET ${PAGE - 1} LIMIT 1`.execute(db);
  return result.rows[0];
}

/** The webhooks of a page that have failed for long. */
async function selectCandidates(db: Database, nowMs: number, after: Place, end: Place): Promise<Candidate[]> {
  const result = await sql<Candidate>`
    SELECT w.tenant_id, w.id, w.environment_id, t.failing_since, t.failing_days, t.last_failure_at
    FROM webhooks w JOIN webhook_totals t ON t.tenant_id = w.tenant_id AND t.webhook_id = w.id
    WHERE w.status = 'active' AND t.failing_since <= ${new Date(nowMs - FAILING_MS_MIN)}
      AND w.tenant_id NOT IN (SELECT id FROM tenants WHERE suspended_at IS NOT NULL)
      AND (t.tenant_id, t.webhook_id) > (${after.tenant_id}, ${after.id})
      AND (t.tenant_id, t.webhook_id) <= (${end.tenant_id}, ${end.id})`.execute(db);
  return result.rows;
}
