import type { Transaction } from 'kysely';
import { type Selectable, sql } from 'kysely';
import type { Database } from '../db/pool.ts';
import type { Tables } from '../db/tables.ts';
import type { Scope } from '../http/caller.ts';
import type { PageRequest } from '../http/pagination.ts';
import { formatId } from '../kernel/ids.ts';
import { addStreamEntry } from '../live/entries.ts';
import { notify } from '../tenants/queries.ts';
import { scopeOf } from './rule-rows.ts';
import { showIncident } from './shown.ts';

export type IncidentRow = Selectable<Tables['alert_incidents']>;

/** Why an incident is over. */
export type Resolution = 'recovered' | 'by_hand' | 'rule_changed' | 'rule_deleted' | 'webhook_deleted';

/** How long more requests may be under way after an incident fired that asks for it: what has not helped by then will not. */
const CAPACITY_MS = 30 * 60_000;

/** Resolved incidents are kept for so long. */
const KEPT_MS = 90 * 86_400_000;

export interface NewIncident
  extends Pick<
    IncidentRow,
    | 'tenant_id'
    | 'environment_id'
    | 'id'
    | 'rule_id'
    | 'rule_name'
    | 'metric'
    | 'threshold'
    | 'period_seconds'
    | 'action'
    | 'target_webhook_id'
    | 'webhook_id'
    | 'value'
  > {}

/** What incidents need beside the row: where the stream's entries get their ids. */
export type NewId = () => string;

export async function insertIncident(
  trx: Transaction<Tables>,
  incident: NewIncident,
  now: Date,
  newId: NewId,
): Promise<IncidentRow> {
  const scales = incident.action === 'scale_processing_capacity';
  const row = await trx
    .insertInto('alert_incidents')
    .values({
      ...incident,
      status: 'firing',
      worst_value: incident.value,
      last_value: incident.value,
      fired_at: now,
      capacity_until: scales ? new Date(now.getTime() + CAPACITY_MS) : null,
      announce_at: now,
    })
    .returningAll()
    .executeTakeFirstOrThrow();
  if (scales) await notify(trx, { topic: 'capacity', ...scopeOf(row) });
  await tellStream(trx, row, 'alert.fired', newId);
  return row;
}

/** Ends an incident; undefined when it has ended before. */
export async function resolveIncident(
  trx: Transaction<Tables>,
  scope: Scope,
  id: string,
  resolution: Resolution,
  now: Date,
  newId: NewId,
  value?: number | null,
): Promise<IncidentRow | undefined> {
  const row = await trx
    .updateTable('alert_incidents')
    .set({
      status: 'resolved',
      resolved_at: now,
      resolution,
      capacity_until: null,
      announce_at: now,
      ...(value != null && { last_value: value }),
    })
    .where('tenant_id', '=', scope.tenantId)
    .where('environment_id', '=', scope.environmentId)
    .where('id', '=', id)
    .where('status', '<>', 'resolved')
    .returningAll()
    .executeTakeFirst();
  if (row === undefined) return undefined;
  if (row.action === 'scale_processing_capacity') await notify(trx, { topic: 'capacity', ...scopeOf(row) });
  await tellStream(trx, row, 'alert.resolved', newId);
  return row;
}

/** Somebody looks after it; undefined when it is not firing. */
export async function acknowledgeIncident(
  trx: Transaction<Tables>,
  scope: Scope,
  id: string,
  by: string,
  now: Date,
  newId: NewId,
): Promise<IncidentRow | undefined> {
  const row = await trx
    .updateTable('alert_incidents')
    .set({ status: 'acknowledged', acknowledged_at: now, acknowledged_by: by })
    .where('tenant_id', '=', scope.tenantId)
    .where('environment_id', '=', scope.environmentId)
    .where('id', '=', id)
    .where('status', '=', 'firing')
    .returningAll()
    .executeTakeFirst();
  if (row !== undefined) await tellStream(trx, row, 'alert.acknowledged', newId);
  return row;
}

/** What was measured at the last look. */
export async function noteValue(trx: Database, scope: Scope, id: string, value: number): Promise<void> {
  await trx
    .updateTable('alert_incidents')
    .set({ last_value: value, worst_value: sql`greatest(worst_value, ${value})` })
    .where('tenant_id', '=', scope.tenantId)
    .where('environment_id', '=', scope.environmentId)
    .where('id', '=', id)
    .where('status', '<>', 'resolved')
    .execute();
}

export function openIncidentsOf(trx: Database, scope: Scope, ruleId: string): Promise<{ id: string }[]> {
  return trx
    .selectFrom('alert_incidents')
    .select('id')
    .where('tenant_id', '=', scope.tenantId)
    .where('environment_id', '=', scope.environmentId)
    .where('rule_id', '=', ruleId)
    .where('status', '<>', 'resolved')
    .execute();
}

export interface IncidentFilter {
  status?: IncidentRow['status'] | 'open' | undefined;
  ruleId?: string | undefined;
  webhookId?: string | undefined;
  metric?: string | undefined;
}

/** Newest first, one more than the page holds. */
export function listIncidents(
  db: Database,
  scope: Scope,
  filter: IncidentFilter,
  page: PageRequest,
): Promise<IncidentRow[]> {
  const { status, ruleId, webhookId, metric } = filter;
  return db
    .selectFrom('alert_incidents')
    .selectAll()
    .where('tenant_id', '=', scope.tenantId)
    .where('environment_id', '=', scope.environmentId)
    .$if(status === 'open', (query) => query.where('status', '<>', 'resolved'))
    .$if(status !== undefined && status !== 'open', (query) =>
      query.where('status', '=', status as IncidentRow['status']),
    )
    .$if(ruleId !== undefined, (query) => query.where('rule_id', '=', ruleId ?? ''))
    .$if(webhookId !== undefined, (query) => query.where('webhook_id', '=', webhookId ?? ''))
    .$if(metric !== undefined, (query) => query.where('metric', '=', metric ?? ''))
    .$if(page.beforeId !== undefined, (query) => query.where('id', '<', page.beforeId ?? ''))
    .orderBy('id', 'desc')
    .limit(page.limit + 1)
    .execute();
}

export function findIncident(db: Database, scope: Scope, id: string): Promise<IncidentRow | undefined> {
  return db
    .selectFrom('alert_incidents')
    .selectAll()
    .where('tenant_id', '=', scope.tenantId)
    .where('environment_id', '=', scope.environmentId)
    .where('id', '=', id)
    .executeTakeFirst();
}

/** Forgets incidents that were resolved more than ninety days ago; of all tenants. */
export async function purgeIncidents(db: Database, nowMs: number): Promise<void> {
  await sql`DELETE FROM alert_incidents WHERE resolved_at < ${new Date(nowMs - KEPT_MS)}`.execute(db);
}

/** Whether the owner of the webhook is told of it, too. */
export function isForOwner(row: Pick<IncidentRow, 'action' | 'webhook_id'>): boolean {
  return row.action === 'alert_endpoint_owner' && row.webhook_id !== null;
}

async function tellStream(
  trx: Transaction<Tables>,
  row: IncidentRow,
  type: 'alert.fired' | 'alert.acknowledged' | 'alert.resolved',
  newId: NewId,
): Promise<void> {
  const { acknowledged_by, ...data } = showIncident(row);
  await addStreamEntry(trx, scopeOf(row), {
    id: newId(),
    type,
    webhookId: row.webhook_id,
    forOwner: isForOwner(row),
    data: { incident_id: formatId('incident', row.id), ...data },
  });
}
