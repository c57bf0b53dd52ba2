import type { Generated } from 'kysely';
import type { Timestamp } from './columns.ts';

/** Of `erasure/`: erasures of what is held of a person. */
export interface ErasureTables {
  erasure_jobs: ErasureJobsTable;
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
