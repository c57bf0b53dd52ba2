import type { Transaction } from 'kysely';
import type { Database } from '../db/pool.ts';
import type { Tables } from '../db/tables.ts';
import type { Scope } from '../http/caller.ts';
import { notFound } from '../kernel/errors.ts';

/** The preset that webhooks of the environment have by default. @throws AppError 404 when the environment is gone. */
export async function environmentPreset(db: Database, scope: Scope): Promise<string> {
  const row = await selectEnvironment(db, scope).executeTakeFirst();
  if (row === undefined) throw notFound('environment');
  return row.preset;
}

/**
 * The same, and the environment is locked: what is limited in it is made one after the other, so that the limit holds
 * exactly. Rows that refer to it may be written meanwhile.
 */
export async function lockEnvironment(trx: Transaction<Tables>, scope: Scope): Promise<string> {
  const row = await selectEnvironment(trx, scope).forNoKeyUpdate().executeTakeFirst();
  if (row === undefined) throw notFound('environment');
  return row.preset;
}

function selectEnvironment(db: Database, scope: Scope) {
  return db
    .selectFrom('environments')
    .select('preset')
    .where('tenant_id', '=', scope.tenantId)
    .where('id', '=', scope.environmentId);
}
