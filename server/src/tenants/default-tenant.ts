import { bySystem } from '../audit/auditor.ts';
import { createAuditLog } from '../audit/log.ts';
import type { Database } from '../db/pool.ts';
import type { Clock } from '../kernel/clock.ts';
import { formatId, type IdSource } from '../kernel/ids.ts';
import { findTenant, insertTenant } from './queries.ts';
import { DEFAULT_TENANT_SLUG, type TenantSettings } from './types.ts';

/**
 * Makes the tenant `default` with its environments if it is not there. Safe to run on several nodes at once, and it
 * leaves a tenant that is there as it is: `settings` are those of a new one.
 */
export async function ensureDefaultTenant(options: {
  db: Database;
  clock: Clock;
  newId: IdSource;
  settings: Partial<TenantSettings>;
}): Promise<{ tenantId: string; created: boolean }> {
  const { db, clock, newId, settings } = options;
  const found = await findTenant(db, { slug: DEFAULT_TENANT_SLUG });
  if (found !== undefined) return { tenantId: found.id, created: false };
  const tenant = { slug: DEFAULT_TENANT_SLUG, name: 'Default', settings };
  const created = await db.transaction().execute(async (trx) => {
    const row = await insertTenant(trx, tenant, newId, new Date(clock.now()));
    if (row === undefined) return undefined;
    await createAuditLog({ newId }).record(trx, bySystem({ tenantId: row.id, environmentId: null }), {
      action: 'tenant.created',
      resourceType: 'tenant',
      resourceId: formatId('tenant', row.id),
      ofPlatform: true,
      after: { name: row.name, slug: row.slug, settings },
    });
    return row;
  });
  if (created !== undefined) return { tenantId: created.id, created: true };
  const other = await findTenant(db, { slug: DEFAULT_TENANT_SLUG });
  if (other === undefined) throw new Error('The tenant "default" was made and removed by another node meanwhile.');
  return { tenantId: other.id, created: false };
}
