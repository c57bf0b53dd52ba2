import { sql } from 'kysely';
import { type Figures, readQueue, readWindow, readWindowByWebhook } from '../analytics/window.ts';
import type { Database } from '../db/pool.ts';
import type { Scope } from '../http/caller.ts';
import type { OperationalType } from '../webhooks/operational-types.ts';
import type { Sample } from './judge.ts';
import type { Metric } from './metrics.ts';
import { ENVIRONMENT_SUBJECT, type RuleRow, scopeOf } from './rule-rows.ts';

/** An alert that cannot be delivered is no reason for the next one, which could not be either. */
const OWN_TYPES = ['alert.fired', 'alert.resolved'] as const satisfies OperationalType[];

/** Waiting deliveries are counted up to here. */
const COUNTED_MAX = 100_000;

/**
 * What a rule's metric is at the moment: of its environment, or of each webhook of it by id. Webhooks of which there is
 * nothing to say may be left out.
 */
export async function measure(db: Database, rule: RuleRow, nowMs: number): Promise<Map<string, Sample>> {
  const metric = rule.metric as Metric;
  const scope = scopeOf(rule);
  switch (metric) {
    case 'delivery_failure_rate':
    case 'response_time_p95':
    case 'response_time':
    case 'dead_letters':
      return measureWindow(db, rule, metric, nowMs);
    case 'queue_backlog':
      return measureBacklog(db, rule, nowMs);
    case 'webhook_disabled':
      return countByWebhook(rule, await webhookIds(db, scope, 'disabled'));
    case 'circuit_open':
      return countByWebhook(rule, await webhookIds(db, scope, 'circuit open'));
  }
}

async function measureWindow(
  db: Database,
  rule: RuleRow,
  metric: 'delivery_failure_rate' | 'response_time_p95' | 'response_time' | 'dead_letters',
  nowMs: number,
): Promise<Map<string, Sample>> {
  const [scope, window] = [scopeOf(rule), { seconds: rule.period_seconds, nowMs }];
  if (rule.scope === 'environment') {
    return new Map([
      [ENVIRONMENT_SUBJECT, sampleOf(await readWindow(db, scope, window, { without: OWN_TYPES }), metric)],
    ]);
  }
  const ids = rule.webhook_id === null ? await webhookIds(db, scope) : [rule.webhook_id];
  const figures = ids.length === 0 ? [] : await readWindowByWebhook(db, scope, window, ids, OWN_TYPES);
  return new Map([...figures].map(([webhookId, each]) => [webhookId, sampleOf(each, metric)]));
}

function sampleOf(figures: Figures, metric: Metric): Sample {
  const { attempts, failureRate, responseTime, dead } = figures;
  switch (metric) {
    case 'delivery_failure_rate':
      return { value: failureRate, samples: attempts };
    case 'response_time_p95':
      return { value: responseTime?.p95Ms ?? null, samples: attempts };
    case 'response_time':
      return { value: responseTime?.averageMs ?? null, samples: attempts };
    default:
      return { value: dead, samples: attempts };
  }
}

async function measureBacklog(db: Database, rule: RuleRow, nowMs: number): Promise<Map<string, Sample>> {
  const scope = scopeOf(rule);
  const countedMax = Math.min(COUNTED_MAX, Math.ceil(rule.threshold) + 1);
  if (rule.scope === 'environment') {
    const { waiting } = await readQueue(db, scope, { nowMs, countedMax });
    return new Map([[ENVIRONMENT_SUBJECT, { value: waiting, samples: 0 }]]);
  }
  if (rule.webhook_id !== null) {
    const { waiting } = await readQueue(db, scope, { webhookIds: [rule.webhook_id], nowMs, countedMax });
    return new Map([[rule.webhook_id, { value: waiting, samples: 0 }]]);
  }
  // Of many webhooks what waits in its row is counted, an index entry each; what nodes hold in memory of one is little.
  const result = await sql<{ id: string; waiting: number }>`
    SELECT w.id, (
      SELECT count(*) FROM (
        SELECT FROM deliveries d
        WHERE d.webhook_id = w.id AND d.tenant_id = w.tenant_id AND d.due_at < 'infinity' LIMIT ${countedMax}
      ) counted
    ) AS waiting
    FROM webhooks w WHERE w.tenant_id = ${scope.tenantId} AND w.environment_id = ${scope.environmentId}`.execute(db);
  return new Map(result.rows.map(({ id, waiting }) => [id, { value: waiting, samples: 0 }]));
}

/** How many there are, or for each webhook whether it is one of them. Who is not among them is well. */
function countByWebhook(rule: RuleRow, webhookIds: readonly string[]): Map<string, Sample> {
  if (rule.scope === 'environment') return new Map([[ENVIRONMENT_SUBJECT, { value: webhookIds.length, samples: 0 }]]);
  const watched = rule.webhook_id === null ? webhookIds : webhookIds.filter((id) => id === rule.webhook_id);
  return new Map(watched.map((id) => [id, { value: 1, samples: 0 }]));
}

/** Webhooks of the environment: all, or those that Posthorn has disabled, or whose circuit is not closed. */
async function webhookIds(db: Database, scope: Scope, only?: 'disabled' | 'circuit open'): Promise<string[]> {
  const rows = await db
    .selectFrom('webhooks as w')
    .select('w.id')
    .where('w.tenant_id', '=', scope.tenantId)
    .where('w.environment_id', '=', scope.environmentId)
    // What a person disables is no surprise.
    .$if(only === 'disabled', (query) =>
      query.where('w.status', '=', 'disabled').where('w.status_reason', 'in', ['gone', 'failing']),
    )
    .$if(only === 'circuit open', (query) =>
      query.innerJoin('circuits as c', (join) =>
        join.onRef('c.tenant_id', '=', 'w.tenant_id').onRef('c.webhook_id', '=', 'w.id'),
      ),
    )
    .execute();
  return rows.map(({ id }) => id);
}
