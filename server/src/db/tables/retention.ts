import type { Generated } from 'kysely';
import type { Timestamp } from './columns.ts';

/** Of `retention/`: how far the payloads of a day are blanked. */
export interface RetentionTables {
  retention_cursors: RetentionCursorsTable;
}

interface RetentionCursorsTable {
  tenant_id: string;
  environment_id: string;
  day: string;
  cursor_id: string;
  spared: Generated<number>;
  completed_at: Timestamp | null;
}
