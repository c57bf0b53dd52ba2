import type { ColumnType, Generated } from 'kysely';
import type { Json, Timestamp } from './columns.ts';

/** Of `tenants/`: tenants and their environments, and what is still to be removed of deleted ones. */
export interface TenantTables {
  tenants: TenantsTable;
  environments: EnvironmentsTable;
  removals: RemovalsTable;
}

interface TenantsTable {
  id: string;
  slug: string;
  name: string;
  settings: Json<unknown>;
  /** What was set for this tenant. */
  limits: ColumnType<unknown, string | undefined, string>;
  suspended_at: Timestamp | null;
  suspended_reason: string | null;
  created_at: Timestamp;
  updated_at: Timestamp;
}

interface EnvironmentsTable {
  tenant_id: string;
  id: string;
  name: string;
  preset: string;
  created_at: Timestamp;
  retention: Json<unknown> | null;
}

interface RemovalsTable {
  tenant_id: string;
  target_id: string;
  removed: Generated<number>;
  failures: Generated<number>;
  next_step_at: Timestamp;
  created_at: Timestamp;
}
