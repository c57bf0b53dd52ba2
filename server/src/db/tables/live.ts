import type { Json, Timestamp } from './columns.ts';

/** Of `live/`: what the stream shows beside attempts, and who listens. */
export interface LiveTables {
  stream_entries: StreamEntriesTable;
  stream_listeners: StreamListenersTable;
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
