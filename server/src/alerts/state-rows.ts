import type { Database } from '../db/pool.ts';
import type { State } from './judge.ts';
import type { RuleRow } from './rule-rows.ts';

/** What is remembered of a rule's subjects, by subject. */
export async function readStates(trx: Database, rule: RuleRow): Promise<Map<string, State>> {
  const rows = await trx
    .selectFrom('alert_states')
    .selectAll()
    .where('tenant_id', '=', rule.tenant_id)
    .where('environment_id', '=', rule.environment_id)
    .where('rule_id', '=', rule.id)
    .execute();
  return new Map(
    rows.map((row) => [
      row.subject_id,
      {
        breachingSinceMs: row.breaching_since.getTime(),
        clearSinceMs: row.clear_since?.getTime() ?? null,
        incidentId: row.incident_id,
      },
    ]),
  );
}

export async function writeState(trx: Database, rule: RuleRow, subject: string, state: State): Promise<void> {
  const values = {
    breaching_since: new Date(state.breachingSinceMs),
    clear_since: state.clearSinceMs === null ? null : new Date(state.clearSinceMs),
    incident_id: state.incidentId,
  };
  await trx
    .insertInto('alert_states')
    .values({
      tenant_id: rule.tenant_id,
      environment_id: rule.environment_id,
      rule_id: rule.id,
      subject_id: subject,
      ...values,
    })
    .onConflict((there) => there.columns(['tenant_id', 'environment_id', 'rule_id', 'subject_id']).doUpdateSet(values))
    .execute();
}

export async function removeState(trx: Database, rule: RuleRow, subject: string): Promise<void> {
  await trx
    .deleteFrom('alert_states')
    .where('tenant_id', '=', rule.tenant_id)
    .where('environment_id', '=', rule.environment_id)
    .where('rule_id', '=', rule.id)
    .where('subject_id', '=', subject)
    .execute();
}

/** Begins anew with all subjects of a rule. */
export async function removeStates(trx: Database, rule: RuleRow): Promise<void> {
  await trx
    .deleteFrom('alert_states')
    .where('tenant_id', '=', rule.tenant_id)
    .where('environment_id', '=', rule.environment_id)
    .where('rule_id', '=', rule.id)
    .execute();
}
