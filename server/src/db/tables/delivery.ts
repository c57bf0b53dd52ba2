import type { ColumnType, Generated } from 'kysely';
import type { Timestamp } from './columns.ts';

/** Of `delivery/`: deliveries with their attempts, replays of them, and what nodes agree on to send them. */
export interface DeliveryTables {
  deliveries: DeliveriesTable;
  attempts: AttemptsTable;
  dead_letters: DeadLettersTable;
  replay_jobs: ReplayJobsTable;
  nodes: NodesTable;
  lanes: LanesTable;
  circuits: CircuitsTable;
  parked_keys: ParkedKeysTable;
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
  response_status: number | null;
  dead_at: Timestamp;
}

interface ReplayJobsTable {
  tenant_id: string;
  environment_id: string;
  id: string;
  owner: string | null;
  trigger: 'replays' | 'recover' | 'dead_letters';
  webhook_id: string | null;
  event_id: string | null;
  event_type: string | null;
  response_status: number | null;
  /** Part of the event type. */
  q: string | null;
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

interface NodesTable {
  id: Generated<number>;
  started_at: Timestamp;
  heartbeat_at: Timestamp;
  oldest_leased_id: string;
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
