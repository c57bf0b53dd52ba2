import { sql, type Transaction } from 'kysely';
import type { Tables } from '../db/tables.ts';
import { bytesOf, type EntryColumns } from './hash.ts';

/**
 * Adds an entry to the end of its tenant's chain; false when there is no such tenant any more.
 *
 * The database itself computes the hash, so that one statement does all. It locks the end of the chain until the
 * transaction ends, and every change of a tenant wants that lock: it has to be the last statement of the transaction. Then
 * changes of one tenant wait for each other's commits and for nothing else, and never in a circle.
 */
export async function appendEntry(trx: Transaction<Tables>, entry: EntryColumns): Promise<boolean> {
  const result = await sql`
    WITH head AS (
      UPDATE audit_chains
      SET sequence = sequence + 1, hash = sha256(hash || int8send(sequence + 1) || ${bytesOf(entry)}::bytea)
      WHERE tenant_id = ${entry.tenant_id}
      RETURNING sequence, hash
    )
    INSERT INTO audit_log (
      tenant_id, sequence, id, environment_id, action, outcome, actor_kind, actor_id, role, address, request_id,
      resource_type, resource_id, before, after, details, hash
    )
    SELECT
      ${entry.tenant_id}, head.sequence, ${entry.id}, ${entry.environment_id}::uuid, ${entry.action}, ${entry.outcome},
      ${entry.actor_kind}, ${entry.actor_id}, ${entry.role}, ${entry.address}, ${entry.request_id},
      ${entry.resource_type}, ${entry.resource_id}, ${entry.before}::json, ${entry.after}::json,
      ${entry.details}::json, head.hash
    FROM head`.execute(trx);
  return (result.numAffectedRows ?? 0n) > 0n;
}

/** Characters of a text that somebody else chose, such as the subject of a token. */
const TEXT_CHARACTERS_MAX = 256;

/** A text as it is stored and comes back: PostgreSQL takes neither NUL nor half of a surrogate pair. */
export function storable(text: string): string {
  return text.slice(0, TEXT_CHARACTERS_MAX).toWellFormed().replaceAll('\0', '\ufffd');
}
