import { type Static, Type } from 'typebox';
import { auditorOf } from '../audit/auditor.ts';
import type { AuditLog } from '../audit/log.ts';
import type { Database } from '../db/pool.ts';
import { PageOf, PageQuery, readPage, toPage } from '../http/pagination.ts';
import type { HttpServer } from '../http/server.ts';
import type { Clock } from '../kernel/clock.ts';
import { formatId, type IdSource, parseId } from '../kernel/ids.ts';
import type { SecretBox } from '../kernel/secret-box.ts';
import { auditedJob, cancelJob, countsOf, insertJob, type JobRow, listJobs, requireJob } from './jobs.ts';
import { readSubject, SubjectBody } from './subject.ts';

const nullableText = Type.Union([Type.String(), Type.Null()]);

const ErasureShown = Type.Object(
  {
    id: Type.String(),
    status: Type.Enum(['queued', 'running', 'completed', 'cancelled', 'failed']),
    path: Type.String({ description: 'The value is not shown, and is forgotten when the job ends.' }),
    since: nullableText,
    until: Type.String(),
    looked_at_events: Type.Integer({ description: 'So far, as the counts that follow.' }),
    erased_events: Type.Integer(),
    erased_attempts: Type.Integer({ description: 'Attempts that lost headers, bodies and error texts.' }),
    discarded_deliveries: Type.Integer({ description: 'Deliveries that had not ended.' }),
    removed_dead_letters: Type.Integer(),
    erased_samples: Type.Integer({ description: 'Samples of event types.' }),
    removed_answers: Type.Integer({ description: 'Answers kept for an `Idempotency-Key`.' }),
    created_at: Type.String(),
    started_at: nullableText,
    completed_at: nullableText,
  },
  { $id: 'Erasure', title: 'Erasure' },
);

/** `/api/v1/erasures`: jobs that erase what is held of a person. */
export function registerErasureRoutes(
  app: HttpServer,
  deps: { db: Database; box: SecretBox; clock: Clock; newId: IdSource; audit: AuditLog },
): void {
  const { db, box, clock, newId, audit } = deps;
  const config = { permission: 'administer' } as const;
  const tags = ['Erasure and export'];
  app.addSchema(ErasureShown);

  app.post(
    '/api/v1/erasures',
    {
      config,
      schema: {
        tags,
        summary: 'Erase what is held of a person',
        description:
          'Of every event of the environment that has the value at the path, and was accepted before this request: ' +
          'data, metadata and ordering key; headers, bodies and error texts of its attempts; its dead letters. ' +
          'Deliveries of it that have not ended are discarded (`payload_erased`). Samples of event types that have the ' +
          'value at the path go too. For good. The work goes on after the answer, for two minutes longer where a ' +
          'delivery was under way.',
        body: SubjectBody,
        response: { 202: Type.Ref('Erasure') },
      },
    },
    async (request, reply) => {
      const { body, rawJson, caller } = request;
      const nowMs = clock.now();
      const subject = readSubject(body, rawJson, nowMs);
      const job = { id: newId(), subject, now: new Date(nowMs) };
      const row = await insertJob(db, box, caller, job, (trx, inserted) =>
        audit.record(trx, auditorOf(request), { action: 'erasure.created', ...auditedJob(inserted) }),
      );
      return reply.code(202).send(showJob(row));
    },
  );

  app.get(
    '/api/v1/erasures',
    {
      config,
      schema: {
        tags,
        summary: 'List erasures, newest first',
        description: 'Ended ones are kept for a year.',
        querystring: Type.Object(PageQuery),
        response: { 200: PageOf(Type.Ref('Erasure')) },
      },
    },
    async ({ query, caller }) => {
      const page = readPage(query);
      return toPage(await listJobs(db, caller, page), page.limit, (row) => row.id, showJob);
    },
  );

  const params = Type.Object({ id: Type.String({ description: '`ers_…`' }) });
  app.get(
    '/api/v1/erasures/:id',
    {
      config,
      schema: { tags, summary: 'An erasure with its progress', params, response: { 200: Type.Ref('Erasure') } },
    },
    async ({ params, caller }) => showJob(await requireJob(db, caller, parseId('erasure', params.id))),
  );

  app.delete(
    '/api/v1/erasures/:id',
    {
      config,
      schema: {
        tags,
        summary: 'Cancel an erasure',
        description: 'What it has erased so far stays erased.',
        params,
        response: { 200: Type.Ref('Erasure') },
      },
    },
    async (request) => {
      const id = parseId('erasure', request.params.id);
      const row = await cancelJob(db, request.caller, id, new Date(clock.now()), (trx, cancelled) =>
        audit.record(trx, auditorOf(request), { action: 'erasure.cancelled', ...auditedJob(cancelled) }),
      );
      return showJob(row);
    },
  );
}

function showJob(row: JobRow): Static<typeof ErasureShown> {
  return {
    id: formatId('erasure', row.id),
    status: row.status,
    path: row.path.join('.'),
    since: row.since_at?.toISOString() ?? null,
    until: row.until_at.toISOString(),
    ...countsOf(row),
    created_at: row.created_at.toISOString(),
    started_at: row.started_at?.toISOString() ?? null,
    completed_at: row.completed_at?.toISOString() ?? null,
  };
}
