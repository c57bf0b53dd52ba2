import { sql } from 'kysely';
import type { Database } from '../db/pool.ts';
import type { Scope } from './caller.ts';

/** Milliseconds for which an answer is kept. */
const KEPT_MS = 24 * 60 * 60 * 1000;

/** Milliseconds after which a request that is still under way is taken for dead. */
const ABANDONED_MS = 60_000;

export interface RequestIdentity extends Scope {
  key: string;
  requestHash: Buffer;
}

/** The right to answer for a key. A claim that was taken over no longer matches its row, and changes nothing. */
export interface Claim extends RequestIdentity {
  claimedAt: Date;
}

export type ClaimOutcome =
  | { kind: 'claimed'; claim: Claim }
  | { kind: 'answered'; status: number; box: Buffer }
  | { kind: 'in-progress' }
  | { kind: 'reused' };

/** Claims a key, or says who has it. Of any number of requests at the same time, one gets the claim. */
export async function claimRequest(db: Database, request: RequestIdentity, nowMs: number): Promise<ClaimOutcome> {
  const claimedAt = new Date(nowMs);
  const inserted = await db
    .insertInto('idempotent_requests')
    .values({
      tenant_id: request.tenantId,
      environment_id: request.environmentId,
      key: request.key,
      request_hash: request.requestHash,
      response_status: null,
      response_box: null,
      created_at: claimedAt,
    })
    .onConflict((conflict) =>
      conflict
        .columns(['tenant_id', 'environment_id', 'key'])
        .doUpdateSet((eb) => ({
          request_hash: eb.ref('excluded.request_hash'),
          response_status: null,
          response_box: null,
          created_at: eb.ref('excluded.created_at'),
        }))
        .where((eb) =>
          eb.or([
            eb('idempotent_requests.created_at', '<=', new Date(nowMs - KEPT_MS)),
            eb.and([
              eb('idempotent_requests.response_status', 'is', null),
              eb('idempotent_requests.created_at', '<=', new Date(nowMs - ABANDONED_MS)),
              eb('idempotent_requests.request_hash', '=', request.requestHash),
            ]),
          ]),
        ),
    )
    .returning('key')
    .executeTakeFirst();
  if (inserted !== undefined) return { kind: 'claimed', claim: { ...request, claimedAt } };

  const row = await db
    .selectFrom('idempotent_requests')
    .select(['request_hash', 'response_status', 'response_box'])
    .where('tenant_id', '=', request.tenantId)
    .where('environment_id', '=', request.environmentId)
    .where('key', '=', request.key)
    .executeTakeFirst();
  // Given back since: that request has ended, and the next try will find the key free.
  if (row === undefined) return { kind: 'in-progress' };
  if (!row.request_hash.equals(request.requestHash)) return { kind: 'reused' };
  if (row.response_status === null || row.response_box === null) return { kind: 'in-progress' };
  return { kind: 'answered', status: row.response_status, box: row.response_box };
}

export async function completeRequest(db: Database, claim: Claim, status: number, box: Buffer): Promise<void> {
  await db
    .updateTable('idempotent_requests')
    .set({ response_status: status, response_box: box })
    .where('tenant_id', '=', claim.tenantId)
    .where('environment_id', '=', claim.environmentId)
    .where('key', '=', claim.key)
    .where('created_at', '=', claim.claimedAt)
    .where('response_status', 'is', null)
    .execute();
}

/** Gives the key back: the next request with it is a first one. */
export async function releaseRequest(db: Database, claim: Claim): Promise<void> {
  await db
    .deleteFrom('idempotent_requests')
    .where('tenant_id', '=', claim.tenantId)
    .where('environment_id', '=', claim.environmentId)
    .where('key', '=', claim.key)
    .where('created_at', '=', claim.claimedAt)
    .where('response_status', 'is', null)
    .execute();
}

/** Kept answers of an environment behind a key, in the order of their keys. */
export async function listAnswers(
  db: Database,
  scope: Scope,
  afterKey: string,
  limit: number,
): Promise<{ key: string; response_box: Buffer }[]> {
  const found = await sql<{ key: string; response_box: Buffer }>`
    SELECT key, response_box FROM idempotent_requests
    WHERE tenant_id = ${scope.tenantId} AND environment_id = ${scope.environmentId} AND key > ${afterKey}
      AND response_box IS NOT NULL
    ORDER BY key LIMIT ${limit}`.execute(db);
  return found.rows;
}

export async function removeAnswers(db: Database, scope: Scope, keys: readonly string[]): Promise<void> {
  if (keys.length === 0) return;
  await db
    .deleteFrom('idempotent_requests')
    .where('tenant_id', '=', scope.tenantId)
    .where('environment_id', '=', scope.environmentId)
    .where('key', 'in', keys)
    .execute();
}

/** Removes what is kept under keys that hold a text; gives its number. */
export async function removeKeysHolding(db: Database, scope: Scope, text: string): Promise<number> {
  const result = await sql`
    DELETE FROM idempotent_requests
    WHERE tenant_id = ${scope.tenantId} AND environment_id = ${scope.environmentId}
      AND position(${text}::text IN key) > 0`.execute(db);
  return Number(result.numAffectedRows ?? 0);
}

const PURGE_BATCH_ROWS = 5_000;

/** Removes what is older than 24 hours, of all tenants; returns how many rows that were. */
export async function purgeIdempotentRequests(db: Database, nowMs: number): Promise<number> {
  const before = new Date(nowMs - KEPT_MS);
  let purged = 0;
  for (;;) {
    const result = await sql`DELETE FROM idempotent_requests WHERE ctid = ANY (ARRAY(
      SELECT ctid FROM idempotent_requests WHERE created_at <= ${before} LIMIT ${PURGE_BATCH_ROWS}))`.execute(db);
    const removed = Number(result.numAffectedRows ?? 0);
    purged += removed;
    if (removed < PURGE_BATCH_ROWS) return purged;
  }
}
