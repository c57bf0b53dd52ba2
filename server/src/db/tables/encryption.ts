import type { Generated } from 'kysely';
import type { Timestamp } from './columns.ts';

/** Of `encryption/`: data keys, and which process holds which of them. */
export interface EncryptionTables {
  encryption_keys: EncryptionKeysTable;
  key_holders: KeyHoldersTable;
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
