import { sql } from 'kysely';
import type { Database } from '../../db/pool.ts';
import type { Scope } from '../../http/caller.ts';
import type { RecoveryFilter } from './filter.ts';
import { firstCursor, nextStretch } from './walk.ts';

/** Dead letters that one statement removes at most. */
const BATCH_ROWS = 5_000;

/**
 * Removes the dead letters that a filter means, and gives their number. Their deliveries stay as they are: dead, with
 * the reason. In batches, each committed by itself: what is removed when it fails half way stays so.
 */
export async function purgeDeadLetters(
  db: Database,
  scope: Scope,
  filter: RecoveryFilter & { statuses: readonly ['dead'] },
): Promise<number> {
  let purged = 0;
  let cursor = firstCursor(filter);
  for (;;) {
    const stretch = await nextStretch(db, scope, filter, cursor, BATCH_ROWS);
    // In order, as a replay removes them too: two that remove the same ones wait for each other and never in a circle.
    const removed = await sql`
      WITH batch AS (
        SELECT delivery_id FROM dead_letters
        WHERE tenant_id = ${scope.tenantId} AND environment_id = ${scope.environmentId}
          AND delivery_id = ANY (${stretch.ids}::uuid[])
        ORDER BY delivery_id FOR UPDATE
      )
      DELETE FROM dead_letters l USING batch
      WHERE l.tenant_id = ${scope.tenantId} AND l.environment_id = ${scope.environmentId}
        AND l.delivery_id = batch.delivery_id`.execute(db);
    purged += Number(removed.numAffectedRows ?? 0);
    if (stretch.isLast) return purged;
    cursor = stretch.cursor;
  }
}
