import { sql, type Transaction } from 'kysely';
import { type Database, errorCode, isDatabaseGone } from '../../db/pool.ts';
import type { Tables } from '../../db/tables.ts';
import type { Scope } from '../../http/caller.ts';
import type { Clock } from '../../kernel/clock.ts';
import { formatId, type IdSource } from '../../kernel/ids.ts';
import type { Logger } from '../../kernel/logger.ts';
import { notify } from '../../tenants/queries.ts';
import { tellOfHeldOrDiscarded } from '../../webhooks/told-deliveries.ts';
import { statusesAllowing } from '../transitions.ts';
import { addReplays, holdPayloads } from './add-replays.ts';
import { filterOf, type JobRow, UNFINISHED } from './jobs.ts';
import { type Candidate, planChunk } from './plan-chunk.ts';
import { nextStretch } from './walk.ts';

export interface ReplayOptions {
  db: Database;
  clock: Clock;
  newId: IdSource;
  logger: Logger;
}

/** Deliveries that one transaction replays at most. */
const CHUNK_ROWS_MAX = 200;

/** Deliveries due and not yet taken, from which on nothing is added for a webhook: live events queue behind them. */
const LANE_WAITING_MAX = 500;

const BLOCKED_WAIT_MS = 1_000;

/** Chunks that may fail in a row; the waits between them double and come to four minutes. */
const FAILURES_MAX = 8;

/**
 * Does the next chunk of the job whose turn it is: of the tenant served longest ago, the job served longest ago. Gives
 * false when there is nothing to do.
 *
 * The deliveries, the job's counts and its cursor change in one transaction that holds the job's row: a process that is
 * killed has done all of a chunk or nothing, and two nodes never work on the same one.
 */
export async function runChunk(options: ReplayOptions): Promise<boolean> {
  const { db, clock, logger } = options;
  const taken: { job?: JobRow } = {};
  try {
    return await db.transaction().execute(async (trx) => {
      const job = await takeJob(trx, new Date(clock.now()));
      if (job === undefined) return false;
      taken.job = job;
      await serve(trx, job, options);
      return true;
    });
  } catch (error) {
    if (taken.job === undefined || isDatabaseGone(error)) throw error;
    logger.error({ code: errorCode(error), replay_id: formatId('replay', taken.job.id) }, 'a chunk of a replay failed');
    await postpone(db, taken.job, clock.now());
    return true;
  }
}

/**
 * A job begins once this node's clock has passed its end: the deliveries that the job makes are then behind it, also
 * where another node, whose clock is ahead, made the job.
 */
async function takeJob(trx: Transaction<Tables>, now: Date): Promise<JobRow | undefined> {
  const found = await sql<JobRow>`
    SELECT j.* FROM replay_jobs j
    WHERE j.status IN (${sql.join(UNFINISHED)}) AND j.next_chunk_at <= ${now} AND j.until_at <= ${now}
    ORDER BY
      (SELECT max(o.served_at) FROM replay_jobs o WHERE o.tenant_id = j.tenant_id) NULLS FIRST,
      j.served_at NULLS FIRST, j.id
    LIMIT 1 FOR UPDATE OF j SKIP LOCKED`.execute(trx);
  return found.rows[0];
}

async function serve(trx: Transaction<Tables>, job: JobRow, { clock, newId }: ReplayOptions): Promise<void> {
  const scope: Scope = { tenantId: job.tenant_id, environmentId: job.environment_id };
  const now = new Date(clock.now());
  const { ids, cursor, isLast } = await nextStretch(trx, scope, filterOf(job), job.cursor_id, CHUNK_ROWS_MAX);
  const candidates = await lockCandidates(trx, scope, ids, job.response_status);
  const plan = planChunk(candidates, await roomOf(trx, job.tenant_id, candidates, now));
  const again = plan.again.map(({ candidate, held }) => ({
    id: newId(),
    eventId: candidate.event_id,
    webhookId: candidate.webhook_id,
    eventType: candidate.event_type,
    priority: candidate.priority,
    orderingKey: candidate.ordering_key,
    held,
  }));
  await addReplays(trx, scope, again, now);
  await resume(trx, scope, plan.resumed, now);

  const { blocked } = plan;
  const handled = blocked === undefined ? ids : ids.filter((id) => id < blocked.id);
  const replayed = plan.again.length + plan.resumed.length;
  const completed = blocked === undefined && isLast;
  await trx
    .updateTable('replay_jobs')
    .set(({ eb }) => ({
      status: completed ? 'completed' : 'running',
      replayed: eb('replayed', '+', replayed),
      // Also those whose row is gone while their dead letter is still there.
      skipped: eb('skipped', '+', handled.length - replayed),
      cursor_id: blocked === undefined ? cursor : (handled.at(-1) ?? job.cursor_id),
      failures: 0,
      next_chunk_at: blocked === undefined ? now : new Date(now.getTime() + BLOCKED_WAIT_MS),
      served_at: now,
      started_at: job.started_at ?? now,
      completed_at: completed ? now : null,
    }))
    .where('tenant_id', '=', job.tenant_id)
    .where('environment_id', '=', job.environment_id)
    .where('id', '=', job.id)
    .execute();
  if ([...plan.again, ...plan.resumed].some(({ held }) => !held)) {
    await notify(trx, { topic: 'deliveries_due', ...scope });
  }
}

/**
 * The deliveries with what their replay depends on; nobody else changes them, or erases their events, until the transaction
 * ends. One that was attempted since it was found, with another response status than the job's, is none. Each has its
 * lookups of one row: joined, and without statistics, the planner reads all of the tenant's rows for each of them.
 */
async function lockCandidates(
  trx: Transaction<Tables>,
  scope: Scope,
  ids: string[],
  responseStatus: number | null,
): Promise<Candidate[]> {
  if (ids.length === 0) return [];
  const events = await trx
    .selectFrom('deliveries')
    .select('event_id')
    .distinct()
    .where('tenant_id', '=', scope.tenantId)
    .where('environment_id', '=', scope.environmentId)
    .where('id', 'in', ids)
    .execute();
  const payloads = await holdPayloads(
    trx,
    scope,
    events.map(({ event_id }) => event_id),
  );
  const found = await sql<Candidate>`
    SELECT
      d.id, d.event_id, d.webhook_id, d.event_type, d.status, d.trigger, d.priority, d.ordering_key,
      d.event_id = ANY (${payloads}::uuid[]) AS has_payload,
      (
        SELECT l.delivery_id FROM dead_letters l
        WHERE l.tenant_id = d.tenant_id AND l.environment_id = d.environment_id AND l.delivery_id = d.id
      ) IS NOT NULL AS is_dead_letter,
      (SELECT w.status FROM webhooks w WHERE w.tenant_id = d.tenant_id AND w.id = d.webhook_id) AS webhook_status
    FROM deliveries d
    WHERE d.tenant_id = ${scope.tenantId} AND d.environment_id = ${scope.environmentId} AND d.id = ANY (${ids}::uuid[])
      AND (${responseStatus}::int IS NULL OR d.response_status = ${responseStatus}::int)
    ORDER BY d.id FOR UPDATE OF d`.execute(trx);
  return found.rows;
}

/** How many more deliveries may wait for each webhook. What waits for a later retry is in nobody's way. */
async function roomOf(
  trx: Transaction<Tables>,
  tenantId: string,
  candidates: readonly Candidate[],
  now: Date,
): Promise<Map<string, number>> {
  const webhookIds = [...new Set(candidates.map(({ webhook_id }) => webhook_id))];
  const counted = await sql<{ webhook_id: string; waiting: number }>`
    SELECT lane.webhook_id, (
      SELECT count(*) FROM (
        SELECT FROM deliveries d
        WHERE d.webhook_id = lane.webhook_id AND d.tenant_id = ${tenantId} AND d.due_at <= ${now}
        LIMIT ${LANE_WAITING_MAX}
      ) AS due
    ) AS waiting
    FROM unnest(${webhookIds}::uuid[]) AS lane (webhook_id)`.execute(trx);
  return new Map(counted.rows.map(({ webhook_id, waiting }) => [webhook_id, LANE_WAITING_MAX - waiting]));
}

/**
 * Lets dead and cancelled deliveries go on: one attempt, and further ones where the retry policy has some left. Those
 * whose webhook is not active are held. What is due has to be announced in the same transaction (`deliveries_due`).
 */
export async function resume(
  trx: Transaction<Tables>,
  scope: Scope,
  resumed: readonly { candidate: Pick<Candidate, 'id'>; held: boolean }[],
  now: Date,
): Promise<void> {
  if (resumed.length === 0) return;
  const ids = (held: boolean) => resumed.filter((each) => each.held === held).map(({ candidate }) => candidate.id);
  for (const held of [false, true]) {
    const moved = await sql<{ id: string }>`
      UPDATE deliveries SET
        status = CASE WHEN ${held}::bool THEN 'held' WHEN attempt_count > 0 THEN 'failed' ELSE 'pending' END,
        status_reason = NULL, trigger = 'replay', completed_at = NULL,
        due_at = CASE WHEN ${held}::bool THEN 'infinity' ELSE ${now}::timestamptz END
      WHERE tenant_id = ${scope.tenantId} AND environment_id = ${scope.environmentId}
        AND id = ANY (${ids(held)}::uuid[])
        AND status = ANY (${statusesAllowing('replay')}::text[]) AND trigger <> 'test'
      RETURNING id`.execute(trx);
    const movedIds = moved.rows.map(({ id }) => id);
    if (held) await tellOfHeldOrDiscarded(trx, scope, movedIds);
  }
  await sql`
    DELETE FROM dead_letters WHERE tenant_id = ${scope.tenantId} AND environment_id = ${scope.environmentId}
      AND delivery_id = ANY (${resumed.map(({ candidate }) => candidate.id)}::uuid[])`.execute(trx);
}

/** After a failure others have their turn first; a job whose chunk never succeeds is given up. */
async function postpone(db: Database, job: JobRow, nowMs: number): Promise<void> {
  const now = new Date(nowMs);
  const failures = job.failures + 1;
  const failed = failures >= FAILURES_MAX;
  await db
    .updateTable('replay_jobs')
    .set({
      failures,
      served_at: now,
      next_chunk_at: new Date(nowMs + 1_000 * 2 ** failures),
      ...(failed && { status: 'failed', completed_at: now }),
    })
    .where('tenant_id', '=', job.tenant_id)
    .where('environment_id', '=', job.environment_id)
    .where('id', '=', job.id)
    .where('status', 'in', UNFINISHED)
    .execute();
}
