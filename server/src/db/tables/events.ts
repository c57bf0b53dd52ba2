import type { Timestamp } from './columns.ts';

/** Of `events/`: events, and the keys by which one is published once. */
export interface EventTables {
  events: EventsTable;
  event_keys: EventKeysTable;
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
