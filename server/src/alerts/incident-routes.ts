import type { Transaction } from 'kysely';
import { Type } from 'typebox';
import { auditorOf } from '../audit/auditor.ts';
import type { Tables } from '../db/tables.ts';
import type { Caller, Scope } from '../http/caller.ts';
import { filterText } from '../http/filters.ts';
import { PageOf, PageQuery, readPage, toPage } from '../http/pagination.ts';
import type { HttpServer } from '../http/server.ts';
import { conflict, invalidField, notFound } from '../kernel/errors.ts';
import { formatId, type IdKind, parseId } from '../kernel/ids.ts';
import {
  acknowledgeIncident,
  findIncident,
  type IncidentRow,
  listIncidents,
  resolveIncident,
} from './incident-rows.ts';
import { stateAfterResolving, termsOf } from './judge.ts';
import { METRICS } from './metrics.ts';
import type { AlertRouteDeps } from './routes.ts';
import { ENVIRONMENT_SUBJECT, lockRule, termsOfRow } from './rule-rows.ts';
import { showIncident } from './shown.ts';
import { readStates, writeState } from './state-rows.ts';

const url = '/api/v1/alerts/incidents';
const tags = ['Alerts'];
const params = Type.Object({ id: Type.String({ description: '`inc_…`' }) });

/** `/api/v1/alerts/incidents`: what rules have fired, and what people do about it. */
export function registerIncidentRoutes(app: HttpServer, { db, clock, newId, audit }: AlertRouteDeps): void {
  app.get(
    url,
    {
      config: { permission: 'read' },
      schema: {
        tags,
        summary: 'List incidents, newest first',
        description: 'Resolved ones are kept for 90 days.',
        querystring: Type.Object({
          ...PageQuery,
          status: Type.Optional(
            Type.Enum(['open', 'firing', 'acknowledged', 'resolved'], {
              description: '`open`: firing or acknowledged.',
            }),
          ),
          rule_id: filterText(),
          webhook_id: filterText(),
          metric: Type.Optional(Type.Enum([...METRICS])),
        }),
        response: { 200: PageOf(Type.Ref('Incident')) },
      },
    },
    async ({ query, caller }) => {
      const page = readPage(query);
      const filter = {
        status: query.status,
        ruleId: idOf('alertRule', query.rule_id, 'rule_id'),
        webhookId: idOf('webhook', query.webhook_id, 'webhook_id'),
        metric: query.metric,
      };
      return toPage(await listIncidents(db, caller, filter, page), page.limit, (row) => row.id, showIncident);
    },
  );

  const require = async (scope: Scope, text: string): Promise<IncidentRow> => {
    const id = parseId('incident', text);
    const row = id === undefined ? undefined : await findIncident(db, scope, id);
    if (row === undefined) throw notFound('incident');
    return row;
  };

  app.get(
    `${url}/:id`,
    {
      config: { permission: 'read' },
      schema: { tags, summary: 'An incident', params, response: { 200: Type.Ref('Incident') } },
    },
    async ({ params: { id }, caller }) => showIncident(await require(caller, id)),
  );

  type Change = (trx: Transaction<Tables>, before: IncidentRow, caller: Caller) => Promise<IncidentRow | undefined>;

  /** What a caller does to an incident, which may be done already: then it is shown as it is. */
  const changes = (
    done: 'acknowledged' | 'resolved',
    path: string,
    about: { summary: string; description: string },
    change: Change,
  ) =>
    app.post(
      `${url}/:id/${path}`,
      {
        config: { permission: 'develop' },
        schema: { tags, ...about, params, response: { 200: Type.Ref('Incident') } },
      },
      async (request) => {
        const { caller, params: of } = request;
        const before = await require(caller, of.id);
        const changed = await db.transaction().execute(async (trx) => {
          const row = await change(trx, before, caller);
          if (row !== undefined) {
            await audit.record(trx, auditorOf(request), {
              ...audited(row, done),
              before: { status: before.status },
              after: { status: row.status },
            });
          }
          return row;
        });
        const row = changed ?? (await require(caller, of.id));
        if (done === 'acknowledged' && row.status === 'resolved') {
          throw conflict('incident_resolved', 'The incident is resolved already.');
        }
        return showIncident(row);
      },
    );

  changes(
    'acknowledged',
    'acknowledge',
    {
      summary: 'Say that somebody looks after an incident',
      description: 'It is resolved by itself all the same when all is well again.',
    },
    (trx, before, caller) => acknowledgeIncident(trx, caller, before.id, caller.actor.id, new Date(clock.now()), newId),
  );

  changes(
    'resolved',
    'resolve',
    { summary: 'Resolve an incident', description: 'Where it goes on all the same, it fires again after a period.' },
    async (trx, before, caller) => {
      const now = new Date(clock.now());
      // Before the incident, as who evaluates it does. It may be gone, and then its incidents are resolved.
      const rule = await lockRule(trx, caller, before.rule_id).catch(() => undefined);
      const row = await resolveIncident(trx, caller, before.id, 'by_hand', now, newId);
      if (row === undefined) return undefined;
      const subject = row.webhook_id ?? ENVIRONMENT_SUBJECT;
      if (rule !== undefined && (await readStates(trx, rule)).get(subject)?.incidentId === row.id) {
        const terms = termsOf(termsOfRow(rule));
        await writeState(trx, rule, subject, stateAfterResolving(terms, rule.period_seconds, now.getTime()));
      }
      return row;
    },
  );
}

function audited(row: IncidentRow, done: 'acknowledged' | 'resolved') {
  return { action: `incident.${done}`, resourceType: 'incident', resourceId: formatId('incident', row.id) } as const;
}

function idOf(kind: IdKind, text: string | undefined, path: string): string | undefined {
  if (text === undefined) return undefined;
  const id = parseId(kind, text);
  if (id === undefined) throw invalidField(path, 'is not an id of this kind');
  return id;
}
