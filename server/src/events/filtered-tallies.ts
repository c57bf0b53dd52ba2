import { sql, type Transaction } from 'kysely';
import type { Tables } from '../db/tables.ts';

/** Counts an event that filters kept from these webhooks of a tenant, as the commit of a publish does. */
export async function addFiltered(
  trx: Transaction<Tables>,
  tenantId: string,
  webhookIds: readonly string[],
): Promise<void> {
  if (webhookIds.length === 0) return;
  await sql`
    INSERT INTO filtered_tallies (tenants, webhooks, counts)
    SELECT array_agg(${tenantId}::uuid), array_agg(id), array_agg(1)
    FROM unnest(${[...webhookIds]}::uuid[]) w (id)`.execute(trx);
}
