import { type Selectable, sql, type Transaction } from 'kysely';
import { type Database, errorCode, isDatabaseGone } from '../db/pool.ts';
import { startSteps } from '../db/step-worker.ts';
import type { Tables } from '../db/tables.ts';
import type { Clock } from '../kernel/clock.ts';
import { formatId } from '../kernel/ids.ts';
import type { Logger } from '../kernel/logger.ts';
import { notify } from './queries.ts';

/** Rows a step removes at most: it must not hold locks for long nor meet the statement timeout. */
const BATCH_ROWS = 5_000;

/**
 * What a node was just publishing or sending for the tenant may be stored after everything was removed. It is looked for
 * again this long after the deletion: a request takes 60 s at most, and a statement 20 s.
 */
const SETTLE_MS = 120_000;

/** Partitioned by id; their primary keys begin with tenant and environment. */
const RECORDS = ['events', 'deliveries', 'attempts'] as const;
const LEDGERS = [
  'dead_letters',
  'announcements',
  'announcement_paces',
  'event_keys',
  'idempotent_requests',
  'rollups_minute',
  'rollups_hour',
  'rollups_day',
] as const;
/**
 * They go with the tenant as a whole. Totals name no environment, and go in the transaction that deletes it. The audit log is
 * the tenant's, and keeps what was done in an environment that is gone.
 */
const TENANT_LEDGERS = ['webhook_totals', 'audit_log'] as const;

/**
 * The tables whose rows a removal takes away a batch at a time. Every other table that names a tenant must go with the
 * row of its tenant (`ON DELETE CASCADE`; `audit_chains` by a trigger); a test holds the schema against this.
 */
export const REMOVED_IN_BATCHES: readonly string[] = [...RECORDS, ...LEDGERS, ...TENANT_LEDGERS];

export type RemovalRow = Selectable<Tables['removals']>;

/**
 * Deletes the tenant's own row, and with it its environments, keys, webhooks and event types: from the commit on, and
 * from the notice on for what other nodes have in memory, nothing can be done in its name. Its records are removed by
 * the steps that follow, on whichever node.
 */
export async function closeTenant(trx: Transaction<Tables>, tenantId: string, now: Date): Promise<void> {
  await trx.deleteFrom('tenants').where('id', '=', tenantId).execute();
  // Those of its environments are a part of it.
  await trx.deleteFrom('removals').where('tenant_id', '=', tenantId).execute();
  await insertRemoval(trx, tenantId, tenantId, now);
  await notify(trx, { topic: 'tenants', tenantId });
}

/** The same for one environment. */
export async function closeEnvironment(
  trx: Transaction<Tables>,
  scope: { tenantId: string; environmentId: string },
  now: Date,
): Promise<void> {
  const { tenantId, environmentId } = scope;
  // Totals name a webhook and no environment, so they must go while the webhooks still say where they belong.
  await sql`DELETE FROM webhook_totals WHERE tenant_id = ${tenantId} AND webhook_id IN (
    SELECT id FROM webhooks WHERE tenant_id = ${tenantId} AND environment_id = ${environmentId})`.execute(trx);
  await trx.deleteFrom('environments').where('tenant_id', '=', tenantId).where('id', '=', environmentId).execute();
  await insertRemoval(trx, tenantId, environmentId, now);
  await notify(trx, { topic: 'tenants', tenantId, environmentId });
}

async function insertRemoval(trx: Transaction<Tables>, tenantId: string, targetId: string, now: Date): Promise<void> {
  await trx
    .insertInto('removals')
    .values({ tenant_id: tenantId, target_id: targetId, next_step_at: now, created_at: now })
    .execute();
}

/** What is still being removed, the oldest first. For the operator. */
export function listRemovals(db: Database, limit: number): Promise<RemovalRow[]> {
  return db.selectFrom('removals').selectAll().orderBy('created_at').orderBy('target_id').limit(limit).execute();
}

export interface RemovalOptions {
  db: Database;
  clock: Clock;
  logger: Logger;
  /** Rows a step removes at most (5,000). */
  batchRows?: number;
}

/** Removes the records of deleted tenants and environments. Every node does, a batch at a time. */
export function startRemovalWorker(options: RemovalOptions): ReturnType<typeof startSteps> {
  const { clock, logger } = options;
  return startSteps({
    what: 'removals',
    step: () => removeSome(options),
    // Half of one connection's time at most.
    pauseMs: (tookMs) => Math.max(10, tookMs),
    idleMs: 1_000,
    clock,
    logger,
  });
}

/**
 * Removes a batch of one deleted tenant or environment. Gives false when there is nothing to do.
 *
 * The rows and their count go in one transaction that holds the removal's row: a process that is killed has done all of a
 * batch or nothing, two nodes never work on the same one, and the row itself goes last.
 */
export async function removeSome(options: RemovalOptions): Promise<boolean> {
  const { db, clock, logger, batchRows = BATCH_ROWS } = options;
  const taken: { removal?: RemovalRow } = {};
  try {
    return await db.transaction().execute(async (trx) => {
      const now = new Date(clock.now());
      const removal = await takeRemoval(trx, now);
      if (removal === undefined) return false;
      taken.removal = removal;
      const removed = await removeBatch(trx, removal, batchRows);
      const settledAt = new Date(removal.created_at.getTime() + SETTLE_MS);
      if (removed === 0 && settledAt <= now) await forget(trx, removal);
      else await goOn(trx, removal, removed, removed === 0 ? settledAt : now);
      return true;
    });
  } catch (error) {
    if (taken.removal === undefined || isDatabaseGone(error)) throw error;
    const { tenant_id, target_id, failures } = taken.removal;
    logger.error({ code: errorCode(error), tenant_id: formatId('tenant', tenant_id) }, 'a batch of a removal failed');
    await db
      .updateTable('removals')
      .set({ failures: Math.min(failures + 1, 10), next_step_at: new Date(clock.now() + 1_000 * 2 ** failures) })
      .where('tenant_id', '=', tenant_id)
      .where('target_id', '=', target_id)
      .execute();
    return true;
  }
}

/** Those that failed let the others go first. */
async function takeRemoval(trx: Transaction<Tables>, now: Date): Promise<RemovalRow | undefined> {
  return trx
    .selectFrom('removals')
    .selectAll()
    .where('next_step_at', '<=', now)
    .orderBy('next_step_at')
    .limit(1)
    .forUpdate()
    .skipLocked()
    .executeTakeFirst();
}

async function goOn(trx: Transaction<Tables>, removal: RemovalRow, removed: number, nextStepAt: Date): Promise<void> {
  await trx
    .updateTable('removals')
    .set(({ eb }) => ({ removed: eb('removed', '+', removed), failures: 0, next_step_at: nextStepAt }))
    .where('tenant_id', '=', removal.tenant_id)
    .where('target_id', '=', removal.target_id)
    .execute();
}

async function forget(trx: Transaction<Tables>, removal: RemovalRow): Promise<void> {
  await trx
    .deleteFrom('removals')
    .where('tenant_id', '=', removal.tenant_id)
    .where('target_id', '=', removal.target_id)
    .execute();
}

/** From the first table that has rows; gives their number, 0 when there are none in any. */
async function removeBatch(trx: Transaction<Tables>, removal: RemovalRow, batchRows: number): Promise<number> {
  const { tenant_id: tenantId, target_id: targetId } = removal;
  const environmentId = targetId === tenantId ? undefined : targetId;
  for (const table of RECORDS) {
    const environment = environmentId ?? (await anyEnvironment(trx, table, tenantId));
    const removed = environment === undefined ? 0 : await removeOldest(trx, table, tenantId, environment, batchRows);
    if (removed > 0) return removed;
  }
  const ledgers = environmentId === undefined ? [...LEDGERS, ...TENANT_LEDGERS] : LEDGERS;
  for (const table of ledgers) {
    const removed = await removeAny(trx, table, tenantId, environmentId, batchRows);
    if (removed > 0) return removed;
  }
  return environmentId === undefined ? 0 : removeTotalsWithoutWebhook(trx, tenantId, batchRows);
}

/** What was being counted for an environment's webhooks while it was deleted: totals do not say which environment. */
async function removeTotalsWithoutWebhook(
  trx: Transaction<Tables>,
  tenantId: string,
  batchRows: number,
): Promise<number> {
  const result = await sql`DELETE FROM webhook_totals WHERE tenant_id = ${tenantId} AND webhook_id IN (
    SELECT t.webhook_id FROM webhook_totals t WHERE t.tenant_id = ${tenantId} AND NOT EXISTS (
      SELECT FROM webhooks w WHERE w.tenant_id = t.tenant_id AND w.id = t.webhook_id) LIMIT ${batchRows})`.execute(trx);
  return Number(result.numAffectedRows ?? 0);
}

/** Also finds the records of an environment that went before its tenant. */
async function anyEnvironment(trx: Transaction<Tables>, table: (typeof RECORDS)[number], tenantId: string) {
  const row = await trx
    .selectFrom(table)
    .select('environment_id')
    .where('tenant_id', '=', tenantId)
    .limit(1)
    .executeTakeFirst();
  return row?.environment_id;
}

async function removeOldest(
  trx: Transaction<Tables>,
  table: (typeof RECORDS)[number],
  tenantId: string,
  environmentId: string,
  batchRows: number,
): Promise<number> {
  // A range of the primary key: an index scan whatever the statistics say, and partitions beyond it are left alone.
  const name = sql.table(table);
  const id = sql.ref(table === 'attempts' ? 'delivery_id' : 'id');
  const oldest = sql`SELECT ${id} AS id FROM ${name} WHERE tenant_id = ${tenantId} AND environment_id = ${environmentId}
    ORDER BY ${id} LIMIT ${batchRows}`;
  const result = await sql`DELETE FROM ${name} WHERE tenant_id = ${tenantId} AND environment_id = ${environmentId}
    AND ${id} <= (SELECT id FROM (${oldest}) AS batch ORDER BY id DESC LIMIT 1)`.execute(trx);
  return Number(result.numAffectedRows ?? 0);
}

async function removeAny(
  trx: Transaction<Tables>,
  table: (typeof LEDGERS)[number] | (typeof TENANT_LEDGERS)[number],
  tenantId: string,
  environmentId: string | undefined,
  batchRows: number,
): Promise<number> {
  const name = sql.table(table);
  const inEnvironment = environmentId === undefined ? sql`` : sql`AND environment_id = ${environmentId}`;
  const result = await sql`DELETE FROM ${name} WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM ${name} WHERE tenant_id = ${tenantId} ${inEnvironment} LIMIT ${batchRows}))`.execute(trx);
  return Number(result.numAffectedRows ?? 0);
}
