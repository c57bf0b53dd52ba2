import type pg from 'pg';
import { DAY_MS } from '../db/partitions.ts';
import { firstIdAt } from '../kernel/ids.ts';
import type { Looked, Scope } from './statements.ts';

/**
 * Where to go on; undefined when all is done. A day on which payloads were spared is looked through again a day later:
 * what waited may have ended.
 */
export async function cursorOf(
  client: pg.ClientBase,
  { tenantId, environmentId }: Scope,
  dayMs: number,
  nowMs: number,
): Promise<string | undefined> {
  const found = await client.query<{ cursor_id: string; spared: string; completed_at: Date | null }>(
    `SELECT cursor_id, spared, completed_at FROM retention_cursors
     WHERE tenant_id = $1 AND environment_id = $2 AND day = $3`,
    [tenantId, environmentId, dateOf(dayMs)],
  );
  const [row] = found.rows;
  if (row === undefined) return firstIdAt(0);
  if (row.completed_at === null) return row.cursor_id;
  const isOld = row.completed_at.getTime() + DAY_MS <= nowMs;
  return Number(row.spared) > 0 && isOld ? firstIdAt(0) : undefined;
}

/** To be called in the transaction of the step that it is the progress of. */
export async function keepCursor(
  client: pg.ClientBase,
  { tenantId, environmentId }: Scope,
  dayMs: number,
  nowMs: number,
  step: Looked,
): Promise<void> {
  const completedAt = step.cursor === undefined ? new Date(nowMs) : null;
  // The environment may be gone meanwhile: then so is its progress.
  await client.query(
    `INSERT INTO retention_cursors AS c (tenant_id, environment_id, day, cursor_id, spared, completed_at)
     SELECT tenant_id, id, $3, $4::uuid, $5, $6 FROM environments WHERE tenant_id = $1 AND id = $2
     ON CONFLICT (tenant_id, environment_id, day) DO UPDATE SET
       cursor_id = excluded.cursor_id, completed_at = excluded.completed_at,
       spared = CASE WHEN c.completed_at IS NULL THEN c.spared ELSE 0 END + excluded.spared`,
    [tenantId, environmentId, dateOf(dayMs), step.cursor ?? firstIdAt(0), step.spared, completedAt],
  );
}

/** Nothing of the day is left to be blanked. */
export async function forgetCursors(client: pg.ClientBase, dayMs: number): Promise<void> {
  await client.query('DELETE FROM retention_cursors WHERE day = $1', [dateOf(dayMs)]);
}

/** `2026-01-15`. */
function dateOf(dayMs: number): string {
  return new Date(dayMs).toISOString().slice(0, 10);
}
