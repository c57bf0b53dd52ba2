import { type Selectable, sql } from 'kysely';
import type { Recording } from '../audit/log.ts';
import type { Database } from '../db/pool.ts';
import type { Tables } from '../db/tables.ts';
import { SEALED_COLUMNS, sealedPlace } from '../encryption/sealed-columns.ts';
import type { Scope } from '../http/caller.ts';
import type { PageRequest } from '../http/pagination.ts';
import { conflict, notFound } from '../kernel/errors.ts';
import { formatId } from '../kernel/ids.ts';
import type { SecretBox } from '../kernel/secret-box.ts';
import { lockEnvironment } from '../tenants/environment-preset.ts';
import { firstCursor } from './find-events.ts';
import type { Subject } from './subject.ts';

export type JobRow = Selectable<Tables['erasure_jobs']>;

export const UNFINISHED = ['queued', 'running'] as const;

/** Unfinished jobs of an environment: more of them would only wait for each other. */
const UNFINISHED_MAX = 10;

/** @throws AppError 409 where ten jobs are unfinished; 404 when the environment is gone. */
export async function insertJob(
  db: Database,
  box: SecretBox,
  scope: Scope,
  job: { id: string; subject: Subject; now: Date },
  onInsert: Recording<JobRow>,
): Promise<JobRow> {
  const { id, subject, now } = job;
  return db.transaction().execute(async (trx) => {
    await lockEnvironment(trx, scope);
    const { count } = await trx
      .selectFrom('erasure_jobs')
      .select(({ fn }) => fn.countAll<number>().as('count'))
      .where('tenant_id', '=', scope.tenantId)
      .where('environment_id', '=', scope.environmentId)
      .where('status', 'in', UNFINISHED)
      .executeTakeFirstOrThrow();
    if (count >= UNFINISHED_MAX) {
      throw conflict('too_many_erasures', `${UNFINISHED_MAX} erasures are unfinished: wait for one, or cancel one.`);
    }
    const row = await trx
      .insertInto('erasure_jobs')
      .values({
        tenant_id: scope.tenantId,
        environment_id: scope.environmentId,
        id,
        path: [...subject.path],
        value_box: box.seal(subject.value, placeOf({ ...scope, id })),
        value_hash: box.hashKey(`erased value ${scope.tenantId} ${subject.value}`),
        since_at: subject.sinceMs === undefined ? null : new Date(subject.sinceMs),
        until_at: new Date(subject.untilMs),
        status: 'queued',
        stage: 'events',
        cursor_id: firstCursor(subject),
        next_step_at: now,
        created_at: now,
      })
      .returningAll()
      .executeTakeFirstOrThrow();
    await onInsert(trx, row);
    return row;
  });
}

/** @throws Error for a job that has ended: what it looked for is forgotten. */
export async function subjectOf(box: SecretBox, job: JobRow): Promise<Subject> {
  if (job.value_box === null) throw new Error('The value of an ended erasure is forgotten.');
  await box.learn([job.value_box]);
  const place = placeOf({ tenantId: job.tenant_id, environmentId: job.environment_id, id: job.id });
  return {
    path: job.path,
    value: box.open(job.value_box, place),
    sinceMs: job.since_at?.getTime(),
    untilMs: job.until_at.getTime(),
  };
}

function placeOf({ tenantId, environmentId, id }: Scope & { id: string }): string {
  return sealedPlace(SEALED_COLUMNS.erasedValue, tenantId, environmentId, id);
}

/** Newest first, one more than the page holds. */
export function listJobs(db: Database, scope: Scope, page: PageRequest): Promise<JobRow[]> {
  return db
    .selectFrom('erasure_jobs')
    .selectAll()
    .where('tenant_id', '=', scope.tenantId)
    .where('environment_id', '=', scope.environmentId)
    .$if(page.beforeId !== undefined, (query) => query.where('id', '<', page.beforeId ?? ''))
    .orderBy('id', 'desc')
    .limit(page.limit + 1)
    .execute();
}

/** @throws AppError 404 */
export async function requireJob(db: Database, scope: Scope, id: string | undefined): Promise<JobRow> {
  if (id === undefined) throw notFound('erasure');
  const row = await db
    .selectFrom('erasure_jobs')
    .selectAll()
    .where('tenant_id', '=', scope.tenantId)
    .where('environment_id', '=', scope.environmentId)
    .where('id', '=', id)
    .executeTakeFirst();
  if (row === undefined) throw notFound('erasure');
  return row;
}

/**
 * Ends a job where it is, after the step under way. What it has erased stays so. A job that was cancelled before is given
 * as it is.
 *
 * @throws AppError 404; 409 for a job that has ended otherwise.
 */
export async function cancelJob(
  db: Database,
  scope: Scope,
  id: string | undefined,
  now: Date,
  onCancel: Recording<JobRow>,
): Promise<JobRow> {
  const before = await requireJob(db, scope, id);
  const cancelled = await db.transaction().execute(async (trx) => {
    const after = await trx
      .updateTable('erasure_jobs')
      .set({ status: 'cancelled', value_box: null, in_hand: [], completed_at: now })
      .where('tenant_id', '=', scope.tenantId)
      .where('environment_id', '=', scope.environmentId)
      .where('id', '=', before.id)
      .where('status', 'in', UNFINISHED)
      .returningAll()
      .executeTakeFirst();
    if (after !== undefined) await onCancel(trx, after);
    return after;
  });
  if (cancelled !== undefined) return cancelled;
  const ended = await requireJob(db, scope, id);
  if (ended.status === 'cancelled') return ended;
  throw conflict('erasure_ended', `The erasure is ${ended.status}; there is nothing left to cancel.`);
}

/** A job for the audit log, without the value that is looked for. */
export function auditedJob(row: JobRow) {
  return {
    resourceType: 'erasure',
    resourceId: formatId('erasure', row.id),
    details: {
      path: row.path.join('.'),
      since: row.since_at?.toISOString() ?? null,
      until: row.until_at.toISOString(),
      ...countsOf(row),
    },
  };
}

/** What a job has done so far. */
export function countsOf(row: JobRow) {
  return {
    looked_at_events: row.looked_at,
    erased_events: row.erased_events,
    erased_attempts: row.erased_attempts,
    discarded_deliveries: row.discarded_deliveries,
    removed_dead_letters: row.removed_dead_letters,
    erased_samples: row.erased_samples,
    removed_answers: row.removed_answers,
  };
}

/** Longer than most: that something was erased may have to be shown. */
const KEPT_MS = 365 * 86_400_000;

/** Forgets jobs that ended more than a year ago; gives their number. For all tenants. */
export async function purgeErasureJobs(db: Database, nowMs: number): Promise<number> {
  const result = await sql`
    DELETE FROM erasure_jobs WHERE completed_at < ${new Date(nowMs - KEPT_MS)}`.execute(db);
  return Number(result.numAffectedRows ?? 0);
}
