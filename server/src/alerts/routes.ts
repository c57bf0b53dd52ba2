import type { Transaction } from 'kysely';
import { Type } from 'typebox';
import { auditorOf } from '../audit/auditor.ts';
import type { AuditLog } from '../audit/log.ts';
import type { Database } from '../db/pool.ts';
import type { Tables } from '../db/tables.ts';
import { type Caller, requirePermission } from '../http/caller.ts';
import { PageOf, PageQuery, readPage, toPage } from '../http/pagination.ts';
import type { HttpServer } from '../http/server.ts';
import type { Clock } from '../kernel/clock.ts';
import { invalidField } from '../kernel/errors.ts';
import { formatId, type IdSource, parseId } from '../kernel/ids.ts';
import { lockEnvironment } from '../tenants/environment-preset.ts';
import type { WebhookDirectory } from '../webhooks/directory.ts';
import { registerIncidentRoutes } from './incident-routes.ts';
import { openIncidentsOf, type Resolution, resolveIncident } from './incident-rows.ts';
import { applyRuleChange, RuleChange, RuleChangeBody, RulesByName, refuseBadNames } from './rule-body.ts';
import {
  deleteRule,
  findRuleByName,
  insertRule,
  listRules,
  lockRule,
  type RuleRow,
  type RuleSettings,
  requireRule,
  scopeOf,
  updateRule,
} from './rule-rows.ts';
import { AlertRuleShown, IncidentShown, showRule, showSettings } from './shown.ts';
import { removeStates } from './state-rows.ts';

export interface AlertRouteDeps {
  db: Database;
  clock: Clock;
  newId: IdSource;
  audit: AuditLog;
  webhooks: WebhookDirectory;
}

const url = '/api/v1/alerts/rules';
const tags = ['Alerts'];
const params = Type.Object({ id: Type.String({ description: '`alr_…`' }) });

/** `/api/v1/alerts`: rules, and the incidents that they fire. */
export function registerAlertRoutes(app: HttpServer, deps: AlertRouteDeps): void {
  const { db, clock, newId, audit } = deps;
  app.addSchema(AlertRuleShown);
  app.addSchema(IncidentShown);

  app.get(
    url,
    {
      config: { permission: 'read' },
      schema: {
        tags,
        summary: 'List alert rules, newest first',
        querystring: Type.Object(PageQuery),
        response: { 200: PageOf(Type.Ref('AlertRule')) },
      },
    },
    async ({ query, caller }) => {
      const page = readPage(query);
      return toPage(await listRules(db, caller, page), page.limit, (row) => row.id, showRule);
    },
  );

  app.post(
    url,
    {
      config: { permission: 'develop' },
      schema: {
        tags,
        summary: 'Create an alert rule, or several by their names',
        description:
          'One rule; or an object of rules by name, which makes those that are not there and changes the others. A rule ' +
          'without a `metric` watches the metric that it is named after. The action `scale_processing_capacity` needs ' +
          'the permission `administer`.',
        body: Type.Union([RuleChange, RulesByName]),
        response: {
          201: Type.Union([Type.Ref('AlertRule'), Type.Object({ data: Type.Array(Type.Ref('AlertRule')) })]),
        },
      },
    },
    async (request, reply) => {
      const { body, caller } = request;
      const now = new Date(clock.now());
      if (isOneRule(body)) {
        const settings = applyRuleChange(undefined, body);
        await judge(deps, caller, settings, '');
        const row = await db.transaction().execute((trx) => create(trx, request, settings, now));
        return reply.code(201).send(showRule(row));
      }
      const given = Object.entries(body);
      refuseBadNames(given.map(([name]) => name));
      const rows = await db.transaction().execute(async (trx) => {
        await lockEnvironment(trx, caller);
        const done: RuleRow[] = [];
        for (const [name, change] of given) {
          const before = await findRuleByName(trx, caller, name);
          const settings = applyRuleChange(before && settingsOf(before), { name, ...change }, `${name}.`);
          await judge(deps, caller, settings, `${name}.`);
          done.push(
            before === undefined
              ? await create(trx, request, settings, now)
              : await changeRule(trx, request, before, settings, now),
          );
        }
        return done;
      });
      return reply.code(201).send({ data: rows.map(showRule) });
    },
  );

  app.get(
    `${url}/:id`,
    {
      config: { permission: 'read' },
      schema: { tags, summary: 'An alert rule', params, response: { 200: Type.Ref('AlertRule') } },
    },
    async ({ params: { id }, caller }) => showRule(await requireRule(db, caller, parseId('alertRule', id))),
  );

  for (const method of ['PUT', 'PATCH'] as const) {
    app.route({
      method,
      url: `${url}/:id`,
      config: { permission: 'develop' },
      schema: {
        tags,
        summary: 'Change an alert rule',
        description:
          'Absent fields stay, null clears. With another metric, scope or webhook, or when it is switched off, its open ' +
          'incidents are resolved.',
        params,
        body: RuleChangeBody,
        response: { 200: Type.Ref('AlertRule') },
      },
      handler: async (request) => {
        const { caller } = request;
        const id = parseId('alertRule', (request.params as { id: string }).id);
        const now = new Date(clock.now());
        const row = await db.transaction().execute(async (trx) => {
          // Before the rule, as where rules are made: two that exchange their names would wait for each other's rule.
          await lockEnvironment(trx, caller);
          const before = await lockRule(trx, caller, id);
          const settings = applyRuleChange(settingsOf(before), request.body as RuleChange);
          await judge(deps, caller, settings, '');
          return changeRule(trx, request, before, settings, now);
        });
        return showRule(row);
      },
    });
  }

  app.delete(
    `${url}/:id`,
    {
      config: { permission: 'develop' },
      schema: {
        tags,
        summary: 'Delete an alert rule',
        description: 'Its open incidents are resolved; all of them stay to be read.',
        params,
        response: { 204: Type.Null() },
      },
    },
    async (request, reply) => {
      const id = parseId('alertRule', request.params.id);
      await db.transaction().execute(async (trx) => {
        const row = await lockRule(trx, request.caller, id);
        await resolveAll(trx, row, 'rule_deleted', new Date(clock.now()));
        await deleteRule(trx, row);
        await audit.record(trx, auditorOf(request), { ...audited(row, 'deleted'), before: showSettings(row) });
      });
      return reply.code(204).send(null);
    },
  );

  type Asking = Parameters<typeof auditorOf>[0];

  async function create(trx: Transaction<Tables>, request: Asking, settings: RuleSettings, now: Date) {
    const row = await insertRule(trx, request.caller, { id: newId(), settings, now });
    await audit.record(trx, auditorOf(request), { ...audited(row, 'created'), after: showSettings(row) });
    return row;
  }

  async function changeRule(
    trx: Transaction<Tables>,
    request: Asking,
    before: RuleRow,
    settings: RuleSettings,
    now: Date,
  ) {
    const row = await updateRule(trx, before, settings, now);
    const watchesElse = (['metric', 'scope', 'webhook_id'] as const).some((field) => before[field] !== row[field]);
    if (watchesElse || !row.is_active) {
      await resolveAll(trx, row, 'rule_changed', now);
      await removeStates(trx, row);
    }
    const done = { before: showSettings(before), after: showSettings(row) };
    await audit.record(trx, auditorOf(request), { ...audited(row, 'updated'), ...done });
    return row;
  }

  async function resolveAll(trx: Transaction<Tables>, rule: RuleRow, resolution: Resolution, now: Date) {
    for (const { id } of await openIncidentsOf(trx, scopeOf(rule), rule.id)) {
      await resolveIncident(trx, scopeOf(rule), id, resolution, now, newId);
    }
  }

  registerIncidentRoutes(app, deps);
}

/** A rule has these itself; in an object of rules by name they would be rules, which are objects. */
function isOneRule(body: object): body is RuleChange {
  return (
    Object.values(body).some((value) => typeof value !== 'object' || value === null) || Object.keys(body).length === 0
  );
}

/** @throws AppError 403 for what the caller may not ask for; 422 for a webhook that is not the environment's. */
async function judge({ webhooks }: AlertRouteDeps, caller: Caller, settings: RuleSettings, at: string): Promise<void> {
  // It is the platform's capacity, within the operator's bounds.
  if (settings.action === 'scale_processing_capacity') requirePermission(caller, 'administer');
  for (const [field, id] of [
    ['webhook_id', settings.webhook_id],
    ['action', settings.target_webhook_id],
  ] as const) {
    if (id !== null && (await webhooks.find(caller, id)) === undefined) {
      throw invalidField(`${at}${field}`, 'is not the id of a webhook of this environment');
    }
  }
}

function settingsOf(row: RuleRow): RuleSettings {
  const { name, metric, threshold, resolve_threshold, for_seconds, minimum_samples, period_seconds } = row;
  const { action, target_webhook_id, scope, webhook_id, is_active } = row;
  return {
    ...{ name, metric, threshold, resolve_threshold, for_seconds, minimum_samples, period_seconds },
    ...{ action, target_webhook_id, scope, webhook_id, is_active },
  };
}

function audited(row: RuleRow, done: 'created' | 'updated' | 'deleted') {
  return {
    action: `alert_rule.${done}`,
    resourceType: 'alert_rule',
    resourceId: formatId('alertRule', row.id),
  } as const;
}
