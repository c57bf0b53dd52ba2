import { type Static, Type } from 'typebox';
import { formatId } from '../kernel/ids.ts';
import type { IncidentRow } from './incident-rows.ts';
import { termsOf } from './judge.ts';
import { METRICS } from './metrics.ts';
import { showPeriod } from './period.ts';
import { type RuleRow, type RuleSettings, termsOfRow } from './rule-rows.ts';

const nullableText = Type.Union([Type.String(), Type.Null()]);

/** What a rule does when it fires, beside the `whk_…` of a webhook that is told. */
export const ACTIONS = ['alert_operations_team', 'alert_endpoint_owner', 'scale_processing_capacity'] as const;

/** The stored action of a rule that tells one webhook. */
export const NOTIFY_WEBHOOK = 'notify_webhook';

export const AlertRuleShown = Type.Object(
  {
    id: Type.String(),
    name: Type.String(),
    metric: Type.Enum([...METRICS]),
    threshold: Type.Number({ description: 'At this value and above it is breached.' }),
    resolve_threshold: Type.Number({ description: 'Below it, it is well again.' }),
    period: Type.String({ description: 'Such as `5m`.' }),
    for: Type.String({ description: 'It fires after being breached for so long.' }),
    minimum_samples: Type.Integer({ description: 'Attempts that a rate has to be of.' }),
    action: Type.String({
      description: `${ACTIONS.map((action) => `\`${action}\``).join(', ')} or a webhook's \`whk_…\`.`,
    }),
    scope: Type.Enum(['environment', 'webhook']),
    webhook_id: nullableText,
    is_active: Type.Boolean(),
    evaluated_at: nullableText,
    created_at: Type.String(),
    updated_at: Type.String(),
  },
  { $id: 'AlertRule', title: 'Alert rule' },
);

export const IncidentShown = Type.Object(
  {
    id: Type.String(),
    rule_id: Type.String(),
    rule_name: Type.String(),
    metric: Type.String(),
    threshold: Type.Number({ description: 'What the rule said when it fired, as the next two.' }),
    period: Type.String(),
    action: Type.String(),
    webhook_id: { ...nullableText, description: 'Null: the environment as a whole.' },
    status: Type.Enum(['firing', 'acknowledged', 'resolved']),
    value: Type.Number({ description: 'When it fired.' }),
    worst_value: Type.Number(),
    last_value: Type.Number(),
    fired_at: Type.String(),
    acknowledged_at: nullableText,
    acknowledged_by: nullableText,
    resolved_at: nullableText,
    resolution: {
      ...nullableText,
      description: '`recovered`, `by_hand`, `rule_changed`, `rule_deleted` or `webhook_deleted`.',
    },
    capacity_raised_until: { ...nullableText, description: 'More requests may be under way until then.' },
  },
  { $id: 'Incident', title: 'Incident' },
);

const iso = (time: Date | null): string | null => time?.toISOString() ?? null;

function showAction(row: Pick<RuleRow, 'action' | 'target_webhook_id'>): string {
  return row.target_webhook_id === null ? row.action : formatId('webhook', row.target_webhook_id);
}

/** Settings with the defaults where the rule says nothing. */
export function showSettings(row: RuleSettings) {
  const terms = termsOf(termsOfRow(row));
  return {
    name: row.name,
    metric: row.metric as (typeof METRICS)[number],
    threshold: row.threshold,
    resolve_threshold: terms.resolveBelow,
    period: showPeriod(row.period_seconds),
    for: showPeriod(terms.forMs / 1_000),
    minimum_samples: terms.samplesMin,
    action: showAction(row),
    scope: row.scope,
    webhook_id: row.webhook_id === null ? null : formatId('webhook', row.webhook_id),
    is_active: row.is_active,
  };
}

export function showRule(row: RuleRow): Static<typeof AlertRuleShown> {
  return {
    id: formatId('alertRule', row.id),
    ...showSettings(row),
    evaluated_at: iso(row.evaluated_at),
    created_at: row.created_at.toISOString(),
    updated_at: row.updated_at.toISOString(),
  };
}

export function showIncident(row: IncidentRow): Static<typeof IncidentShown> {
  return {
    id: formatId('incident', row.id),
    rule_id: formatId('alertRule', row.rule_id),
    rule_name: row.rule_name,
    metric: row.metric,
    threshold: row.threshold,
    period: showPeriod(row.period_seconds),
    action: showAction(row),
    webhook_id: row.webhook_id === null ? null : formatId('webhook', row.webhook_id),
    status: row.status,
    value: row.value,
    worst_value: row.worst_value,
    last_value: row.last_value,
    fired_at: row.fired_at.toISOString(),
    acknowledged_at: iso(row.acknowledged_at),
    acknowledged_by: row.acknowledged_by,
    resolved_at: iso(row.resolved_at),
    resolution: row.resolution,
    capacity_raised_until: iso(row.capacity_until),
  };
}
