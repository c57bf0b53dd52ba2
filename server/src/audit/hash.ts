import { hash } from 'node:crypto';
import type { Selectable } from 'kysely';
import type { Tables } from '../db/tables.ts';

/** The chain of what belongs to no tenant. */
export const PLATFORM_CHAIN = '00000000-0000-0000-0000-000000000000';

/** An entry as it is stored, with the JSON columns as text. Its place and hash come from the chain. */
export type EntryColumns = Omit<
  Selectable<Tables['audit_log']>,
  'sequence' | 'hash' | 'before' | 'after' | 'details'
> & { before: string | null; after: string | null; details: string | null };

/**
 * What the hash of an entry is made of, beside the hash before it and its sequence number: every column, in this order,
 * as a JSON array. The first element is the version of this form.
 */
export function bytesOf(entry: EntryColumns): Buffer {
  return Buffer.from(
    JSON.stringify([
      1,
      entry.tenant_id,
      entry.id,
      entry.environment_id,
      entry.action,
      entry.outcome,
      entry.actor_kind,
      entry.actor_id,
      entry.role,
      entry.address,
      entry.request_id,
      entry.resource_type,
      entry.resource_id,
      entry.before,
      entry.after,
      entry.details,
    ]),
  );
}

/** SHA-256 of the hash before it, the sequence number as 8 bytes (big-endian) and `bytesOf` the entry. */
export function hashOf(before: Buffer, sequence: number, bytes: Buffer): Buffer {
  const number = Buffer.alloc(8);
  number.writeBigInt64BE(BigInt(sequence));
  return hash('sha256', Buffer.concat([before, number, bytes]), 'buffer');
}
