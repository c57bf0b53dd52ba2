import { Type } from 'typebox';
import type { AuditLog } from '../audit/log.ts';
import type { Change } from '../db/notify.ts';
import type { Database } from '../db/pool.ts';
import type { Clock } from '../kernel/clock.ts';
import { notFound } from '../kernel/errors.ts';
import { formatId, type IdSource } from '../kernel/ids.ts';
import { readTenantRef, type TenantRef, type TenantRow } from './queries.ts';

export interface TenantRouteDeps {
  db: Database;
  clock: Clock;
  newId: IdSource;
  audit: AuditLog;
  /** Called after each committed change and before its answer, so that this node's next request sees it. */
  onChange?: (change: Change) => void;
}

/** The path of everything of one tenant. */
export const TenantPath = Type.Object({
  id: Type.String({ description: 'The id (`tnt_…`) or the slug of the tenant.' }),
});

/** A tenant as what the audit log says something of. */
export function auditedTenant(row: TenantRow) {
  return { resourceType: 'tenant', resourceId: formatId('tenant', row.id), environmentId: null };
}

/** The answer 204. */
export const NoContent = Type.Unsafe<undefined>({ type: 'null', description: 'Done.' });

/** @throws AppError 404 for a text that can name no tenant. */
export function tenantRef(text: string): TenantRef {
  const ref = readTenantRef(text);
  if (ref === undefined) throw notFound('tenant');
  return ref;
}

/** @throws AppError 404 when there is none. */
export function foundTenant(row: TenantRow | undefined): TenantRow {
  if (row === undefined) throw notFound('tenant');
  return row;
}
