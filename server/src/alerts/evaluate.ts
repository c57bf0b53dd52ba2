import type { Transaction } from 'kysely';
import { type Database, isDatabaseGone } from '../db/pool.ts';
import type { Tables } from '../db/tables.ts';
import type { Clock } from '../kernel/clock.ts';
import type { IdSource } from '../kernel/ids.ts';
import { insertIncident, noteValue, resolveIncident } from './incident-rows.ts';
import { judge, type Sample, type State, termsOf, type Verdict } from './judge.ts';
import { measure } from './measure.ts';
import { kindOf, type Metric } from './metrics.ts';
import { ENVIRONMENT_SUBJECT, type RuleRow, scopeOf, takeDueRule, termsOfRow } from './rule-rows.ts';
import { readStates, removeState, writeState } from './state-rows.ts';

/** A rule is looked at four times a period, within these bounds. */
const EVERY_MS_MIN = 5_000;
const EVERY_MS_MAX = 30_000;

/** A rule that cannot be looked at, because the look takes too long for example, has its turn again after so long. */
const FAILED_AGAIN_MS = 60_000;

/** Incidents that one look at a rule may fire; the others of a landslide fire at the next looks. */
const FIRED_MAX = 50;

export interface EvaluateDeps {
  db: Database;
  clock: Clock;
  newId: IdSource;
}

/**
 * Looks at the rule that is due for the longest time; false when none is. The rule is locked meanwhile, and all that
 * follows from the look is one transaction: of several nodes one does it, and a process that is killed has done nothing.
 */
export async function evaluateNext({ db, clock, newId }: EvaluateDeps): Promise<boolean> {
  const taken: { rule?: RuleRow } = {};
  try {
    return await db.transaction().execute(async (trx) => {
      const now = new Date(clock.now());
      const rule = await takeDueRule(trx, now);
      if (rule === undefined) return false;
      taken.rule = rule;
      await evaluate(trx, rule, now, newId);
      const everyMs = Math.min(Math.max(rule.period_seconds * 250, EVERY_MS_MIN), EVERY_MS_MAX);
      await plan(trx, rule, { evaluated_at: now, next_evaluation_at: new Date(now.getTime() + everyMs) });
      return true;
    });
  } catch (error) {
    // It would be the first in line for ever, and keep all other rules from being looked at.
    if (taken.rule !== undefined && !isDatabaseGone(error)) {
      await plan(db, taken.rule, { next_evaluation_at: new Date(clock.now() + FAILED_AGAIN_MS) });
    }
    throw error;
  }
}

async function plan(
  db: Database,
  rule: RuleRow,
  times: { evaluated_at?: Date; next_evaluation_at: Date },
): Promise<void> {
  await db
    .updateTable('alert_rules')
    .set(times)
    .where('tenant_id', '=', rule.tenant_id)
    .where('environment_id', '=', rule.environment_id)
    .where('id', '=', rule.id)
    .execute();
}

async function evaluate(trx: Transaction<Tables>, rule: RuleRow, now: Date, newId: IdSource): Promise<void> {
  const [states, samples] = [await readStates(trx, rule), await measure(trx, rule, now.getTime())];
  const terms = termsOf(termsOfRow(rule));
  const gone = await goneWebhooks(
    trx,
    rule,
    [...states.keys()].filter((subject) => subject !== ENVIRONMENT_SUBJECT && !samples.has(subject)),
  );
  let fired = 0;
  for (const subject of new Set([...states.keys(), ...samples.keys()])) {
    const before = states.get(subject);
    if (gone.has(subject)) {
      await forget(trx, rule, subject, before, now, newId);
      continue;
    }
    const verdict = judge(terms, before, samples.get(subject) ?? nothing(rule), now.getTime());
    if (verdict.kind === 'fire') fired += 1;
    if (verdict.kind !== 'fire' || fired <= FIRED_MAX) await act(trx, rule, subject, before, verdict, now, newId);
  }
}

async function act(
  trx: Transaction<Tables>,
  rule: RuleRow,
  subject: string,
  before: State | undefined,
  verdict: Verdict,
  now: Date,
  newId: IdSource,
): Promise<void> {
  const scope = scopeOf(rule);
  switch (verdict.kind) {
    case 'well':
      if (before !== undefined) await removeState(trx, rule, subject);
      return;
    case 'pending':
      await writeState(trx, rule, subject, verdict.state);
      return;
    case 'fire': {
      const id = newId();
      await insertIncident(trx, incidentOf(rule, id, subject, verdict.value), now, newId);
      await writeState(trx, rule, subject, { ...verdict.state, incidentId: id });
      return;
    }
    case 'firing':
      await writeState(trx, rule, subject, verdict.state);
      if (verdict.value !== null) await noteValue(trx, scope, verdict.state.incidentId ?? '', verdict.value);
      return;
    case 'resolve':
      await resolveIncident(trx, scope, before?.incidentId ?? '', 'recovered', now, newId, verdict.value);
      await removeState(trx, rule, subject);
      return;
  }
}

function incidentOf(rule: RuleRow, id: string, subject: string, value: number) {
  return {
    tenant_id: rule.tenant_id,
    environment_id: rule.environment_id,
    id,
    rule_id: rule.id,
    rule_name: rule.name,
    metric: rule.metric,
    threshold: rule.threshold,
    period_seconds: rule.period_seconds,
    action: rule.action,
    target_webhook_id: rule.target_webhook_id,
    webhook_id: subject === ENVIRONMENT_SUBJECT ? null : subject,
    value,
  };
}

/** Of a rate that was not measured nothing is known; of what is counted there is none. */
function nothing(rule: RuleRow): Sample {
  return { value: kindOf(rule.metric as Metric) === 'rate' ? null : 0, samples: 0 };
}

async function goneWebhooks(trx: Database, rule: RuleRow, ids: readonly string[]): Promise<Set<string>> {
  if (ids.length === 0) return new Set();
  const rows = await trx
    .selectFrom('webhooks')
    .select('id')
    .where('tenant_id', '=', rule.tenant_id)
    .where('environment_id', '=', rule.environment_id)
    .where('id', 'in', ids)
    .execute();
  const there = new Set(rows.map(({ id }) => id));
  return new Set(ids.filter((id) => !there.has(id)));
}

async function forget(
  trx: Transaction<Tables>,
  rule: RuleRow,
  subject: string,
  before: State | undefined,
  now: Date,
  newId: IdSource,
): Promise<void> {
  if (before?.incidentId != null) {
    await resolveIncident(trx, scopeOf(rule), before.incidentId, 'webhook_deleted', now, newId);
  }
  await removeState(trx, rule, subject);
}
