import { formatId } from '../kernel/ids.ts';
import { readLimits } from './limits.ts';
import type { TenantRow } from './queries.ts';
import { readSettings } from './settings.ts';

/** A tenant as the API shows it. */
export function showTenant(row: TenantRow) {
  return {
    id: formatId('tenant', row.id),
    name: row.name,
    slug: row.slug,
    settings: readSettings(row.settings),
    limits: readLimits(row.limits),
    suspended_at: row.suspended_at?.toISOString() ?? null,
    suspended_reason: row.suspended_reason,
    created_at: row.created_at.toISOString(),
    updated_at: row.updated_at.toISOString(),
  };
}
