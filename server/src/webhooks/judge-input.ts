import { checkEventPatterns } from '../catalog/check-event-patterns.ts';
import type { EventTypeDirectory } from '../catalog/directory.ts';
import type { Scope } from '../http/caller.ts';
import { type FieldProblem, invalidFields } from '../kernel/errors.ts';
import type { TenantDirectory } from '../tenants/directory.ts';
import type { EgressGuard } from './egress/guard.ts';
import { isOperationalPattern } from './operational-types.ts';
import type { WebhookChange } from './schema.ts';

/** Whom to ask, beyond the request itself, before a webhook is written. */
export interface WebhookJudge {
  guard: EgressGuard;
  eventTypes: EventTypeDirectory;
  tenants: TenantDirectory;
}

/**
 * Judges the URLs and the events of a request; what it does not mention is not judged again.
 *
 * @throws AppError 422
 */
export async function judgeInput(
  judge: WebhookJudge,
  scope: Scope,
  body: Pick<WebhookChange, 'url' | 'failover_url' | 'events'>,
): Promise<void> {
  const problems = [
    ...(await judgeDestination(judge, 'url', body.url)),
    ...(await judgeDestination(judge, 'failover_url', body.failover_url)),
    ...(await judgeEvents(judge, scope, body.events)),
  ];
  if (problems.length > 0) throw invalidFields(problems);
}

async function judgeDestination(
  { guard }: WebhookJudge,
  path: 'url' | 'failover_url',
  url: string | null | undefined,
): Promise<FieldProblem[]> {
  if (url == null) return [];
  const verdict = guard.judgeUrl(url);
  const reason = verdict.ok ? await guard.judgeHostByLookup(verdict.url.hostname) : verdict.reason;
  return reason === undefined ? [] : [{ path, message: reason }];
}

async function judgeEvents(
  { eventTypes, tenants }: WebhookJudge,
  scope: Scope,
  events: readonly string[] | undefined,
): Promise<FieldProblem[]> {
  if (events === undefined) return [];
  const settings = await tenants.settings(scope.tenantId);
  // Operational events are in no catalogue, and are as well known as all events are.
  const patterns = events.map((pattern) => (isOperationalPattern(pattern) ? '*' : pattern));
  return checkEventPatterns(eventTypes, scope, patterns, settings.allow_unknown_event_types);
}
