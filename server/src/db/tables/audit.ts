import type { Json } from './columns.ts';

/** Of `audit/`: entries, and where the chain of each tenant ends. */
export interface AuditTables {
  audit_chains: AuditChainsTable;
  audit_log: AuditLogTable;
}

interface AuditChainsTable {
  tenant_id: string;
  sequence: number;
  hash: Buffer;
  removed_sequence: number;
  removed_hash: Buffer;
}

interface AuditLogTable {
  tenant_id: string;
  sequence: number;
  id: string;
  environment_id: string | null;
  action: string;
  outcome: 'success' | 'denied';
  actor_kind: string | null;
  actor_id: string | null;
  role: string | null;
  address: string | null;
  request_id: string | null;
  resource_type: string | null;
  resource_id: string | null;
  before: Json<unknown> | null;
  after: Json<unknown> | null;
  details: Json<unknown> | null;
  hash: Buffer;
}
