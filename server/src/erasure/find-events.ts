import { sql } from 'kysely';
import type { Database } from '../db/pool.ts';
import type { Scope } from '../http/caller.ts';
import { firstIdAt } from '../kernel/ids.ts';
import { isAbout, type Subject } from './subject.ts';

/** What one statement looks at: bounds its time and the memory that it takes. One event is read however large it is. */
const LOOK_ROWS_MAX = 500;
const LOOK_BYTES_MAX = 2 * 1024 * 1024;

export interface Found {
  /** Of the events that are about the subject, in order. */
  ids: string[];
  /** Every event up to here was looked at. */
  cursor: string;
  lookedAt: number;
  /** There is nothing behind the cursor. */
  isLast: boolean;
}

/** Where a search begins. */
export function firstCursor(subject: Pick<Subject, 'sinceMs'>): string {
  return firstIdAt(subject.sinceMs ?? 0);
}

/** The events behind a cursor that are about the subject, `idsMax` at most. Those whose payload is gone are none. */
export async function findEvents(
  db: Database,
  scope: Scope,
  subject: Subject,
  afterId: string,
  idsMax: number,
): Promise<Found> {
  const looked = await sql<{ id: string; data: Buffer | null; all: number }>`
    SELECT id, data, "all" FROM (
      SELECT id, data, count(*) OVER () AS "all", coalesce(octet_length(data), 0) AS bytes,
        sum(coalesce(octet_length(data), 0)) OVER (ORDER BY id) AS bytes_so_far
      FROM (
        SELECT id, data FROM events
        WHERE tenant_id = ${scope.tenantId} AND environment_id = ${scope.environmentId}
          AND id > ${afterId} AND id < ${firstIdAt(subject.untilMs)}
        ORDER BY id LIMIT ${LOOK_ROWS_MAX}
      ) AS next
    ) AS sized
    WHERE bytes_so_far <= ${LOOK_BYTES_MAX} OR bytes_so_far = bytes
    ORDER BY id`.execute(db);
  const ids: string[] = [];
  let lookedAt = 0;
  for (const { id, data } of looked.rows) {
    lookedAt += 1;
    if (data === null || !isAbout(data.toString('utf8'), subject)) continue;
    ids.push(id);
    if (ids.length === idsMax) return { ids, cursor: id, lookedAt, isLast: false };
  }
  const all = looked.rows[0]?.all ?? 0;
  const isLast = looked.rows.length === all && all < LOOK_ROWS_MAX;
  return { ids, cursor: looked.rows.at(-1)?.id ?? afterId, lookedAt, isLast };
}
