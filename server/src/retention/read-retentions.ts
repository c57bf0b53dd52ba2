import type pg from 'pg';
import { PLATFORM_CHAIN } from '../audit/hash.ts';
import { effectiveRetention, RETENTION_DEFAULTS } from '../tenants/retention.ts';
import { auditKeptSince, type Retentions } from './plan-day.ts';

/** How long things are kept, as it is set at the moment. */
interface ReadRetentions {
  /** By environment. */
  retentions: Retentions;
  /** By tenant, from when on its audit entries are kept. */
  auditedSince: ReadonlyMap<string, number>;
}

/** Of all tenants. */
export async function readRetentions(client: pg.ClientBase, nowMs: number): Promise<ReadRetentions> {
  const found = await client.query<{
    tenant_id: string;
    environment_id: string;
    of_tenant: unknown;
    of_environment: unknown;
  }>(
    `SELECT t.id AS tenant_id, e.id AS environment_id, t.settings->'retention' AS of_tenant, e.retention AS of_environment
     FROM tenants t JOIN environments e ON e.tenant_id = t.id`,
  );
  const retentions = new Map(
    found.rows.map((row) => [row.environment_id, effectiveRetention(row.of_tenant, row.of_environment)]),
  );
  // The audit log is the tenant's as a whole: the longest of its environments decides. The platform has no settings.
  const auditedSince = new Map([[PLATFORM_CHAIN, auditKeptSince(RETENTION_DEFAULTS, nowMs)]]);
  for (const { tenant_id, environment_id } of found.rows) {
    const retention = retentions.get(environment_id);
    if (retention === undefined) continue;
    const since = auditKeptSince(retention, nowMs);
    auditedSince.set(tenant_id, Math.min(since, auditedSince.get(tenant_id) ?? since));
  }
  return { retentions, auditedSince };
}
