import { Type } from 'typebox';
import { auditorOf } from '../../audit/auditor.ts';
import { filterText, readTimeFilter } from '../../http/filters.ts';
import { onlyPage, PageOf, PageQuery, readPage, toPage } from '../../http/pagination.ts';
import type { HttpServer } from '../../http/server.ts';
import { invalidField } from '../../kernel/errors.ts';
import { formatId, parseId } from '../../kernel/ids.ts';
import { orNull } from '../../webhooks/nullable.ts';
import { listDeadLetters } from '../queries.ts';
import { showDeadLetter } from '../show.ts';
import { DeadLetterShown } from '../shown.ts';
import { eventId, FilterFields, partOfType, readFilter, responseStatus, since, until } from './filter.ts';
import { namedEvent } from './named-event.ts';
import { purgeDeadLetters } from './purge.ts';
import { answerWithJob, dryRun, JOB_ANSWERS, type RecoveryRouteDeps } from './replay-routes.ts';

const FilterBody = { ...FilterFields, since: Type.Optional(orNull(since)), until: Type.Optional(orNull(until)) };

const tags = ['Dead letters'];

/** `/api/v1/dead-letters`: the list, and what can be done with many at once. */
export function registerDeadLetterRoutes(app: HttpServer, deps: RecoveryRouteDeps): void {
  const { db, clock, audit } = deps;
  app.addSchema(DeadLetterShown);

  app.get(
    '/api/v1/dead-letters',
    {
      config: { permission: 'read', portal: 'read' },
      schema: {
        tags,
        summary: 'List dead letters, newest delivery first',
        querystring: Type.Object({
          ...PageQuery,
          webhook_id: Type.Optional(Type.String()),
          event_id: eventId,
          event_type: filterText(),
          response_status: Type.Optional(responseStatus),
          since: Type.Optional(since),
          until: Type.Optional(Type.String({ format: 'date-time', description: 'Deliveries made before this time.' })),
          q: partOfType,
        }),
        response: { 200: PageOf(Type.Ref('DeadLetter')) },
      },
    },
    async ({ query, caller }) => {
      const page = readPage(query);
      const webhookId = query.webhook_id === undefined ? undefined : parseId('webhook', query.webhook_id);
      if (query.webhook_id !== undefined && webhookId === undefined) {
        throw invalidField('webhook_id', 'is not an id of this kind');
      }
      const event = query.event_id === undefined ? undefined : await deps.findEventId(caller, query.event_id);
      if (query.event_id !== undefined && event === undefined) return onlyPage([]);
      const filter = {
        webhookId,
        eventId: event,
        eventType: query.event_type,
        responseStatus: query.response_status,
        ...readTimeFilter(query),
        q: query.q,
      };
      return toPage(
        await listDeadLetters(db, caller, filter, page),
        page.limit,
        (row) => row.delivery_id,
        showDeadLetter,
      );
    },
  );

  app.post(
    '/api/v1/dead-letters/replay',
    {
      config: { permission: 'develop', portal: 'manage' },
      schema: {
        tags,
        summary: 'Deliver dead letters again',
        description: 'All of the environment, or those that the filter means. Progress is at `/api/v1/replays/{id}`.',
        body: Type.Object({ ...FilterBody, dry_run: dryRun }, { additionalProperties: false }),
        response: JOB_ANSWERS,
      },
    },
    async (request, reply) => {
      const { body, caller } = request;
      return answerWithJob(deps, request, reply, {
        trigger: 'dead_letters',
        filter: {
          ...readFilter(body, ['dead'], clock.now()),
          eventId: await namedEvent(deps, caller, body.event_id),
        },
        dryRun: body.dry_run === true,
      });
    },
  );

  app.post(
    '/api/v1/dead-letters/purge',
    {
      config: { permission: 'develop', portal: 'manage' },
      schema: {
        tags,
        summary: 'Remove dead letters',
        description:
          'All of the environment, or those that the filter means. Their deliveries stay on record as dead; no replay ' +
          'job takes them up again, a retry by hand does.',
        body: Type.Object(FilterBody, { additionalProperties: false }),
        response: { 200: Type.Object({ purged: Type.Integer() }) },
      },
    },
    async (request) => {
      const { body, caller } = request;
      const filter = {
        ...readFilter(body, ['dead'], clock.now()),
        eventId: await namedEvent(deps, caller, body.event_id),
        statuses: ['dead'] as const,
        owner: caller.owner,
      };
      const purged = await purgeDeadLetters(db, caller, filter, (trx, count) =>
        audit.record(trx, auditorOf(request), {
          action: 'dead_letters.purged',
          resourceType: 'environment',
          resourceId: formatId('environment', caller.environmentId),
          details: {
            count,
            // Its publisher's own id may say more than a log is to keep.
            filter: { ...body, ...(filter.eventId !== undefined && { event_id: formatId('event', filter.eventId) }) },
          },
        }),
      );
      return { purged };
    },
  );
}
