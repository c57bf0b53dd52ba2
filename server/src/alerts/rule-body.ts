import { type Static, Type } from 'typebox';
import { leftAside } from '../http/left-aside.ts';
import { type FieldProblem, invalidFields } from '../kernel/errors.ts';
import { parseId } from '../kernel/ids.ts';
import { METRICS, metricOf } from './metrics.ts';
import { readPeriod } from './period.ts';
import type { RuleSettings } from './rule-rows.ts';
import { ACTIONS, NOTIFY_WEBHOOK } from './shown.ts';

const NAME = { lengthMax: 100, pattern: '^[^\\u0000-\\u001f]+$' } as const;
const Name = Type.String({ minLength: 1, maxLength: NAME.lengthMax, pattern: NAME.pattern });
const Period = Type.Union([Type.String({ maxLength: 8 }), Type.Integer()], {
  description: 'Such as `30s`, `5m`, `1h`, or a number of seconds: 10 seconds to a day.',
});
const orNull = <T extends Parameters<typeof Type.Union>[0][number]>(type: T) => Type.Union([type, Type.Null()]);

const fields = {
  name: Name,
  metric: Type.String({
    maxLength: 100,
    description: `${METRICS.map((metric) => `\`${metric}\``).join(', ')}. Without it, the metric of this name.`,
  }),
  threshold: Type.Number({
    description: 'Percent, milliseconds or a number, by the metric. At this value and above it is breached.',
  }),
  period: Period,
  action: Type.String({ maxLength: 100, description: `${ACTIONS.join(', ')}, or the id of a webhook that is told.` }),
  resolve_threshold: orNull(Type.Number({ description: 'Below it, it is well again (nine tenths of the threshold).' })),
  for: orNull(Period),
  minimum_samples: orNull(
    Type.Integer({
      minimum: 0,
      maximum: 1_000_000,
      description: 'Attempts a rate has to be of (10); of other metrics 0.',
    }),
  ),
  scope: Type.Enum(['environment', 'webhook'], {
    description:
      'What is judged: the environment as a whole, or each webhook by itself. By the action and `webhook_id`.',
  }),
  webhook_id: orNull(Type.String({ description: 'Only this webhook.' })),
  is_active: Type.Boolean(),
};

export const RuleChange = Type.Partial(Type.Object(fields), { additionalProperties: false });
export type RuleChange = Static<typeof RuleChange>;

/** The same, as what GET answers can be sent back in it. */
export const RuleChangeBody = Type.Object(
  { ...RuleChange.properties, ...leftAside('id', 'evaluated_at', 'created_at', 'updated_at') },
  { additionalProperties: false },
);

/** Rules by name, as call-center.md prints them. What a name may be is for `refuseBadNames` to say. */
export const RulesByName = Type.Record(Type.String(), RuleChange, { minProperties: 1, maxProperties: 100 });

/** A schema of named members holds for their values alone. @throws AppError 422 for a name that no rule may have. */
export function refuseBadNames(names: readonly string[]): void {
  const pattern = new RegExp(NAME.pattern);
  const bad = names.filter((name) => [...name].length > NAME.lengthMax || !pattern.test(name));
  const message = `is no name of a rule: it must have 1 to ${NAME.lengthMax} characters, none of them a control character`;
  if (bad.length > 0) throw invalidFields(bad.map((name) => ({ path: name.slice(0, NAME.lengthMax), message })));
}

const PERIOD_SECONDS = { min: 10, max: 86_400 };

/** What a new rule says where its body says nothing. */
const BLANK = {
  resolve_threshold: null,
  for_seconds: null,
  minimum_samples: null,
  target_webhook_id: null,
  scope: 'environment',
  webhook_id: null,
  is_active: true,
} as const;

/**
 * The settings of a rule after a change; absent leaves, null clears.
 *
 * @param at what paths of problems begin with, e.g. `queue_backlog.`.
 * @throws AppError 422
 */
export function applyRuleChange(before: RuleSettings | undefined, change: RuleChange, at = ''): RuleSettings {
  const problems: FieldProblem[] = [];
  const wrong = (path: string, message: string) => void problems.push({ path: `${at}${path}`, message });
  for (const field of before === undefined ? (['threshold', 'period', 'action'] as const) : []) {
    if (change[field] === undefined) wrong(field, 'is needed');
  }
  const metric = change.metric ?? (before === undefined ? change.name : before.metric);
  const known = metric === undefined ? undefined : metricOf(metric);
  if (known === undefined) wrong('metric', `must be one of ${METRICS.join(', ')}`);
  const seconds = (path: 'period' | 'for', min: number): number | null | undefined => {
    const given = change[path];
    if (given === undefined || given === null) return given;
    const read = readPeriod(given);
    if (read === undefined || read < min || read > PERIOD_SECONDS.max) {
      wrong(path, `must be a time from ${min} seconds to a day, such as 30s, 5m or 1h`);
    }
    return read;
  };
  const period = seconds('period', PERIOD_SECONDS.min);
  const forSeconds = seconds('for', 0);
  const action = change.action === undefined ? undefined : readAction(change.action);
  if (change.action !== undefined && action === undefined) {
    wrong('action', `must be ${ACTIONS.join(', ')}, or the id of a webhook`);
  }
  let webhookId = before?.webhook_id ?? null;
  if (change.webhook_id !== undefined) {
    webhookId = change.webhook_id === null ? null : (parseId('webhook', change.webhook_id) ?? null);
    if (change.webhook_id !== null && webhookId === null) wrong('webhook_id', 'is not an id of a webhook');
  }
  const settings: RuleSettings = {
    ...BLANK,
    period_seconds: 0,
    threshold: 0,
    action: '',
    ...before,
    name: change.name ?? before?.name ?? known ?? '',
    metric: known ?? '',
    webhook_id: webhookId,
    ...(change.threshold !== undefined && { threshold: change.threshold }),
    ...(period != null && { period_seconds: period }),
    ...action,
    ...(change.resolve_threshold !== undefined && { resolve_threshold: change.resolve_threshold }),
    ...(forSeconds !== undefined && { for_seconds: forSeconds }),
    ...(change.minimum_samples !== undefined && { minimum_samples: change.minimum_samples }),
    ...(change.is_active !== undefined && { is_active: change.is_active }),
  };
  // An owner is one webhook's, so each is judged by itself.
  const byWebhook = webhookId !== null || settings.action === 'alert_endpoint_owner';
  const changesScope = change.action !== undefined || change.webhook_id !== undefined;
  settings.scope =
    change.scope ?? (before !== undefined && !changesScope ? before.scope : byWebhook ? 'webhook' : 'environment');
  if (byWebhook && settings.scope === 'environment') wrong('scope', 'must be webhook for one webhook, or for owners');
  const max = settings.metric === 'delivery_failure_rate' ? 100 : 1_000_000_000;
  if (!(settings.threshold > 0 && settings.threshold <= max)) wrong('threshold', `must be above 0 and at most ${max}`);
  const resolve = settings.resolve_threshold;
  if (resolve !== null && !(resolve > 0 && resolve <= settings.threshold)) {
    wrong('resolve_threshold', 'must be above 0 and at most the threshold');
  }
  if (problems.length > 0) throw invalidFields(problems);
  return settings;
}

function readAction(text: string): Pick<RuleSettings, 'action' | 'target_webhook_id'> | undefined {
  if (ACTIONS.some((action) => action === text)) return { action: text, target_webhook_id: null };
  const webhookId = parseId('webhook', text);
  return webhookId === undefined ? undefined : { action: NOTIFY_WEBHOOK, target_webhook_id: webhookId };
}
