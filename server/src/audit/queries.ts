import { sql } from 'kysely';
import type { Database } from '../db/pool.ts';
import { firstIdAt, timeOfId } from '../kernel/ids.ts';
import type { EntryColumns } from './hash.ts';

/** A stored entry. */
export interface EntryRow extends EntryColumns {
  sequence: number;
  hash: Buffer;
}

/** A stored entry with the name of its environment; null: it has none, or that was deleted. */
export interface NamedEntryRow extends EntryRow {
  environment: string | null;
}

/** Whose entries: a chain's, or those of one of its tenant's environments. */
export interface AuditReach {
  tenantId: string;
  environmentId: string | undefined;
}

export interface AuditFilter {
  action?: string | undefined;
  /** An actor's id. */
  actor?: string | undefined;
  resourceType?: string | undefined;
  resourceId?: string | undefined;
  outcome?: 'success' | 'denied' | undefined;
  sinceMs?: number | undefined;
  untilMs?: number | undefined;
}

/** Every column of an entry, with JSON as the text that was stored. */
export const ENTRY_COLUMNS = [
  'audit_log.tenant_id',
  'audit_log.sequence',
  'audit_log.id',
  'audit_log.environment_id',
  'audit_log.action',
  'audit_log.outcome',
  'audit_log.actor_kind',
  'audit_log.actor_id',
  'audit_log.role',
  'audit_log.address',
  'audit_log.request_id',
  'audit_log.resource_type',
  'audit_log.resource_id',
  sql<string | null>`audit_log.before::text`.as('before'),
  sql<string | null>`audit_log.after::text`.as('after'),
  sql<string | null>`audit_log.details::text`.as('details'),
  'audit_log.hash',
] as const;

/** Newest first, one more than the page has room for. */
export function listEntries(
  db: Database,
  reach: AuditReach,
  filter: AuditFilter,
  page: { limit: number; beforeId: string | undefined },
): Promise<NamedEntryRow[]> {
  let query = entries(db, reach, filter);
  if (page.beforeId !== undefined) query = query.where('audit_log.id', '<', page.beforeId);
  return query
    .orderBy('audit_log.id', 'desc')
    .limit(page.limit + 1)
    .execute();
}

export function findEntry(db: Database, reach: AuditReach, id: string): Promise<NamedEntryRow | undefined> {
  return entries(db, reach, {}).where('audit_log.id', '=', id).executeTakeFirst();
}

/** Entries that a page of an export has. */
const EXPORT_PAGE = 500;

/** All entries up to one (`endOfChain`), in the order of the chain, a page at a time. */
export async function* exportEntries(
  db: Database,
  reach: AuditReach,
  filter: AuditFilter,
  end: number,
): AsyncGenerator<NamedEntryRow[]> {
  for (let after = 0; ; ) {
    const page = await entries(db, reach, filter)
      .where('audit_log.sequence', '>', after)
      .where('audit_log.sequence', '<=', end)
      .orderBy('audit_log.sequence')
      .limit(EXPORT_PAGE)
      .execute();
    if (page.length > 0) yield page;
    if (page.length < EXPORT_PAGE) return;
    after = page.at(-1)?.sequence ?? end;
  }
}

/**
 * Removes the oldest entries of a chain up to the first one that is from `beforeMs` or later, and gives their number. The
 * chain keeps the hash of the last that went, so that the rest can be checked as before. Each batch locks the chain's
 * end for its own time only.
 */
export async function removeEntriesBefore(
  db: Database,
  tenantId: string,
  beforeMs: number,
  batchRows = 1_000,
): Promise<number> {
  for (let removed = 0; ; ) {
    const count = await removeBatch(db, tenantId, beforeMs, batchRows);
    removed += count;
    if (count < batchRows) return removed;
  }
}

function removeBatch(db: Database, tenantId: string, beforeMs: number, batchRows: number): Promise<number> {
  return db.transaction().execute(async (trx) => {
    const oldest = await trx
      .selectFrom('audit_log')
      .select(['sequence', 'id', 'hash'])
      .where('tenant_id', '=', tenantId)
      .orderBy('sequence')
      .limit(batchRows)
      .execute();
    const kept = oldest.findIndex(({ id }) => timeOfId(id) >= beforeMs);
    const last = kept === -1 ? oldest.at(-1) : oldest[kept - 1];
    if (last === undefined) return 0;
    const moved = await trx
      .updateTable('audit_chains')
      .set({ removed_sequence: last.sequence, removed_hash: last.hash })
      .where('tenant_id', '=', tenantId)
      .where('removed_sequence', '<', last.sequence)
      .executeTakeFirst();
    // Another node was quicker, or the tenant is gone and its entries with it.
    if (moved.numUpdatedRows === 0n) return 0;
    const result = await trx
      .deleteFrom('audit_log')
      .where('tenant_id', '=', tenantId)
      .where('sequence', '<=', last.sequence)
      .executeTakeFirst();
    return Number(result.numDeletedRows);
  });
}

/** The sequence number of the newest entry; 0 where there is none. */
export async function endOfChain(db: Database, tenantId: string): Promise<number> {
  const row = await db
    .selectFrom('audit_chains')
    .select('sequence')
    .where('tenant_id', '=', tenantId)
    .executeTakeFirst();
  return row?.sequence ?? 0;
}

function entries(db: Database, { tenantId, environmentId }: AuditReach, filter: AuditFilter) {
  const { action, actor, resourceType, resourceId, outcome, sinceMs, untilMs } = filter;
  let query = db
    .selectFrom('audit_log')
    .leftJoin('environments', (join) =>
      join
        .onRef('environments.tenant_id', '=', 'audit_log.tenant_id')
        .onRef('environments.id', '=', 'audit_log.environment_id'),
    )
    .select(ENTRY_COLUMNS)
    .select('environments.name as environment')
    .where('audit_log.tenant_id', '=', tenantId);
  if (environmentId !== undefined) query = query.where('audit_log.environment_id', '=', environmentId);
  if (action !== undefined) query = query.where('audit_log.action', '=', action);
  if (actor !== undefined) query = query.where('audit_log.actor_id', '=', actor);
  if (resourceType !== undefined) query = query.where('audit_log.resource_type', '=', resourceType);
  if (resourceId !== undefined) query = query.where('audit_log.resource_id', '=', resourceId);
  if (outcome !== undefined) query = query.where('audit_log.outcome', '=', outcome);
  if (sinceMs !== undefined) query = query.where('audit_log.id', '>=', firstIdAt(sinceMs));
  if (untilMs !== undefined) query = query.where('audit_log.id', '<', firstIdAt(untilMs));
  return query;
}
