import { sql, type Transaction } from 'kysely';
import type { Auditor } from '../audit/auditor.ts';
import type { AuditedAction, AuditLog } from '../audit/log.ts';
import type { Change } from '../db/notify.ts';
import type { Database } from '../db/pool.ts';
import type { Tables } from '../db/tables.ts';
import type { Scope } from '../http/caller.ts';
import { AppError } from '../kernel/errors.ts';
import { lockEnvironment } from '../tenants/environment-preset.ts';
import { notify } from '../tenants/queries.ts';

/** Event types an environment may have: every node holds them in memory. */
export const EVENT_TYPES_MAX = 1_000;

/** Bytes of all schemas and samples of an environment together. */
const CATALOG_BYTES_MAX = 1_048_576;

/**
 * Runs a change of an environment's event types, alone among such changes. Other nodes hear of it with the commit, this
 * one through `onChange` right after. What `change` says that it did stands in the audit log.
 *
 * @throws AppError 404 when the environment is gone, and whatever `change` throws
 */
export async function changeCatalog<Result>(
  deps: { db: Database; audit: AuditLog; onChange: (change: Change) => void },
  by: Auditor & Scope,
  change: (trx: Transaction<Tables>, preset: string) => Promise<{ result: Result; done: AuditedAction }>,
  topics: readonly Change['topic'][] = ['event_types'],
): Promise<Result> {
  const { tenantId, environmentId } = by;
  const notices = topics.map((topic): Change => ({ topic, tenantId, environmentId }));
  const result = await deps.db.transaction().execute(async (trx) => {
    const { result, done } = await change(trx, await lockEnvironment(trx, by));
    for (const notice of notices) await notify(trx, notice);
    await deps.audit.record(trx, by, done);
    return result;
  });
  for (const notice of notices) deps.onChange(notice);
  return result;
}

/**
 * To be called by a change that added something; what it throws undoes the change.
 *
 * @throws AppError 409 `catalog_full`
 */
export async function refuseTooMuch(trx: Transaction<Tables>, scope: Scope): Promise<void> {
  const { count, bytes } = await trx
    .selectFrom('event_types')
    .select([
      sql<number>`count(*)`.as('count'),
      sql<number>`coalesce(sum(coalesce(octet_length(schema::text), 0) + coalesce(octet_length(sample::text), 0)), 0)`.as(
        'bytes',
      ),
    ])
    .where('tenant_id', '=', scope.tenantId)
    .where('environment_id', '=', scope.environmentId)
    .executeTakeFirstOrThrow();
  if (count <= EVENT_TYPES_MAX && bytes <= CATALOG_BYTES_MAX) return;
  throw new AppError({
    code: 'catalog_full',
    message: `An environment has at most ${EVENT_TYPES_MAX} event types, and ${CATALOG_BYTES_MAX} bytes of schemas and samples.`,
    details: { event_types_max: EVENT_TYPES_MAX, bytes_max: CATALOG_BYTES_MAX },
  });
}
