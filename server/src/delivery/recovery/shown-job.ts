import { type Static, Type } from 'typebox';
import { formatId } from '../../kernel/ids.ts';
import { REPLAYABLE_STATUSES, type RecoveryFilter } from './filter.ts';
import { filterOf, type JobRow } from './jobs.ts';
import type { Estimate } from './walk.ts';

const nullableText = Type.Union([Type.String(), Type.Null()]);

const FilterShown = Type.Object({
  webhook_id: nullableText,
  owner: Type.Union([Type.String(), Type.Null()], {
    description: 'Only webhooks with this owner: the portal token that asked was for these.',
  }),
  event_id: { ...nullableText, description: 'As Posthorn names it, whichever id was sent.' },
  event_type: nullableText,
  response_status: Type.Union([Type.Integer(), Type.Null()], { description: 'Of the last attempt.' }),
  q: { ...nullableText, description: 'Part of the event type.' },
  status: Type.Union([Type.Array(Type.Enum([...REPLAYABLE_STATUSES])), Type.Null()], {
    description: 'null: every delivery is looked at; those that have not ended are skipped.',
  }),
  since: nullableText,
  until: Type.String(),
});

const estimated = {
  estimated_deliveries: Type.Integer({ description: 'Deliveries that the filter meant when it was asked.' }),
  estimate_is_exact: Type.Boolean({ description: 'False beyond 100,000 looked at: about so many.' }),
};

/** What a job would do. */
export const ReplayEstimateShown = Type.Object(
  { dry_run: Type.Literal(true), filter: FilterShown, ...estimated },
  { $id: 'ReplayEstimate', title: 'Replay estimate' },
);

export const ReplayJobShown = Type.Object(
  {
    id: Type.String(),
    trigger: Type.Enum(['replays', 'recover', 'dead_letters'], { description: 'The request that made it.' }),
    status: Type.Enum(['queued', 'running', 'completed', 'cancelled', 'failed']),
    filter: FilterShown,
    ...estimated,
    replayed: Type.Integer({ description: 'Deliveries made anew or made to go on, so far.' }),
    skipped: Type.Integer({
      description:
        'Deliveries that were looked at and left as they are, so far: tests, those that have not ended, were ' +
        'discarded, purged or answered otherwise meanwhile, or whose webhook or payload is gone.',
    }),
    created_at: Type.String(),
    started_at: nullableText,
    completed_at: nullableText,
  },
  { $id: 'ReplayJob', title: 'Replay job' },
);
type ReplayJobShown = Static<typeof ReplayJobShown>;

export function showJob(row: JobRow): ReplayJobShown {
  return {
    id: formatId('replay', row.id),
    trigger: row.trigger,
    status: row.status,
    filter: showFilter(filterOf(row)),
    estimated_deliveries: row.estimated,
    estimate_is_exact: row.estimate_is_exact,
    replayed: row.replayed,
    skipped: row.skipped,
    created_at: row.created_at.toISOString(),
    started_at: row.started_at?.toISOString() ?? null,
    completed_at: row.completed_at?.toISOString() ?? null,
  };
}

export function showEstimate(filter: RecoveryFilter, estimate: Estimate): Static<typeof ReplayEstimateShown> {
  return {
    dry_run: true,
    filter: showFilter(filter),
    estimated_deliveries: estimate.count,
    estimate_is_exact: estimate.isExact,
  };
}

function showFilter(filter: RecoveryFilter): Static<typeof FilterShown> {
  return {
    webhook_id: filter.webhookId === undefined ? null : formatId('webhook', filter.webhookId),
    owner: filter.owner ?? null,
    event_id: filter.eventId === undefined ? null : formatId('event', filter.eventId),
    event_type: filter.eventType ?? null,
    response_status: filter.responseStatus ?? null,
    q: filter.q ?? null,
    status: filter.statuses === undefined ? null : [...filter.statuses],
    since: filter.sinceMs === undefined ? null : new Date(filter.sinceMs).toISOString(),
    until: new Date(filter.untilMs).toISOString(),
  };
}
