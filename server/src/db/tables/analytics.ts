import type { Timestamp } from './columns.ts';

/** Of `analytics/`: counts of attempts by time. */
export interface AnalyticsTables {
  rollups_minute: RollupsTable;
  rollups_hour: RollupsTable;
  rollups_day: RollupsTable;
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
