import { sql, type Transaction } from 'kysely';
import type { Recording } from '../../audit/log.ts';
import type { Database } from '../../db/pool.ts';
import type { Tables } from '../../db/tables.ts';
import type { Scope } from '../../http/caller.ts';
import { unparkKeys } from '../parked-keys.ts';
import type { RecoveryFilter } from './filter.ts';
import { firstCursor, nextStretch } from './walk.ts';

/** Dead letters that one statement removes at most. */
const BATCH_ROWS = 5_000;

/**
 * Removes the dead letters that a filter means, and gives their number. Their deliveries stay as they are: dead, with
 * the reason. In batches, each committed by itself: what is removed when it fails half way stays so. `onPurge` is called
 * with the number of each batch.
 */
export async function purgeDeadLetters(
  db: Database,
  scope: Scope,
  filter: RecoveryFilter & { statuses: readonly ['dead'] },
  onPurge?: Recording<number>,
): Promise<number> {
  let purged = 0;
  let cursor = firstCursor(filter);
  for (;;) {
    const stretch = await nextStretch(db, scope, filter, cursor, BATCH_ROWS);
    purged += await db.transaction().execute(async (trx) => {
      const removed = await remove(trx, scope, filter, stretch.ids);
      if (removed > 0) await onPurge?.(trx, removed);
      return removed;
    });
    if (stretch.isLast) return purged;
    cursor = stretch.cursor;
  }
}

/**
 * A key that waits for a dead letter goes on in the same commit: once the letter is gone nothing else would free it. The
 * status is asked again: a retry may have put another letter in the place of one that was found.
 */
async function remove(
  trx: Transaction<Tables>,
  scope: Scope,
  { responseStatus = null }: { responseStatus?: number | null | undefined },
  ids: string[],
): Promise<number> {
  const removed = await sql<{ delivery_id: string }>`
    DELETE FROM dead_letters
    WHERE tenant_id = ${scope.tenantId} AND environment_id = ${scope.environmentId}
      AND delivery_id = ANY (${ids}::uuid[])
      AND (${responseStatus}::int IS NULL OR response_status = ${responseStatus}::int)
    RETURNING delivery_id`.execute(trx);
  const removedIds = removed.rows.map(({ delivery_id }) => delivery_id);
  await unparkKeys(trx, scope, removedIds);
  return removedIds.length;
}
