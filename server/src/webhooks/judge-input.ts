import { checkEventPatterns } from '../catalog/check-event-patterns.ts';
import type { EventTypeDirectory } from '../catalog/directory.ts';
import type { Database } from '../db/pool.ts';
import type { Scope } from '../http/caller.ts';
import { type FieldProblem, invalidFields } from '../kernel/errors.ts';
import type { Sandbox } from '../shaping/sandbox/sandbox.ts';
import { readStoredTemplates } from '../shaping/stored-templates.ts';
import {
  changeTransformation,
  contentProblem,
  fieldProblem,
  isTemplated,
  noSuchTemplate,
  programOf,
  storedName,
  type Transformation,
} from '../shaping/transformation.ts';
import type { TenantDirectory } from '../tenants/directory.ts';
import { type BatchingFields, resolveBatching, storedTemplateClash } from './batching.ts';
import { merged } from './change.ts';
import type { EgressGuard } from './egress/guard.ts';
import { type IpWhitelist, literalOf, OUTSIDE_WHITELIST, readCidr } from './egress/ip-whitelist.ts';
import { isOperationalPattern } from './operational-types.ts';
import type { WebhookChange } from './schema.ts';
import type { WebhookSettings } from './settings.ts';

/** Whom to ask, beyond the request itself, before a webhook is written. */
export interface WebhookJudge {
  guard: EgressGuard;
  eventTypes: EventTypeDirectory;
  tenants: TenantDirectory;
  sandbox: Pick<Sandbox, 'check'>;
  db: Database;
}

/** What a webhook says of where its requests go. */
type Destinations = Pick<WebhookSettings, 'url' | 'failoverUrl' | 'ipWhitelist'>;

type JudgedFields =
  | 'url'
  | 'failover_url'
  | 'ip_whitelist'
  | 'auth'
  | 'events'
  | 'transformation'
  | 'batching'
  | 'headers'
  | 'custom_headers';

/**
 * Judges the URLs, the events and the templates of a request; what it does not mention is not judged again, but for URLs under a new
 * `ip_whitelist`. A name that cannot be resolved is accepted: it may come later, and every connect judges it.
 *
 * @param current what the webhook says so far; undefined: it is being made.
 * @throws AppError 422
 */
export async function judgeInput(
  judge: WebhookJudge,
  scope: Scope,
  body: Pick<WebhookChange, JudgedFields>,
  current?: Destinations & { transformation: Transformation | null; batching: BatchingFields },
): Promise<void> {
  const whitelist = whitelistAfter(body.ip_whitelist, current);
  const problems = [
    ...(await judgeDestination(judge, 'url', body.url, current?.url, whitelist)),
    ...(await judgeDestination(judge, 'failover_url', body.failover_url, current?.failoverUrl, whitelist)),
    // Tokens come from elsewhere than where requests go, so the list does not count for them.
    ...(await judgeDestination(judge, 'auth.token_url', body.auth?.token_url, undefined, NO_WHITELIST)),
    ...(await judgeEvents(judge, scope, body.events)),
    ...(await judgeTransformation(judge, scope, body, current?.transformation ?? null)),
    ...(await judgeStoredTemplate(judge, scope, body, current)),
  ];
  if (problems.length > 0) throw invalidFields(problems);
}

interface WhitelistAfter {
  ranges: IpWhitelist | null;
  isNew: boolean;
}

const NO_WHITELIST: WhitelistAfter = { ranges: null, isNew: false };

/** The whitelist after the change. One with an entry that is no range judges nothing: it is refused for that entry. */
function whitelistAfter(given: WebhookChange['ip_whitelist'], current: Destinations | undefined): WhitelistAfter {
  if (given === undefined) return { ranges: current?.ipWhitelist ?? null, isNew: false };
  const ranges = (given ?? []).map(readCidr);
  const isReadable = ranges.every((range) => range !== undefined);
  return { ranges: ranges.length > 0 && isReadable ? ranges : null, isNew: true };
}

async function judgeDestination(
  { guard }: WebhookJudge,
  path: 'url' | 'failover_url' | 'auth.token_url',
  given: string | null | undefined,
  before: string | null | undefined,
  whitelist: WhitelistAfter,
): Promise<FieldProblem[]> {
  const text = given === undefined && whitelist.isNew && whitelist.ranges !== null ? before : given;
  if (text == null) return [];
  const verdict = guard.judgeUrl(text);
  if (!verdict.ok) return given === undefined ? [] : [{ path, message: verdict.reason }];
  // An address in the URL itself needs no lookup to be compared with the list, and is, with the whole change.
  const ranges = literalOf(verdict.url) === undefined ? whitelist.ranges : null;
  const reason = await guard.judgeHostByLookup(verdict.url.hostname, ranges);
  if (reason === OUTSIDE_WHITELIST) {
    return [{ path: 'ip_whitelist', message: `does not hold all addresses of the name in ${path}` }];
  }
  return reason === undefined || given === undefined ? [] : [{ path, message: reason }];
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

/** Whether the sandbox can read it. */
async function judgeTransformation(
  { sandbox }: WebhookJudge,
  scope: Scope,
  body: Pick<WebhookChange, JudgedFields>,
  current: Transformation | null,
): Promise<FieldProblem[]> {
  const problems: FieldProblem[] = [];
  const transformation = changeTransformation(current, body.transformation);
  // What `contentProblem` finds is said with the other settings.
  if (body.transformation != null && transformation !== null && contentProblem(transformation) === undefined) {
    if (storedName(transformation.template) === undefined) {
      const fault = await sandbox.check(scope.tenantId, programOf(transformation, []));
      if (fault !== undefined) problems.push(fieldProblem('transformation', fault));
    }
  }
  const headers = Object.entries(body.headers ?? body.custom_headers ?? {}).flatMap(([name, value]) =>
    value !== null && isTemplated(value) ? [[name, value] as const] : [],
  );
  if (headers.length > 0) {
    const fault = await sandbox.check(scope.tenantId, programOf(null, headers));
    if (fault !== undefined) problems.push(fieldProblem('', fault));
  }
  return problems;
}

/** Whether a stored template that the webhook names is there, and goes with the webhook's batching. */
async function judgeStoredTemplate(
  { db }: WebhookJudge,
  scope: Scope,
  body: Pick<WebhookChange, JudgedFields>,
  current: { transformation: Transformation | null; batching: BatchingFields } | undefined,
): Promise<FieldProblem[]> {
  if (body.transformation === undefined && body.batching === undefined) return [];
  const transformation = changeTransformation(current?.transformation ?? null, body.transformation);
  const name = transformation === null ? undefined : storedName(transformation.template);
  if (transformation === null || name === undefined) return [];
  const templates = (await readStoredTemplates(db, scope, new Set([name]))).get(name);
  if (templates === undefined) {
    if (body.transformation === undefined) return [];
    return [{ path: 'transformation.template', message: noSuchTemplate(name) }];
  }
  const isBatched = resolveBatching(merged<BatchingFields>(current?.batching ?? {}, body.batching)) !== null;
  return isBatched && transformation.enabled ? storedTemplateClash(templates) : [];
}
