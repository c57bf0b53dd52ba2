import type { ColumnType, Generated } from 'kysely';
import type { Json, Timestamp } from './columns.ts';

/** Of `webhooks/`: webhooks with their secrets, totals and announcements. */
export interface WebhookTables {
  webhooks: WebhooksTable;
  webhook_secrets: WebhookSecretsTable;
  webhook_totals: WebhookTotalsTable;
  announcements: AnnouncementsTable;
  announcement_paces: AnnouncementPacesTable;
}

interface WebhooksTable {
  tenant_id: string;
  id: string;
  environment_id: string;
  name: string;
  url: string;
  description: string | null;
  owner: string | null;
  metadata: Json<unknown>;
  events: string[];
  status: 'active' | 'paused' | 'disabled';
  status_reason: string | null;
  http_method: string;
  headers_box: Buffer | null;
  preset: string | null;
  envelope: string | null;
  signature: Json<unknown> | null;
  retry_policy: Json<unknown> | null;
  timeout_seconds: number | null;
  max_concurrency: number | null;
  priority: number;
  verify_tls: boolean;
  created_at: Timestamp;
  updated_at: Timestamp;
  rate_limit_per_minute: number | null;
  ordering: Json<unknown> | null;
  circuit_breaker: Json<unknown> | null;
  failover_url: string | null;
  ip_whitelist: string[] | null;
  filters: Json<unknown> | null;
  filter_mode: string | null;
  compression: ColumnType<string, string | undefined, string>;
  batching: Json<unknown> | null;
  auth_box: Buffer | null;
  transformation: Json<unknown> | null;
}

interface WebhookSecretsTable {
  tenant_id: string;
  webhook_id: string;
  id: string;
  kind: 'symmetric' | 'asymmetric';
  secret_box: Buffer;
  created_at: Timestamp;
  expires_at: Timestamp | null;
}

interface WebhookTotalsTable {
  tenant_id: string;
  webhook_id: string;
  delivered: number;
  dead: number;
  attempts: number;
  response_time_ms_sum: number;
  last_triggered_at: Timestamp | null;
  last_success_at: Timestamp | null;
  failing_since: Timestamp | null;
  failing_days: number;
  last_failure_at: Timestamp | null;
  filtered: Generated<number>;
}

interface AnnouncementsTable {
  tenant_id: string;
  environment_id: string;
  id: Generated<number>;
  type: string;
  webhook_id: string;
  webhook_name: string;
  webhook_url: string;
  webhook_owner: string | null;
  occurred_at: Timestamp;
  details: Json<unknown>;
  due_at: ColumnType<Date | number, Date, Date>;
  omitted_before: number | null;
}

interface AnnouncementPacesTable {
  tenant_id: string;
  environment_id: string;
  subject_id: string;
  since: Timestamp;
  told: number;
  omitted: number;
}
