import type { ColumnType, Generated } from 'kysely';

/** The schema as the queries see it (db/migrations). `bigint` columns arrive as numbers, see db/pool.ts. */
export interface Tables {
  tenants: TenantsTable;
  environments: EnvironmentsTable;
  api_keys: ApiKeysTable;
  api_key_old_secrets: ApiKeyOldSecretsTable;
  jwt_issuers: JwtIssuersTable;
  event_types: EventTypesTable;
  webhooks: WebhooksTable;
  webhook_secrets: WebhookSecretsTable;
  templates: TemplatesTable;
  template_versions: TemplateVersionsTable;
  webhook_totals: WebhookTotalsTable;
  events: EventsTable;
  event_keys: EventKeysTable;
  deliveries: DeliveriesTable;
  attempts: AttemptsTable;
  dead_letters: DeadLettersTable;
  lanes: LanesTable;
  circuits: CircuitsTable;
  parked_keys: ParkedKeysTable;
  nodes: NodesTable;
  idempotent_requests: IdempotentRequestsTable;
  replay_jobs: ReplayJobsTable;
  portal_revocations: PortalRevocationsTable;
  rate_limits: RateLimitsTable;
  daily_usage: DailyUsageTable;
  encryption_keys: EncryptionKeysTable;
  key_holders: KeyHoldersTable;
  retention_cursors: RetentionCursorsTable;
  removals: RemovalsTable;
  erasure_jobs: ErasureJobsTable;
  audit_chains: AuditChainsTable;
  audit_log: AuditLogTable;
  alert_rules: AlertRulesTable;
  alert_states: AlertStatesTable;
  alert_incidents: AlertIncidentsTable;
  stream_entries: StreamEntriesTable;
  stream_listeners: StreamListenersTable;
  announcements: AnnouncementsTable;
  announcement_paces: AnnouncementPacesTable;
  rollups_minute: RollupsTable;
  rollups_hour: RollupsTable;
  rollups_day: RollupsTable;
}

/** Read as a Date, written as a Date or an RFC 3339 text. */
type Timestamp = ColumnType<Date, Date | string, Date | string>;
/** Read as the parsed value, written as JSON text. */
type Json<T> = ColumnType<T, string, string>;

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

interface ApiKeysTable {
  tenant_id: string;
  id: string;
  environment_id: string;
  name: string;
  role: string;
  key_hash: Buffer;
  key_hint: string;
  expires_at: Timestamp | null;
  last_used_at: Timestamp | null;
  revoked_at: Timestamp | null;
  requests_per_second: number | null;
  created_at: Timestamp;
  scopes: string[] | null;
  rotated_at: Timestamp | null;
}

interface ApiKeyOldSecretsTable {
  tenant_id: string;
  key_id: string;
  key_hash: Buffer;
  expires_at: Timestamp;
}

interface JwtIssuersTable {
  id: string;
  tenant_id: string | null;
  name: string;
  issuer: string;
  audience: string;
  secret_box: Buffer | null;
  jwks_url: string | null;
  clock_skew_seconds: number;
  max_lifetime_seconds: number;
  claims: Json<unknown>;
  roles: Json<unknown> | null;
  default_role: string | null;
  default_environment: string;
  created_at: Timestamp;
  updated_at: Timestamp;
}

interface RateLimitsTable {
  tenant_id: string;
  subject: string;
  arrival_at: Timestamp;
}

interface DailyUsageTable {
  tenant_id: string;
  /** `YYYY-MM-DD`. */
  day: ColumnType<Date, string, string>;
  /** A bigint, which the driver gives as text. */
  used: ColumnType<string, number, number>;
}

interface EventTypesTable {
  tenant_id: string;
  environment_id: string;
  name: string;
  group_name: string;
  description: string;
  schema: Json<unknown> | null;
  sample: Json<unknown> | null;
  enforce_schema: boolean;
  deprecated: boolean;
  preset: string | null;
  created_at: Timestamp;
  updated_at: Timestamp;
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

interface TemplatesTable {
  tenant_id: string;
  id: string;
  environment_id: string;
  name: string;
  /** null: for all event types. */
  event_type: string | null;
  description: string | null;
  version: number;
  last_version: number;
  created_at: Timestamp;
  updated_at: Timestamp;
}

interface TemplateVersionsTable {
  tenant_id: string;
  template_id: string;
  version: number;
  content: Json<unknown>;
  created_at: Timestamp;
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

interface EventsTable {
  tenant_id: string;
  environment_id: string;
  id: string;
  external_id: string | null;
  event_type: string;
  occurred_at: Timestamp;
  data: Buffer | null;
  metadata: Buffer | null;
  ordering_key: string | null;
  priority: number;
  deliver_at: Timestamp | null;
  delivery_count: number;
  is_test: boolean;
}

interface EventKeysTable {
  tenant_id: string;
  environment_id: string;
  kind: 'event_id' | 'idempotency_key';
  key: string;
  event_id: string;
  body_hash: Buffer;
  created_at: Timestamp;
}

interface DeliveriesTable {
  tenant_id: string;
  environment_id: string;
  id: string;
  event_id: string;
  webhook_id: string;
  event_type: string;
  status: 'pending' | 'delivered' | 'failed' | 'dead' | 'cancelled' | 'held' | 'discarded';
  status_reason: string | null;
  trigger: string;
  priority: number;
  ordering_key: string | null;
  attempt_count: number;
  /** 'infinity' (held rows) arrives as the number Infinity. */
  due_at: ColumnType<Date | number | null, Date | string | null, Date | string | null>;
  lease_node: number | null;
  response_status: number | null;
  response_time_ms: number | null;
  error_class: string | null;
  error_message: string | null;
  completed_at: Timestamp | null;
  order_number: number | null;
}

interface AttemptsTable {
  tenant_id: string;
  environment_id: string;
  id: string;
  delivery_id: string;
  event_id: string;
  webhook_id: string;
  event_type: string;
  number: number;
  trigger: string;
  url: string;
  http_method: string;
  request_headers: string;
  envelope: string;
  response_status: number | null;
  response_headers: string | null;
  response_body: Buffer | null;
  response_truncated: boolean;
  error_class: string | null;
  error_message: string | null;
  duration_ms: number;
  request_body: Buffer | null;
  template_id: string | null;
  template_version: number | null;
}

interface DeadLettersTable {
  tenant_id: string;
  environment_id: string;
  delivery_id: string;
  event_id: string;
  webhook_id: string;
  event_type: string;
  reason: string;
  attempt_count: number;
  dead_at: Timestamp;
}

interface LanesTable {
  tenant_id: string;
  webhook_id: string;
  node_id: number | null;
  paced_until: Timestamp;
}

interface CircuitsTable {
  tenant_id: string;
  environment_id: string;
  webhook_id: string;
  state: 'open' | 'half_open';
  opened_at: Timestamp;
  reopens_at: Timestamp;
  reason: string;
}

interface ParkedKeysTable {
  tenant_id: string;
  webhook_id: string;
  ordering_key: string;
  delivery_id: string;
  parked_at: Timestamp;
}

interface NodesTable {
  id: Generated<number>;
  started_at: Timestamp;
  heartbeat_at: Timestamp;
  oldest_leased_id: string;
}

interface IdempotentRequestsTable {
  tenant_id: string;
  environment_id: string;
  key: string;
  request_hash: Buffer;
  response_status: number | null;
  response_box: Buffer | null;
  created_at: Timestamp;
}

interface PortalRevocationsTable {
  tenant_id: string;
  environment_id: string;
  owner: string;
  number: number;
  revoked_at: Timestamp;
}

interface ReplayJobsTable {
  tenant_id: string;
  environment_id: string;
  id: string;
  owner: string | null;
  trigger: 'replays' | 'recover' | 'dead_letters';
  webhook_id: string | null;
  event_type: string | null;
  statuses: string[] | null;
  since_at: Timestamp | null;
  until_at: Timestamp;
  status: 'queued' | 'running' | 'completed' | 'cancelled' | 'failed';
  estimated: number;
  estimate_is_exact: boolean;
  replayed: Generated<number>;
  skipped: Generated<number>;
  cursor_id: string;
  failures: Generated<number>;
  next_chunk_at: Timestamp;
  served_at: Timestamp | null;
  created_at: Timestamp;
  started_at: Timestamp | null;
  completed_at: Timestamp | null;
}

interface EncryptionKeysTable {
  id: number;
  purpose: 'sealing' | 'hashing' | 'portal';
  state: 'next' | 'current' | 'old';
  wrapped: Buffer;
  master_key: string;
  created_at: Generated<Date>;
}

interface KeyHoldersTable {
  id: string;
  pid: number;
  host: string;
  seen_at: Timestamp;
  newest_key: number | null;
  current_key: number | null;
  master_keys: string[];
}

interface RetentionCursorsTable {
  tenant_id: string;
  environment_id: string;
  day: string;
  cursor_id: string;
  spared: Generated<number>;
  completed_at: Timestamp | null;
}

interface RemovalsTable {
  tenant_id: string;
  target_id: string;
  removed: Generated<number>;
  failures: Generated<number>;
  next_step_at: Timestamp;
  created_at: Timestamp;
}

interface ErasureJobsTable {
  tenant_id: string;
  environment_id: string;
  id: string;
  path: string[];
  value_box: Buffer | null;
  value_hash: Buffer;
  since_at: Timestamp | null;
  until_at: Timestamp;
  status: 'queued' | 'running' | 'completed' | 'cancelled' | 'failed';
  stage: 'events' | 'settle' | 'vacuum';
  cursor_id: string;
  looked_at: Generated<number>;
  erased_events: Generated<number>;
  erased_attempts: Generated<number>;
  discarded_deliveries: Generated<number>;
  removed_dead_letters: Generated<number>;
  erased_samples: Generated<number>;
  removed_answers: Generated<number>;
  in_hand: Generated<string[]>;
  touched: Generated<string[]>;
  failures: Generated<number>;
  next_step_at: Timestamp;
  served_at: Timestamp | null;
  created_at: Timestamp;
  started_at: Timestamp | null;
  completed_at: Timestamp | null;
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

interface AlertRulesTable {
  tenant_id: string;
  environment_id: string;
  id: string;
  name: string;
  metric: string;
  threshold: number;
  resolve_threshold: number | null;
  for_seconds: number | null;
  minimum_samples: number | null;
  period_seconds: number;
  action: string;
  target_webhook_id: string | null;
  scope: 'environment' | 'webhook';
  webhook_id: string | null;
  is_active: boolean;
  evaluated_at: Timestamp | null;
  next_evaluation_at: Timestamp;
  created_at: Timestamp;
  updated_at: Timestamp;
}

interface AlertStatesTable {
  tenant_id: string;
  environment_id: string;
  rule_id: string;
  subject_id: string;
  breaching_since: Timestamp;
  clear_since: Timestamp | null;
  incident_id: string | null;
}

interface AlertIncidentsTable {
  tenant_id: string;
  environment_id: string;
  id: string;
  rule_id: string;
  rule_name: string;
  metric: string;
  threshold: number;
  period_seconds: number;
  action: string;
  target_webhook_id: string | null;
  webhook_id: string | null;
  status: 'firing' | 'acknowledged' | 'resolved';
  value: number;
  worst_value: number;
  last_value: number;
  fired_at: Timestamp;
  acknowledged_at: Timestamp | null;
  acknowledged_by: string | null;
  resolved_at: Timestamp | null;
  resolution: string | null;
  capacity_until: Timestamp | null;
  fired_announced: Generated<boolean>;
  resolved_announced: Generated<boolean>;
  announce_at: Timestamp | null;
}

interface StreamEntriesTable {
  tenant_id: string;
  environment_id: string;
  id: string;
  type: string;
  webhook_id: string | null;
  for_owner: boolean;
  data: Json<unknown>;
}

interface StreamListenersTable {
  tenant_id: string;
  environment_id: string;
  until: Timestamp;
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

interface RollupsTable {
  tenant_id: string;
  environment_id: string;
  webhook_id: string;
  event_type: string;
  at: Timestamp;
  keys: number[];
  counts: number[];
}
