import { type Selectable, sql } from 'kysely';
import type { Recording } from '../../audit/log.ts';
import type { Database } from '../../db/pool.ts';
import type { Tables } from '../../db/tables.ts';
import type { Reach, Scope } from '../../http/caller.ts';
import type { PageRequest } from '../../http/pagination.ts';
import { conflict, notFound } from '../../kernel/errors.ts';
import { lockEnvironment } from '../../tenants/environment-preset.ts';
import type { RecoveryFilter, ReplayableStatus } from './filter.ts';
import { type Estimate, firstCursor } from './walk.ts';

export type JobRow = Selectable<Tables['replay_jobs']>;

/** The statuses of a job that has something to do. */
export const UNFINISHED = ['queued', 'running'] as const;

/** Unfinished jobs of an environment: more of them would only wait for each other. */
const UNFINISHED_MAX = 10;

/** Unfinished jobs of one owner's portal. They do not count among the environment's, which owners could use up. */
const UNFINISHED_OF_OWNER_MAX = 3;

/** @throws AppError 409 where ten jobs, or three of the owner, are unfinished; 404 when the environment is gone. */
export async function insertJob(
  db: Database,
  scope: Scope,
  job: { id: string; trigger: JobRow['trigger']; filter: RecoveryFilter; estimate: Estimate; now: Date },
  onInsert?: Recording<JobRow>,
): Promise<JobRow> {
  const { filter, now } = job;
  return db.transaction().execute(async (trx) => {
    await lockEnvironment(trx, scope);
    const { count } = await trx
      .selectFrom('replay_jobs')
      .select(({ fn }) => fn.countAll<number>().as('count'))
      .where('tenant_id', '=', scope.tenantId)
      .where('environment_id', '=', scope.environmentId)
      .where('status', 'in', UNFINISHED)
      .where((eb) => (filter.owner === undefined ? eb('owner', 'is', null) : eb('owner', '=', filter.owner)))
      .executeTakeFirstOrThrow();
    const most = filter.owner === undefined ? UNFINISHED_MAX : UNFINISHED_OF_OWNER_MAX;
    if (count >= most) {
      throw conflict('too_many_replays', `${most} replays are unfinished: wait for one, or cancel one.`);
    }
    const row = await trx
      .insertInto('replay_jobs')
      .values({
        tenant_id: scope.tenantId,
        environment_id: scope.environmentId,
        id: job.id,
        owner: filter.owner ?? null,
        trigger: job.trigger,
        webhook_id: filter.webhookId ?? null,
        event_id: filter.eventId ?? null,
        event_type: filter.eventType ?? null,
        response_status: filter.responseStatus ?? null,
        q: filter.q ?? null,
        statuses: filter.statuses === undefined ? null : [...filter.statuses],
        since_at: filter.sinceMs === undefined ? null : new Date(filter.sinceMs),
        until_at: new Date(filter.untilMs),
        status: 'queued',
        estimated: job.estimate.count,
        estimate_is_exact: job.estimate.isExact,
        cursor_id: firstCursor(filter),
        next_chunk_at: now,
        created_at: now,
      })
      .returningAll()
      .executeTakeFirstOrThrow();
    await onInsert?.(trx, row);
    return row;
  });
}

export function filterOf(job: JobRow): RecoveryFilter {
  return {
    webhookId: job.webhook_id ?? undefined,
    owner: job.owner ?? undefined,
    eventId: job.event_id ?? undefined,
    eventType: job.event_type ?? undefined,
    responseStatus: job.response_status ?? undefined,
    q: job.q ?? undefined,
    statuses: (job.statuses as ReplayableStatus[] | null) ?? undefined,
    sinceMs: job.since_at?.getTime(),
    untilMs: job.until_at.getTime(),
  };
}

/** Newest first, one more than the page holds. A caller with an owner sees its own, which are kept to the owner. */
export function listJobs(db: Database, reach: Reach, page: PageRequest): Promise<JobRow[]> {
  return jobsWithin(db, reach)
    .$if(page.beforeId !== undefined, (query) => query.where('id', '<', page.beforeId ?? ''))
    .orderBy('id', 'desc')
    .limit(page.limit + 1)
    .execute();
}

/** @throws AppError 404 */
export async function requireJob(db: Database, reach: Reach, id: string | undefined): Promise<JobRow> {
  if (id === undefined) throw notFound('replay');
  const row = await jobsWithin(db, reach).where('id', '=', id).executeTakeFirst();
  if (row === undefined) throw notFound('replay');
  return row;
}

function jobsWithin(db: Database, reach: Reach) {
  return db
    .selectFrom('replay_jobs')
    .selectAll()
    .where('tenant_id', '=', reach.tenantId)
    .where('environment_id', '=', reach.environmentId)
    .$if(reach.owner !== undefined, (query) => query.where('owner', '=', reach.owner ?? ''));
}

/**
 * Ends a job where it is, after the chunk under way. What it has replayed already goes its way. A job that was
 * cancelled before is given as it is.
 *
 * @throws AppError 404; 409 for a job that has ended otherwise.
 */
export async function cancelJob(
  db: Database,
  reach: Reach,
  id: string | undefined,
  now: Date,
  onCancel?: Recording<{ before: JobRow; after: JobRow }>,
): Promise<JobRow> {
  const before = await requireJob(db, reach, id);
  const cancelled = await db.transaction().execute(async (trx) => {
    const after = await trx
      .updateTable('replay_jobs')
      .set({ status: 'cancelled', completed_at: now })
      .where('tenant_id', '=', reach.tenantId)
      .where('environment_id', '=', reach.environmentId)
      .where('id', '=', before.id)
      .where('status', 'in', UNFINISHED)
      .returningAll()
      .executeTakeFirst();
    if (after !== undefined) await onCancel?.(trx, { before, after });
    return after;
  });
  if (cancelled !== undefined) return cancelled;
  const ended = await requireJob(db, reach, id);
  if (ended.status === 'cancelled') return ended;
  throw conflict('replay_ended', `The replay is ${ended.status}; there is nothing left to cancel.`);
}

/** How long ended jobs are shown. */
const KEPT_MS = 30 * 86_400_000;

/** Forgets jobs that ended more than 30 days ago; gives their number. For all tenants. */
export async function purgeReplayJobs(db: Database, nowMs: number): Promise<number> {
  const result = await sql`
    DELETE FROM replay_jobs WHERE completed_at < ${new Date(nowMs - KEPT_MS)}`.execute(db);
  return Number(result.numAffectedRows ?? 0);
}
