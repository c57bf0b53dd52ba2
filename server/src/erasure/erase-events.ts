import { sql, type Transaction } from 'kysely';
import type { Tables } from '../db/tables.ts';
import { unparkKeys } from '../delivery/parked-keys.ts';
import { URL_WITHOUT_PATH } from '../delivery/sql/url-without-path.ts';
import type { Scope } from '../http/caller.ts';
import { notify } from '../tenants/queries.ts';
import { tellOfHeldOrDiscarded } from '../webhooks/told-deliveries.ts';

export interface Erased {
  attempts: number;
  discarded: number;
  deadLetters: number;
  /** Deliveries of which a request may be under way: what is still recorded of them has to be erased later. */
  inHand: string[];
  /** The tables that have dead rows of it now. */
  touched: Set<string>;
}

/**
 * Erases what events carried and what was recorded of it: data, metadata and ordering keys; headers, bodies and error
 * texts of their attempts; their dead letters, of which nothing could be delivered any more. Types, times, ids and results
 * stay on record. Deliveries that have not ended are discarded, also those that a node has in hand: it is told, and what
 * it has not begun is not sent.
 *
 * @param tellingText a publisher's id that holds it goes too.
 * @param times.requestsSince a request that is under way began after this.
 */
export async function eraseEvents(
  trx: Transaction<Tables>,
  scope: Scope,
  eventIds: readonly string[],
  tellingText: string | undefined,
  { now, requestsSince }: { now: Date; requestsSince: Date },
): Promise<Erased> {
  const { tenantId, environmentId } = scope;
  const touched = new Set<string>();
  const events = await sql<Touched>`
    UPDATE events SET data = NULL, metadata = NULL, ordering_key = NULL,
      external_id = CASE WHEN position(${tellingText ?? null}::text IN external_id) > 0 THEN NULL ELSE external_id END
    WHERE tenant_id = ${tenantId} AND environment_id = ${environmentId} AND id = ANY (${[...eventIds]}::uuid[])
    RETURNING tableoid::regclass::text AS "table"`.execute(trx);
  note(touched, events.rows);
  // One that was just cancelled or discarded has no lease any more, and its request may go on all the same.
  const deliveries = await sql<Touched & { id: string; in_hand: boolean }>`
    SELECT id, tableoid::regclass::text AS "table",
      lease_node IS NOT NULL OR status IN ('cancelled', 'discarded') AND completed_at > ${requestsSince} AS in_hand
    FROM deliveries
    WHERE tenant_id = ${tenantId} AND environment_id = ${environmentId} AND event_id = ANY (${[...eventIds]}::uuid[])
    ORDER BY id FOR UPDATE`.execute(trx);
  const ids = deliveries.rows.map(({ id }) => id);
  note(touched, deliveries.rows);
  // A test is awaited by who sent it and ends by itself.
  const ended = await sql<{ id: string }>`
    UPDATE deliveries SET status = 'discarded', status_reason = 'payload_erased', due_at = NULL, lease_node = NULL,
      completed_at = ${now}
    WHERE tenant_id = ${tenantId} AND environment_id = ${environmentId} AND id = ANY (${ids}::uuid[])
      AND status IN ('pending', 'failed', 'held') AND trigger <> 'test'
    RETURNING id`.execute(trx);
  const discarded = ended.rows.map(({ id }) => id);
  await tellOfHeldOrDiscarded(trx, scope, discarded);
  await sql`
    UPDATE deliveries SET ordering_key = NULL, error_message = NULL
    WHERE tenant_id = ${tenantId} AND environment_id = ${environmentId} AND id = ANY (${ids}::uuid[])
      AND (ordering_key IS NOT NULL OR error_message IS NOT NULL)`.execute(trx);
  const letters = await sql`
    DELETE FROM dead_letters
    WHERE tenant_id = ${tenantId} AND environment_id = ${environmentId} AND delivery_id = ANY (${ids}::uuid[])`.execute(
    trx,
  );
  await unparkKeys(trx, scope, ids);
  const inHand = deliveries.rows.filter(({ in_hand }) => in_hand).map(({ id }) => id);
  await tell(trx, scope, inHand, discarded.length > 0);
  return {
    attempts: await eraseAttempts(trx, scope, ids, touched),
    discarded: discarded.length,
    deadLetters: Number(letters.numAffectedRows ?? 0),
    inHand,
    touched,
  };
}

interface Touched {
  table: string;
}

function note(touched: Set<string>, rows: readonly Touched[]): void {
  for (const { table } of rows) touched.add(table);
}

/** Headers, bodies and error texts, and URLs that a transform may have made, of all attempts of deliveries; gives the number of those that had some. */
export async function eraseAttempts(
  trx: Transaction<Tables>,
  scope: Scope,
  deliveryIds: readonly string[],
  touched: Set<string>,
): Promise<number> {
  const erased = await sql<Touched>`
    UPDATE attempts SET request_headers = '{}', response_headers = NULL, response_body = NULL, error_message = NULL,
      request_body = NULL, url = CASE WHEN request_body IS NULL THEN url ELSE ${sql.raw(URL_WITHOUT_PATH)} END
    WHERE tenant_id = ${scope.tenantId} AND environment_id = ${scope.environmentId}
      AND delivery_id = ANY (${[...deliveryIds]}::uuid[])
      AND (request_headers <> '{}' OR response_headers IS NOT NULL OR response_body IS NOT NULL
        OR request_body IS NOT NULL
        OR error_message IS NOT NULL)
    RETURNING tableoid::regclass::text AS "table"`.execute(trx);
  note(touched, erased.rows);
  return erased.rows.length;
}

/** A notice has 8,000 bytes at most. */
const TOLD_AT_ONCE = 150;

/** What waits in an order behind a discarded one goes on; whoever has one in hand lets go of it. */
async function tell(trx: Transaction<Tables>, scope: Scope, inHand: string[], any: boolean): Promise<void> {
  const { tenantId, environmentId } = scope;
  const notices = Math.max(any ? 1 : 0, Math.ceil(inHand.length / TOLD_AT_ONCE));
  for (let at = 0; at < notices; at += 1) {
    const deliveryIds = inHand.slice(at * TOLD_AT_ONCE, (at + 1) * TOLD_AT_ONCE);
    await notify(trx, { topic: 'deliveries_cancelled', tenantId, environmentId, deliveryIds });
  }
}
