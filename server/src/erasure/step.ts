import { sql, type Transaction } from 'kysely';
import pg from 'pg';
import { bySystem } from '../audit/auditor.ts';
import type { AuditLog } from '../audit/log.ts';
import { type Database, errorCode, isDatabaseGone } from '../db/pool.ts';
import type { Tables } from '../db/tables.ts';
import { vacuumErased } from '../db/vacuum.ts';
import type { Scope } from '../http/caller.ts';
import { removeAnswersAbout } from '../http/idempotency.ts';
import type { Clock } from '../kernel/clock.ts';
import { formatId } from '../kernel/ids.ts';
import type { Logger } from '../kernel/logger.ts';
import type { SecretBox } from '../kernel/secret-box.ts';
import { notify } from '../tenants/queries.ts';
import { eraseAttempts, eraseEvents } from './erase-events.ts';
import { findEvents } from './find-events.ts';
import { auditedJob, type JobRow, subjectOf, UNFINISHED } from './jobs.ts';
import { isAbout, type Subject, tellingText } from './subject.ts';

export interface ErasureOptions {
  db: Database;
  /** For what cannot be done in a transaction. */
  connection: pg.ClientConfig;
  box: SecretBox;
  audit: AuditLog;
  clock: Clock;
  logger: Logger;
  /** How long after the last erasure what was in hand then may still be recorded (120 s: a request takes 60 at most). */
  settleMs?: number;
}

/** Events that one transaction erases at most: each may have a thousand deliveries. */
const ERASED_AT_ONCE = 50;

const SETTLE_MS = 120_000;

/** Steps that may fail in a row; the waits between them double and come to four minutes. */
const FAILURES_MAX = 8;

/** While one node vacuums for a job, no other one takes it up; one that was killed is followed after this. */
const VACUUM_MS_MAX = 10 * 60_000;

/**
 * Does the next step of the job whose turn it is: of the tenant served longest ago, the job served longest ago. Gives
 * false when there is nothing to do.
 *
 * What is erased, the job's counts and its cursor change in one transaction that holds the job's row: a process that is
 * killed has done all of a step or nothing, and two nodes never work on the same one.
 */
export async function eraseSome(options: ErasureOptions): Promise<boolean> {
  const { db, clock, logger } = options;
  const taken: { job?: JobRow } = {};
  try {
    const vacuuming = await db.transaction().execute(async (trx) => {
      const now = new Date(clock.now());
      const job = await takeJob(trx, now);
      if (job === undefined) return undefined;
      taken.job = job;
      await STAGES[job.stage](trx, job, options, now);
      return job.stage === 'vacuum';
    });
    if (vacuuming === undefined || taken.job === undefined) return false;
    if (vacuuming) await finish(options, taken.job);
    return true;
  } catch (error) {
    if (taken.job === undefined || isDatabaseGone(error)) throw error;
    logger.error(
      { code: errorCode(error), erasure_id: formatId('erasure', taken.job.id) },
      'a step of an erasure failed',
    );
    await postpone(options, taken.job);
    return true;
  }
}

/** A job begins once this node's clock has passed its end: what was accepted before the job was made is there then. */
async function takeJob(trx: Transaction<Tables>, now: Date): Promise<JobRow | undefined> {
  const found = await sql<JobRow>`
    SELECT j.* FROM erasure_jobs j
    WHERE j.status IN (${sql.join(UNFINISHED)}) AND j.next_step_at <= ${now} AND j.until_at <= ${now}
    ORDER BY
      (SELECT max(o.served_at) FROM erasure_jobs o WHERE o.tenant_id = j.tenant_id) NULLS FIRST,
      j.served_at NULLS FIRST, j.id
    LIMIT 1 FOR UPDATE OF j SKIP LOCKED`.execute(trx);
  return found.rows[0];
}

type Stage = (trx: Transaction<Tables>, job: JobRow, options: ErasureOptions, now: Date) => Promise<void>;

const STAGES: Record<JobRow['stage'], Stage> = {
  async events(trx, job, { box, settleMs = SETTLE_MS }, now) {
    const scope = scopeOf(job);
    const subject = await subjectOf(box, job);
    const isFirst = job.started_at === null;
    const samples = isFirst ? await eraseSamples(trx, scope, subject) : 0;
    const found = await findEvents(trx, scope, subject, job.cursor_id, ERASED_AT_ONCE);
    const text = tellingText(subject);
    const times = { now, requestsSince: new Date(now.getTime() - settleMs) };
    const erased = found.ids.length === 0 ? undefined : await eraseEvents(trx, scope, found.ids, text, times);
    const inHand = [...job.in_hand, ...(erased?.inHand ?? [])];
    const touched = new Set([...job.touched, ...(erased?.touched ?? [])]);
    if (samples > 0) touched.add('event_types');
    await trx
      .updateTable('erasure_jobs')
      .set(({ eb }) => ({
        status: 'running',
        stage: found.isLast ? 'settle' : 'events',
        looked_at: eb('looked_at', '+', found.lookedAt),
        erased_events: eb('erased_events', '+', found.ids.length),
        erased_attempts: eb('erased_attempts', '+', erased?.attempts ?? 0),
        discarded_deliveries: eb('discarded_deliveries', '+', erased?.discarded ?? 0),
        removed_dead_letters: eb('removed_dead_letters', '+', erased?.deadLetters ?? 0),
        erased_samples: eb('erased_samples', '+', samples),
        cursor_id: found.cursor,
        in_hand: inHand,
        touched: [...touched],
        failures: 0,
        next_step_at: found.isLast && inHand.length > 0 ? new Date(now.getTime() + settleMs) : now,
        served_at: now,
        started_at: job.started_at ?? now,
      }))
      .where('tenant_id', '=', job.tenant_id)
      .where('environment_id', '=', job.environment_id)
      .where('id', '=', job.id)
      .execute();
  },

  /** What was in hand may have been recorded meanwhile. */
  async settle(trx, job, { box }, now) {
    const scope = scopeOf(job);
    const text = tellingText(await subjectOf(box, job));
    const touched = new Set(job.touched);
    const attempts = await eraseAttempts(trx, scope, job.in_hand, touched);
    const answers = text === undefined ? 0 : await removeAnswersAbout(trx, box, scope, text);
    await trx
      .updateTable('erasure_jobs')
      .set(({ eb }) => ({
        stage: 'vacuum',
        erased_attempts: eb('erased_attempts', '+', attempts),
        removed_answers: eb('removed_answers', '+', answers),
        in_hand: [],
        touched: [...touched],
        failures: 0,
        served_at: now,
      }))
      .where('tenant_id', '=', job.tenant_id)
      .where('environment_id', '=', job.environment_id)
      .where('id', '=', job.id)
      .execute();
  },

  async vacuum(trx, job, _options, now) {
    await trx
      .updateTable('erasure_jobs')
      .set({ next_step_at: new Date(now.getTime() + VACUUM_MS_MAX), served_at: now })
      .where('tenant_id', '=', job.tenant_id)
      .where('environment_id', '=', job.environment_id)
      .where('id', '=', job.id)
      .execute();
  },
};

/** Samples of event types that are about the subject; every node is told. */
async function eraseSamples(trx: Transaction<Tables>, scope: Scope, subject: Subject): Promise<number> {
  const { tenantId, environmentId } = scope;
  const found = await sql<{ name: string; sample: string }>`
    SELECT name, sample::text AS sample FROM event_types
    WHERE tenant_id = ${tenantId} AND environment_id = ${environmentId} AND sample IS NOT NULL`.execute(trx);
  const names = found.rows.filter(({ sample }) => isAbout(sample, subject)).map(({ name }) => name);
  if (names.length === 0) return 0;
  await trx
    .updateTable('event_types')
    .set({ sample: null })
    .where('tenant_id', '=', tenantId)
    .where('environment_id', '=', environmentId)
    .where('name', 'in', names)
    .execute();
  await notify(trx, { topic: 'event_types', tenantId, environmentId });
  return names.length;
}

/** Removes publishers' keys that hold the value, vacuums what was touched, and forgets the value. */
async function finish({ db, connection, box, audit, clock }: ErasureOptions, job: JobRow): Promise<void> {
  const text = tellingText(await subjectOf(box, job));
  const client = new pg.Client({
    application_name: 'posthorn-erasure',
    ...connection,
    connectionTimeoutMillis: 5_000,
    statement_timeout: VACUUM_MS_MAX,
    options: '-c vacuum_cost_delay=2ms',
  });
  // A statement under way fails with the same reason.
  client.on('error', () => {});
  await client.connect();
  try {
    const touched = ['dead_letters', 'parked_keys', 'idempotent_requests', ...job.touched];
    if (text !== undefined) {
      await client.query(
        `DELETE FROM event_keys WHERE tenant_id = $1 AND environment_id = $2 AND position($3 IN key) > 0`,
        [job.tenant_id, job.environment_id, text],
      );
      touched.push('event_keys');
    }
    await vacuumErased(client, touched);
  } finally {
    await client.end();
  }
  const now = new Date(clock.now());
  await db.transaction().execute(async (trx) => {
    const completed = await trx
      .updateTable('erasure_jobs')
      .set({ status: 'completed', value_box: null, completed_at: now })
      .where('tenant_id', '=', job.tenant_id)
      .where('environment_id', '=', job.environment_id)
      .where('id', '=', job.id)
      .where('status', 'in', UNFINISHED)
      .returningAll()
      .executeTakeFirst();
    if (completed === undefined) return;
    await audit.record(trx, bySystem(scopeOf(job)), { action: 'erasure.completed', ...auditedJob(completed) });
  });
}

/** After a failure others have their turn first; a job whose step never succeeds is given up, and forgets its value. */
async function postpone({ db, audit, clock }: ErasureOptions, job: JobRow): Promise<void> {
  const nowMs = clock.now();
  const now = new Date(nowMs);
  const failures = job.failures + 1;
  await db.transaction().execute(async (trx) => {
    const postponed = await trx
      .updateTable('erasure_jobs')
      .set({
        failures,
        served_at: now,
        next_step_at: new Date(nowMs + 1_000 * 2 ** failures),
        ...(failures >= FAILURES_MAX && { status: 'failed', value_box: null, in_hand: [], completed_at: now }),
      })
      .where('tenant_id', '=', job.tenant_id)
      .where('environment_id', '=', job.environment_id)
      .where('id', '=', job.id)
      .where('status', 'in', UNFINISHED)
      .returningAll()
      .executeTakeFirst();
    if (postponed?.status !== 'failed') return;
    await audit.record(trx, bySystem(scopeOf(job)), { action: 'erasure.failed', ...auditedJob(postponed) });
  });
}

function scopeOf(job: JobRow): Scope {
  return { tenantId: job.tenant_id, environmentId: job.environment_id };
}
