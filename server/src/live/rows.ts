import { sql } from 'kysely';
import type { Database } from '../db/pool.ts';
import type { Scope } from '../http/caller.ts';
import { type AttemptSeen, type EntrySeen, type Message, messageOfAttempt, messageOfEntry } from './message.ts';

/** Rows of a stretch of time, the oldest first. */
export interface Page {
  messages: Message[];
  /** Everything up to this id is among them: the end that was asked for, or an earlier one when there was too much. */
  upTo: string;
}

/** What happened in an environment after one id and up to another, `limit` rows of each kind at most. */
export async function readPage(db: Database, scope: Scope, after: string, upTo: string, limit: number): Promise<Page> {
  const [attempts, entries] = [
    await selectAttempts(db, scope, after, upTo, limit),
    await selectEntries(db, scope, after, upTo, limit),
  ];
  let end = upTo;
  for (const rows of [attempts, entries]) {
    const last = rows.at(-1);
    if (rows.length === limit && last !== undefined && last.id < end) end = last.id;
  }
  const messages = [...attempts.map(messageOfAttempt), ...entries.map(messageOfEntry)].filter(({ id }) => id <= end);
  messages.sort((a, b) => (a.id < b.id ? -1 : 1));
  return { messages, upTo: end };
}

/**
 * By webhook, as `attempts` is indexed: an index by time would cost every attempt, whether anybody listens or not. The
 * ends of the stretch let the planner skip the days outside of it. With 10,000 webhooks, of which each is looked up in the
 * index, half a second out of a million attempts of an hour takes 40 ms (measured).
 */
async function selectAttempts(
  db: Database,
  { tenantId, environmentId }: Scope,
  after: string,
  upTo: string,
  limit: number,
): Promise<AttemptSeen[]> {
  const result = await sql<AttemptSeen>`
    SELECT a.*, d.status, d.status_reason, d.attempt_count, d.due_at
    FROM (
      SELECT found.*, w.owner
      FROM webhooks w
      CROSS JOIN LATERAL (
        SELECT id, delivery_id, event_id, webhook_id, event_type, number, trigger, response_status, error_class,
          duration_ms
        FROM attempts
        WHERE webhook_id = w.id AND tenant_id = ${tenantId} AND environment_id = ${environmentId}
          AND id > ${after} AND id <= ${upTo}
        ORDER BY id LIMIT ${limit}
      ) found
      WHERE w.tenant_id = ${tenantId} AND w.environment_id = ${environmentId}
      ORDER BY found.id LIMIT ${limit}
    ) a
    LEFT JOIN deliveries d
      ON d.tenant_id = ${tenantId} AND d.environment_id = ${environmentId} AND d.id = a.delivery_id
    ORDER BY a.id`.execute(db);
  return result.rows;
}

async function selectEntries(
  db: Database,
  { tenantId, environmentId }: Scope,
  after: string,
  upTo: string,
  limit: number,
): Promise<EntrySeen[]> {
  return (
    db
      .selectFrom('stream_entries as e')
      .leftJoin('webhooks as w', (join) =>
        join.onRef('w.tenant_id', '=', 'e.tenant_id').onRef('w.id', '=', 'e.webhook_id'),
      )
      .select(['e.id', 'e.type', 'e.webhook_id', 'e.for_owner', 'e.data'])
      // Of a webhook that is gone, whose it was.
      .select(sql<string | null>`CASE WHEN w.id IS NULL THEN e.data->>'owner' ELSE w.owner END`.as('owner'))
      .where('e.tenant_id', '=', tenantId)
      .where('e.environment_id', '=', environmentId)
      .where('e.id', '>', after)
      .where('e.id', '<=', upTo)
      .orderBy('e.id')
      .limit(limit)
      .execute()
  );
}
