import type { FastifyReply, FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import { auditorOf } from '../../audit/auditor.ts';
import type { AuditLog } from '../../audit/log.ts';
import type { Database } from '../../db/pool.ts';
import type { Scope } from '../../http/caller.ts';
import { PageOf, PageQuery, readPage, toPage } from '../../http/pagination.ts';
import type { HttpServer } from '../../http/server.ts';
import type { Clock } from '../../kernel/clock.ts';
import { notFound } from '../../kernel/errors.ts';
import { formatId, type IdSource, parseId } from '../../kernel/ids.ts';
import type { WebhookDirectory } from '../../webhooks/directory.ts';
import { orNull } from '../../webhooks/nullable.ts';
import { findWithin } from '../../webhooks/owner.ts';
import { WebhookPath, webhookId } from '../../webhooks/webhook-path.ts';
import {
  FilterFields,
  REPLAYABLE_STATUSES,
  type RecoveryFilter,
  readFilter,
  since,
  unknownWebhook,
  until,
} from './filter.ts';
import { cancelJob, insertJob, type JobRow, listJobs, requireJob } from './jobs.ts';
import { namedEvent } from './named-event.ts';
import { ReplayEstimateShown, ReplayJobShown, showEstimate, showJob } from './shown-job.ts';
import { estimate } from './walk.ts';

export interface RecoveryRouteDeps {
  db: Database;
  clock: Clock;
  newId: IdSource;
  audit: AuditLog;
  webhooks: WebhookDirectory;
  /** UUID of an event by its TypeID or the publisher's own id. */
  findEventId: (scope: Scope, id: string) => Promise<string | undefined>;
}

/** What every request answers that makes a job. */
export const JOB_ANSWERS = { 200: Type.Ref('ReplayEstimate'), 202: Type.Ref('ReplayJob') };

export const dryRun = Type.Optional(orNull(Type.Boolean({ description: 'Only say how many deliveries are meant.' })));

const status = Type.Enum([...REPLAYABLE_STATUSES]);
const tags = ['Replays'];

/** Replay jobs: `/api/v1/replays`, and `POST /api/v1/webhooks/{id}/recover`. */
export function registerReplayRoutes(app: HttpServer, deps: RecoveryRouteDeps): void {
  const { db, clock, audit } = deps;
  app.addSchema(ReplayEstimateShown);
  app.addSchema(ReplayJobShown);

  app.post(
    '/api/v1/replays',
    {
      config: { permission: 'develop' },
      schema: {
        tags,
        summary: 'Deliver the deliveries of a time range again',
        description:
          'Dead and cancelled deliveries go on, delivered ones are made anew for the same event, with the same ' +
          '`webhook-id`. The work is done a little at a time, behind what is published meanwhile.',
        body: Type.Object(
          {
            ...FilterFields,
            status: Type.Optional(
              Type.Union([status, Type.Array(status, { minItems: 1, uniqueItems: true }), Type.Null()]),
            ),
            since,
            until,
            dry_run: dryRun,
          },
          { additionalProperties: false },
        ),
        response: JOB_ANSWERS,
      },
    },
    async (request, reply) => {
      const { body, caller } = request;
      const statuses = typeof body.status === 'string' ? [body.status] : (body.status ?? undefined);
      return answerWithJob(deps, request, reply, {
        trigger: 'replays',
        filter: {
          ...readFilter(body, statuses, clock.now()),
          eventId: await namedEvent(deps, caller, body.event_id),
        },
        dryRun: body.dry_run === true,
      });
    },
  );

  app.post(
    '/api/v1/webhooks/:id/recover',
    {
      config: { permission: 'develop', portal: 'manage' },
      schema: {
        tags,
        summary: "Deliver a webhook's dead deliveries again",
        params: WebhookPath,
        body: Type.Object(
          { since, until: Type.Optional(orNull(until)), dry_run: dryRun },
          { additionalProperties: false },
        ),
        response: JOB_ANSWERS,
      },
    },
    async (request, reply) => {
      const { params, body, caller } = request;
      const id = webhookId(params.id);
      if ((await findWithin(deps, caller, id)) === undefined) throw notFound('webhook');
      return answerWithJob(deps, request, reply, {
        trigger: 'recover',
        filter: { ...readFilter(body, ['dead'], clock.now()), webhookId: id },
        dryRun: body.dry_run === true,
      });
    },
  );

  app.get(
    '/api/v1/replays',
    {
      config: { permission: 'read', portal: 'read' },
      schema: {
        tags,
        summary: 'List replay jobs, newest first',
        description: 'Ended jobs are kept for 30 days.',
        querystring: Type.Object(PageQuery),
        response: { 200: PageOf(Type.Ref('ReplayJob')) },
      },
    },
    async ({ query, caller }) => {
      const page = readPage(query);
      return toPage(await listJobs(db, caller, page), page.limit, (row) => row.id, showJob);
    },
  );

  const params = Type.Object({ id: Type.String({ description: '`rpl_…`' }) });
  app.get(
    '/api/v1/replays/:id',
    {
      config: { permission: 'read', portal: 'read' },
      schema: { tags, summary: 'A replay job with its progress', params, response: { 200: Type.Ref('ReplayJob') } },
    },
    async ({ params, caller }) => showJob(await requireJob(db, caller, parseId('replay', params.id))),
  );

  app.delete(
    '/api/v1/replays/:id',
    {
      config: { permission: 'develop', portal: 'manage' },
      schema: {
        tags,
        summary: 'Cancel a replay job',
        description: 'What it has replayed so far goes its way; nothing more is added.',
        params,
        response: { 200: Type.Ref('ReplayJob') },
      },
    },
    async (request) => {
      const id = parseId('replay', request.params.id);
      const row = await cancelJob(db, request.caller, id, new Date(clock.now()), (trx, { before, after }) =>
        audit.record(trx, auditorOf(request), {
          action: 'replay.cancelled',
          ...auditedJob(after),
          before: { status: before.status },
          after: { status: after.status, replayed: after.replayed },
        }),
      );
      return showJob(row);
    },
  );
}

/**
 * Makes a job and answers 202 with it; for a dry run 200 with its estimate. That of a caller with an owner keeps to it.
 *
 * @throws AppError 422 for a webhook that is not the caller's, 409 for one unfinished job too many.
 */
export async function answerWithJob(
  deps: RecoveryRouteDeps,
  request: FastifyRequest,
  reply: FastifyReply,
  job: { trigger: JobRow['trigger']; filter: RecoveryFilter; dryRun: boolean },
) {
  const { db, clock, newId, audit } = deps;
  const { caller } = request;
  const { trigger } = job;
  const filter = { ...job.filter, owner: caller.owner };
  const named = filter.webhookId;
  if (named !== undefined && (await findWithin(deps, caller, named)) === undefined) throw unknownWebhook();
  const estimated = await estimate(db, caller, filter);
  if (job.dryRun) return showEstimate(filter, estimated);
  const now = new Date(clock.now());
  const made = { id: newId(), trigger, filter, estimate: estimated, now };
  const row = await insertJob(db, caller, made, (trx, inserted) =>
    audit.record(trx, auditorOf(request), {
      action: 'replay.created',
      ...auditedJob(inserted),
      after: showJob(inserted),
    }),
  );
  reply.code(202);
  return showJob(row);
}

function auditedJob(row: JobRow) {
  return { resourceType: 'replay', resourceId: formatId('replay', row.id) };
}
