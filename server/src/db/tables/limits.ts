import type { ColumnType } from 'kysely';
import type { Timestamp } from './columns.ts';

/** Of `limits/`: what tenants and keys have used of their limits. */
export interface LimitTables {
  rate_limits: RateLimitsTable;
  daily_usage: DailyUsageTable;
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
