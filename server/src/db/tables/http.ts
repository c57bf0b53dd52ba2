import type { Timestamp } from './columns.ts';

/** Of `http/`: answers that an `Idempotency-Key` gives again. */
export interface HttpTables {
  idempotent_requests: IdempotentRequestsTable;
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
