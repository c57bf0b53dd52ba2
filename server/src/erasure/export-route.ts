import { Readable } from 'node:stream';
import { sql } from 'kysely';
import { Type } from 'typebox';
import { auditorOf } from '../audit/auditor.ts';
import type { AuditLog } from '../audit/log.ts';
import type { Database } from '../db/pool.ts';
import { attemptsOf, type DeliveryRow } from '../delivery/queries.ts';
import { showDelivery } from '../delivery/show.ts';
import { showAttempt } from '../delivery/show-attempt.ts';
import { findEvent } from '../events/queries.ts';
import { showEventWithData } from '../events/routes.ts';
import { requireAccess, type Scope } from '../http/caller.ts';
import type { HttpServer } from '../http/server.ts';
import type { Clock } from '../kernel/clock.ts';
import { firstIdAt, formatId } from '../kernel/ids.ts';
import { REVEALING } from '../masking/masker.ts';
import { findEvents, firstCursor } from './find-events.ts';
import { isAbout, readSubject, type Subject, SubjectBody } from './subject.ts';

/** `POST /api/v1/exports`: everything that is held of a person, as JSON Lines. */
export function registerExportRoute(app: HttpServer, deps: { db: Database; clock: Clock; audit: AuditLog }): void {
  const { db, clock, audit } = deps;
  app.post(
    '/api/v1/exports',
    {
      config: { permission: 'administer' },
      schema: {
        tags: ['Erasure and export'],
        summary: 'Export what is held of a person',
        description:
          'Every event of the environment that has the value at the path and was accepted before this request, with its ' +
          'deliveries and attempts, and samples of event types. JSON Lines: each line is an object whose `type` is ' +
          '`event_type_sample`, `event`, `delivery`, `attempt`, or at the very end `end` with the counts. A file without ' +
          'that last line was cut short.',
        body: SubjectBody,
        response: {
          200: {
            description: 'JSON Lines.',
            content: { 'application/x-ndjson': { schema: Type.Unsafe<Readable>({ type: 'string' }) } },
          },
        },
      },
    },
    async (request, reply) => {
      const { body, rawJson, caller } = request;
      // Nothing is masked in it: a person is told what is held of them as it is.
      requireAccess(caller, { permission: 'reveal' });
      const subject = readSubject(body, rawJson, clock.now());
      const scope = { tenantId: caller.tenantId, environmentId: caller.environmentId };
      const { path, sinceMs, untilMs } = subject;
      const since = sinceMs === undefined ? null : new Date(sinceMs).toISOString();
      // Nobody gets to see it without an entry. What was looked for is not in it.
      await db.transaction().execute((trx) =>
        audit.record(trx, auditorOf(request), {
          action: 'export.created',
          resourceType: 'environment',
          resourceId: formatId('environment', caller.environmentId),
          details: { path: path.join('.'), since, until: new Date(untilMs).toISOString() },
        }),
      );
      reply.header('content-disposition', 'attachment; filename="export.jsonl"');
      return reply
        .type('application/x-ndjson; charset=utf-8')
        .send(Readable.from(exportLines(db, scope, subject), { objectMode: true, highWaterMark: 1 }) as never);
    },
  );
}

/** Events whose deliveries are read before the next ones are looked for: memory holds the ids of so many. */
const EVENTS_AT_ONCE = 100;
const DELIVERIES_AT_ONCE = 100;

/** Reads on as the receiver takes the lines. */
async function* exportLines(db: Database, scope: Scope, subject: Subject): AsyncGenerator<string> {
  const counts = { events: 0, deliveries: 0, attempts: 0, event_type_samples: 0 };
  for (const sample of await samplesAbout(db, scope, subject)) {
    counts.event_type_samples += 1;
    yield line('event_type_sample', `"event_type":${JSON.stringify(sample.name)},"sample":${sample.sample}`);
  }
  for (let cursor = firstCursor(subject); ; ) {
    const found = await findEvents(db, scope, subject, cursor, EVENTS_AT_ONCE);
    for (const id of found.ids) {
      const event = await findEvent(db, scope, id);
      if (event === undefined) continue;
      counts.events += 1;
      yield line('event', showEventWithData(event, REVEALING).slice(1, -1));
      for await (const delivery of deliveriesOf(db, scope, id)) {
        counts.deliveries += 1;
        yield line('delivery', JSON.stringify(showDelivery(delivery, REVEALING)).slice(1, -1));
        for (const attempt of await attemptsOf(db, scope, delivery.id)) {
          counts.attempts += 1;
          yield line('attempt', JSON.stringify(showAttempt(attempt, Number.POSITIVE_INFINITY, REVEALING)).slice(1, -1));
        }
      }
    }
    if (found.isLast) break;
    cursor = found.cursor;
  }
  yield line('end', JSON.stringify(counts).slice(1, -1));
}

function line(type: string, members: string): string {
  return `{"type":"${type}",${members}}\n`;
}

async function samplesAbout(db: Database, scope: Scope, subject: Subject): Promise<{ name: string; sample: string }[]> {
  const found = await sql<{ name: string; sample: string }>`
    SELECT name, sample::text AS sample FROM event_types
    WHERE tenant_id = ${scope.tenantId} AND environment_id = ${scope.environmentId} AND sample IS NOT NULL
    ORDER BY name`.execute(db);
  return found.rows
    .filter(({ sample }) => isAbout(sample, subject))
    .map(({ name, sample }) => ({ name, sample: sample.replaceAll(/\r?\n/g, ' ') }));
}

async function* deliveriesOf(db: Database, scope: Scope, eventId: string): AsyncGenerator<DeliveryRow> {
  for (let after = firstIdAt(0); ; ) {
    const rows = await db
      .selectFrom('deliveries')
      .selectAll()
      .where('tenant_id', '=', scope.tenantId)
      .where('environment_id', '=', scope.environmentId)
      .where('event_id', '=', eventId)
      .where('id', '>', after)
      .orderBy('id')
      .limit(DELIVERIES_AT_ONCE)
      .execute();
    yield* rows;
    const last = rows.at(-1);
    if (last === undefined || rows.length < DELIVERIES_AT_ONCE) return;
    after = last.id;
  }
}
