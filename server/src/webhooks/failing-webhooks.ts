import { type Selectable, sql, type Transaction } from 'kysely';
import type { Database } from '../db/pool.ts';
import type { Tables } from '../db/tables.ts';
import type { Scope } from '../http/caller.ts';
import { FAILING_MS_MIN, failingTooLongSince, type ShardHealth } from './failure-streak.ts';

/** Webhooks that one statement looks at. */
const PAGE = 5_000;

/** Rows that one statement changes at most: they are those that deliveries are recorded in. */
const BATCH_ROWS = 1_000;

/**
 * The active webhooks, of all tenants but suspended ones, that have failed for long enough to be disabled. It looks at every webhook, a
 * page at a time: 100,000 of them with 400,000 rows of totals take 0.5 s.
 */
export async function* failingWebhooks(db: Database, nowMs: number): AsyncGenerator<Scope & { id: string }> {
  let after: Place | undefined = FIRST_PLACE;
  while (after !== undefined) {
    const end: Place | undefined = await endOfPage(db, after);
    const rows = await selectCandidates(db, nowMs, after, end ?? LAST_PLACE);
    for (const shards of Map.groupBy(rows, (row) => `${row.tenant_id}/${row.id}`).values()) {
      const [webhook] = shards;
      if (webhook === undefined || failingTooLongSince(shards, nowMs) === undefined) continue;
      yield { tenantId: webhook.tenant_id, environmentId: webhook.environment_id, id: webhook.id };
    }
    after = end;
  }
}

/** Reads what each shard saw of a webhook. */
export function readHealth(db: Database, tenantId: string, webhookId: string): Promise<ShardHealth[]> {
  return db
    .selectFrom('webhook_totals')
    .select(['last_success_at', 'failing_since', 'failing_days', 'last_failure_at'])
    .where('tenant_id', '=', tenantId)
    .where('webhook_id', '=', webhookId)
    .execute();
}

/** Begins anew with counting a webhook's failures: it was enabled, or leads elsewhere. */
export async function forgetStreak(trx: Transaction<Tables>, tenantId: string, webhookId: string): Promise<void> {
  await trx
    .updateTable('webhook_totals')
    .set({ failing_since: null, failing_days: 0 })
    .where('tenant_id', '=', tenantId)
    .where('webhook_id', '=', webhookId)
    .where('failing_since', 'is not', null)
    .execute();
}

/**
 * Ends the streaks of shards that do not know that another shard saw a success since. Otherwise a shard that saw one
 * failure before that success, and nothing but failures long after it, would never be believed. Rows in use are left
 * for the next time.
 */
export async function forgetEndedStreaks(db: Database): Promise<void> {
  for (;;) {
    const result = await sql`
      WITH ended AS (
        SELECT tenant_id, webhook_id, shard FROM webhook_totals t
        WHERE failing_since IS NOT NULL AND EXISTS (
          SELECT FROM webhook_totals s
          WHERE s.tenant_id = t.tenant_id AND s.webhook_id = t.webhook_id AND s.last_success_at >= t.failing_since)
        LIMIT ${BATCH_ROWS} FOR UPDATE SKIP LOCKED
      )
      UPDATE webhook_totals t SET failing_since = NULL, failing_days = 0
      FROM ended e WHERE t.tenant_id = e.tenant_id AND t.webhook_id = e.webhook_id AND t.shard = e.shard`.execute(db);
    if (Number(result.numAffectedRows ?? 0) < BATCH_ROWS) return;
  }
}

/** Where a webhook stands in the order of the primary key. */
type Place = Pick<Selectable<Tables['webhooks']>, 'tenant_id' | 'id'>;

interface Candidate extends ShardHealth, Place {
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

/** The shards of webhooks of a page that may be due, because one of them has failed for long. */
async function selectCandidates(db: Database, nowMs: number, after: Place, end: Place): Promise<Candidate[]> {
  const result = await sql<Candidate>`
    SELECT w.tenant_id, w.id, w.environment_id, t.last_success_at, t.failing_since, t.failing_days, t.last_failure_at
    FROM webhooks w JOIN webhook_totals t ON t.tenant_id = w.tenant_id AND t.webhook_id = w.id
    WHERE w.status = 'active' AND w.tenant_id NOT IN (SELECT id FROM tenants WHERE suspended_at IS NOT NULL)
      AND (w.tenant_id, w.id) IN (
      SELECT tenant_id, webhook_id FROM webhook_totals
      WHERE failing_since <= ${new Date(nowMs - FAILING_MS_MIN)}
        AND (tenant_id, webhook_id) > (${after.tenant_id}, ${after.id})
        AND (tenant_id, webhook_id) <= (${end.tenant_id}, ${end.id}))`.execute(db);
  return result.rows;
}
