import { sql, type Transaction } from 'kysely';
import { removeEntriesBefore } from '../audit/queries.ts';
import type { Database } from '../db/pool.ts';
import type { Tables } from '../db/tables.ts';
import { notify } from './queries.ts';

/** Rows a statement removes at most: a removal must not hold locks for long nor meet the statement timeout. */
const BATCH_ROWS = 5_000;

/** Partitioned by id; their primary key is (tenant_id, environment_id, id). */
const RECORDS = ['events', 'deliveries', 'attempts'] as const;
const LEDGERS = ['dead_letters', 'event_keys', 'idempotent_requests'] as const;

export interface RemovalOptions {
  db: Database;
  tenantId: string;
  /** Called in the transaction in which that happens, at its end. */
  onClosing?: ((trx: Transaction<Tables>) => Promise<void>) | undefined;
  /** Called when the tenant can no longer be used, before its records go. */
  onClosed?: (() => void) | undefined;
  /** 5,000. */
  batchRows?: number;
}

/**
 * Removes a tenant with everything it has.
 *
 * The environments go first, and with them keys, webhooks and event types: nothing can be published from then on. The
 * records go in batches and the tenant's own row last, so that after a crash half way the tenant is still there, can do
 * nothing, and can be deleted again. What a delivery under way records after that goes with its partition.
 */
export async function removeTenant(options: RemovalOptions): Promise<void> {
  const { db, tenantId } = options;
  await db.transaction().execute(async (trx) => {
    await trx.deleteFrom('environments').where('tenant_id', '=', tenantId).execute();
    await notify(trx, { topic: 'tenants', tenantId });
    await options.onClosing?.(trx);
  });
  options.onClosed?.();
  await removeRecords({ ...options, environmentId: undefined });
  await removeInBatches(db, 'webhook_totals', tenantId, undefined, options.batchRows ?? BATCH_ROWS);
  // What is written meanwhile goes with the tenant's own row.
  await removeEntriesBefore(db, tenantId, Number.POSITIVE_INFINITY, options.batchRows);
  await db.transaction().execute(async (trx) => {
    await trx.deleteFrom('tenants').where('id', '=', tenantId).execute();
    await notify(trx, { topic: 'tenants', tenantId });
  });
}

/** Removes the events, deliveries, attempts and keys of an environment, or of all a tenant ever had. */
export async function removeRecords(options: {
  db: Database;
  tenantId: string;
  environmentId: string | undefined;
  batchRows?: number;
}): Promise<void> {
  const { db, tenantId, environmentId, batchRows = BATCH_ROWS } = options;
  for (const table of RECORDS) {
    for (;;) {
      const environment = environmentId ?? (await anyEnvironment(db, table, tenantId));
      if (environment === undefined) break;
      const removed = await removeOldest(db, table, tenantId, environment, batchRows);
      if (removed === 0 && environmentId !== undefined) break;
    }
  }
  for (const table of LEDGERS) await removeInBatches(db, table, tenantId, environmentId, batchRows);
}

/** Also finds the records of an environment whose own row is gone. */
async function anyEnvironment(db: Database, table: (typeof RECORDS)[number], tenantId: string) {
  const row = await db
    .selectFrom(table)
    .select('environment_id')
    .where('tenant_id', '=', tenantId)
    .limit(1)
    .executeTakeFirst();
  return row?.environment_id;
}

async function removeOldest(
  db: Database,
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
    AND ${id} <= (SELECT id FROM (${oldest}) AS batch ORDER BY id DESC LIMIT 1)`.execute(db);
  return Number(result.numAffectedRows ?? 0);
}

async function removeInBatches(
  db: Database,
  table: (typeof LEDGERS)[number] | 'webhook_totals',
  tenantId: string,
  environmentId: string | undefined,
  batchRows: number,
): Promise<void> {
  const name = sql.table(table);
  const inEnvironment = environmentId === undefined ? sql`` : sql`AND environment_id = ${environmentId}`;
  for (;;) {
    const result = await sql`DELETE FROM ${name} WHERE ctid = ANY (ARRAY(
      SELECT ctid FROM ${name} WHERE tenant_id = ${tenantId} ${inEnvironment} LIMIT ${batchRows}))`.execute(db);
    if (Number(result.numAffectedRows ?? 0) === 0) return;
  }
}
