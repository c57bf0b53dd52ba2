import { type Kysely, type Selectable, sql } from 'kysely';
import type { Database } from '../db/pool.ts';
import type { Tables } from '../db/tables.ts';
import type { Scope } from '../http/caller.ts';
import { firstIdAt, formatId, timeOfId } from '../kernel/ids.ts';

/** Something that the live stream shows and that is no attempt; `webhooks/told-deliveries.ts` writes others. */
export interface StreamEntry {
  /** UUIDv7 of the moment at which it is written: the stream runs in the order of these. */
  id: string;
  type: 'delivery.cancelled' | 'alert.fired' | 'alert.acknowledged' | 'alert.resolved';
  webhookId: string | null;
  /** The owner of the webhook may see it. */
  forOwner: boolean;
  /** As the stream shows it: no payload, no secret. */
  data: Record<string, unknown>;
}

/** To be called in the transaction of what it tells of, as late in it as may be. */
export async function addStreamEntry(trx: Kysely<Tables>, scope: Scope, entry: StreamEntry): Promise<void> {
  await trx
    .insertInto('stream_entries')
    .values({
      tenant_id: scope.tenantId,
      environment_id: scope.environmentId,
      id: entry.id,
      type: entry.type,
      webhook_id: entry.webhookId,
      for_owner: entry.forOwner,
      data: JSON.stringify(entry.data),
    })
    .execute();
}

/** A delivery was cancelled by a caller. */
export function cancelledEntry(row: Selectable<Tables['deliveries']>, id: string): StreamEntry {
  return {
    id,
    type: 'delivery.cancelled',
    webhookId: row.webhook_id,
    forOwner: true,
    data: {
      delivery_id: formatId('delivery', row.id),
      event_id: formatId('event', row.event_id),
      webhook_id: formatId('webhook', row.webhook_id),
      event_type: row.event_type,
      status: 'cancelled',
      status_reason: row.status_reason,
      attempt: row.attempt_count,
      at: new Date(timeOfId(id)).toISOString(),
    },
  };
}

/** How far back a stream can be resumed. */
export const RESUMABLE_MS = 24 * 3_600_000;

/** For so long after somebody has last listened is written what only a stream tells of. It is said again each hour. */
const LISTENED_MS = RESUMABLE_MS + 2 * 3_600_000;

/** Somebody listens to an environment: from the commit on is written what only a stream tells of. */
export async function noteListener(db: Database, { tenantId, environmentId }: Scope, nowMs: number): Promise<void> {
  const until = new Date(nowMs + LISTENED_MS);
  await db
    .insertInto('stream_listeners')
    .values({ tenant_id: tenantId, environment_id: environmentId, until })
    .onConflict((there) => there.columns(['tenant_id', 'environment_id']).doUpdateSet({ until }))
    .execute();
}

/** Rows that a statement removes at most: a day of a busy environment would take longer than a statement may. */
export const PURGED_AT_ONCE = 5_000;

/** Forgets what no stream can be resumed from any more; of all tenants, along the primary key. */
export async function purgeStreamEntries(db: Database, nowMs: number): Promise<void> {
  const first = firstIdAt(nowMs - RESUMABLE_MS);
  for (
    let at = await nextScope(db, NIL, NIL);
    at !== undefined;
    at = await nextScope(db, at.tenant_id, at.environment_id)
  ) {
    let removed = PURGED_AT_ONCE;
    while (removed === PURGED_AT_ONCE) {
      const result = await sql`
        DELETE FROM stream_entries
        WHERE tenant_id = ${at.tenant_id} AND environment_id = ${at.environment_id} AND id <= (
          SELECT id FROM (
            SELECT id FROM stream_entries
            WHERE tenant_id = ${at.tenant_id} AND environment_id = ${at.environment_id} AND id < ${first}
            ORDER BY id LIMIT ${PURGED_AT_ONCE}
          ) batch ORDER BY id DESC LIMIT 1
        )`.execute(db);
      removed = Number(result.numAffectedRows ?? 0);
    }
  }
}

const NIL = '00000000-0000-0000-0000-000000000000';

/** The environment behind another that has entries. */
async function nextScope(db: Database, tenantId: string, environmentId: string) {
  const found = await sql<{ tenant_id: string; environment_id: string }>`
    SELECT tenant_id, environment_id FROM stream_entries WHERE (tenant_id, environment_id) > (${tenantId}, ${environmentId})
    ORDER BY tenant_id, environment_id LIMIT 1`.execute(db);
  return found.rows[0];
}
