import { type Selectable, sql, type Transaction } from 'kysely';
import type { Database } from '../db/pool.ts';
import type { Tables } from '../db/tables.ts';
import type { Scope } from '../http/caller.ts';
import type { PageRequest } from '../http/pagination.ts';
import { conflict, notFound } from '../kernel/errors.ts';
import { lockEnvironment } from '../tenants/environment-preset.ts';
import type { RuleTerms } from './judge.ts';
import type { Metric } from './metrics.ts';

export type RuleRow = Selectable<Tables['alert_rules']>;

/** What a rule says, as it is stored. */
export type RuleSettings = Pick<
  RuleRow,
  | 'name'
  | 'metric'
  | 'threshold'
  | 'resolve_threshold'
  | 'for_seconds'
  | 'minimum_samples'
  | 'period_seconds'
  | 'action'
  | 'target_webhook_id'
  | 'scope'
  | 'webhook_id'
  | 'is_active'
>;

/** Rules of an environment: each is a look at the database several times a minute. */
const RULES_MAX = 100;

/** The subject of a rule that looks at its environment as a whole. */
export const ENVIRONMENT_SUBJECT = '00000000-0000-0000-0000-000000000000';

export function termsOfRow(row: RuleSettings): RuleTerms {
  return {
    metric: row.metric as Metric,
    threshold: row.threshold,
    resolveThreshold: row.resolve_threshold,
    periodSeconds: row.period_seconds,
    forSeconds: row.for_seconds,
    minimumSamples: row.minimum_samples,
  };
}

/** @throws AppError 409 for a name that is taken, and for one rule too many; 404 when the environment is gone. */
export async function insertRule(
  trx: Transaction<Tables>,
  scope: Scope,
  rule: { id: string; settings: RuleSettings; now: Date },
): Promise<RuleRow> {
  await lockEnvironment(trx, scope);
  const { count } = await trx
    .selectFrom('alert_rules')
    .select(({ fn }) => fn.countAll<number>().as('count'))
    .where('tenant_id', '=', scope.tenantId)
    .where('environment_id', '=', scope.environmentId)
    .executeTakeFirstOrThrow();
  if (count >= RULES_MAX)
    throw conflict('too_many_alert_rules', `An environment has at most ${RULES_MAX} alert rules.`);
  const row = await trx
    .insertInto('alert_rules')
    .values({
      tenant_id: scope.tenantId,
      environment_id: scope.environmentId,
      id: rule.id,
      ...rule.settings,
      next_evaluation_at: rule.now,
      created_at: rule.now,
      updated_at: rule.now,
    })
    .onConflict((clash) => clash.columns(['tenant_id', 'environment_id', 'name']).doNothing())
    .returningAll()
    .executeTakeFirst();
  if (row === undefined) throw nameTaken(rule.settings.name);
  return row;
}

/** The environment is locked, so that nobody gives the name meanwhile. @throws AppError 409 for a name that is taken. */
export async function updateRule(trx: Database, before: RuleRow, settings: RuleSettings, now: Date): Promise<RuleRow> {
  if (settings.name !== before.name && (await findRuleByName(trx, scopeOf(before), settings.name)) !== undefined) {
    throw nameTaken(settings.name);
  }
  return trx
    .updateTable('alert_rules')
    .set({ ...settings, next_evaluation_at: now, updated_at: now })
    .where('tenant_id', '=', before.tenant_id)
    .where('environment_id', '=', before.environment_id)
    .where('id', '=', before.id)
    .returningAll()
    .executeTakeFirstOrThrow();
}

export async function deleteRule(trx: Database, row: RuleRow): Promise<void> {
  await trx
    .deleteFrom('alert_rules')
    .where('tenant_id', '=', row.tenant_id)
    .where('environment_id', '=', row.environment_id)
    .where('id', '=', row.id)
    .execute();
}

/** Newest first, one more than the page holds. */
export function listRules(db: Database, scope: Scope, page: PageRequest): Promise<RuleRow[]> {
  return rules(db, scope)
    .$if(page.beforeId !== undefined, (query) => query.where('id', '<', page.beforeId ?? ''))
    .orderBy('id', 'desc')
    .limit(page.limit + 1)
    .execute();
}

/** @throws AppError 404 */
export async function requireRule(db: Database, scope: Scope, id: string | undefined): Promise<RuleRow> {
  const row = id === undefined ? undefined : await rules(db, scope).where('id', '=', id).executeTakeFirst();
  if (row === undefined) throw notFound('alert rule');
  return row;
}

/** Held until the transaction ends, so that it is neither evaluated nor changed meanwhile. @throws AppError 404 */
export async function lockRule(trx: Database, scope: Scope, id: string | undefined): Promise<RuleRow> {
  const row =
    id === undefined ? undefined : await rules(trx, scope).where('id', '=', id).forUpdate().executeTakeFirst();
  if (row === undefined) throw notFound('alert rule');
  return row;
}

export function findRuleByName(db: Database, scope: Scope, name: string): Promise<RuleRow | undefined> {
  return rules(db, scope).where('name', '=', name).forUpdate().executeTakeFirst();
}

export function scopeOf(row: { tenant_id: string; environment_id: string }): Scope {
  return { tenantId: row.tenant_id, environmentId: row.environment_id };
}

/** The rule that is due for the longest time and that no other node has in hand. For all tenants but suspended ones. */
export async function takeDueRule(trx: Database, now: Date): Promise<RuleRow | undefined> {
  const result = await sql<RuleRow>`
    SELECT r.* FROM alert_rules r
    WHERE r.is_active AND r.next_evaluation_at <= ${now}
      AND NOT EXISTS (SELECT FROM tenants t WHERE t.id = r.tenant_id AND t.suspended_at IS NOT NULL)
    ORDER BY r.next_evaluation_at LIMIT 1
    FOR UPDATE OF r SKIP LOCKED`.execute(trx);
  return result.rows[0];
}

function rules(db: Database, scope: Scope) {
  return db
    .selectFrom('alert_rules')
    .selectAll()
    .where('tenant_id', '=', scope.tenantId)
    .where('environment_id', '=', scope.environmentId);
}

function nameTaken(name: string) {
  return conflict('name_taken', `There is an alert rule named ${JSON.stringify(name)} already.`);
}
