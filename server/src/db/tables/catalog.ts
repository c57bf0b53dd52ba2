import type { Json, Timestamp } from './columns.ts';

/** Of `catalog/`: event types. */
export interface CatalogTables {
  event_types: EventTypesTable;
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
