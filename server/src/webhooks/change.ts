import { type FieldProblem, invalidFields } from '../kernel/errors.ts';
import { FILTERS_BYTES_MAX } from '../routing/filters/filter.ts';
import { compileFilters } from '../routing/filters/filter-set.ts';
import { filtersOf, problemsOf } from '../routing/filters/schema.ts';
import { isEnvelopeHeader } from '../shaping/envelopes.ts';
import { changeTransformation, contentProblem, isTemplated, storedName } from '../shaping/transformation.ts';
import { type SignatureSettings, signatureSettingsProblem } from '../signing/config.ts';
import { type AuthSettings, authHeaderOf, changeAuth } from './auth/settings.ts';
import { type BatchingFields, contentTypeClash, resolveBatching } from './batching.ts';
import type { CircuitBreakerFields } from './circuit-breaker.ts';
import { isWithinWhitelist, literalOf, readCidr } from './egress/ip-whitelist.ts';
import { changeHeaders, pairs } from './headers.ts';
import type { OrderingFields } from './ordering.ts';
import type { RetryPolicyFields } from './retry-policy.ts';
import type { WebhookChange } from './schema.ts';
import { BLANK_WEBHOOK, resolveSettings, type WebhookSettings } from './settings.ts';

/** Bytes of a webhook's `metadata` as JSON. */
const METADATA_BYTES_MAX = 16_384;

/** The reason of a status that a person chose. */
export const MANUAL = 'manual';

/**
 * The settings after a change, whole and checked. What is absent stays, null brings the default back; `headers`,
 * `metadata`, `signature`, `retry_policy`, `ordering`, `batching`, `circuit_breaker`, and `auth` while its type stays,
 * are merged member by member in the same way. The URLs and the events are judged elsewhere: for them the database and the network must be asked.
 *
 * @throws AppError 422 naming every field that is wrong.
 */
export function applyChange(current: WebhookSettings, body: WebhookChange, environmentPreset: string): WebhookSettings {
  const problems: FieldProblem[] = [];
  const next: WebhookSettings = {
    name: body.name ?? current.name,
    url: body.url ?? current.url,
    description: changed(current.description, body.description, null),
    owner: changed(current.owner, body.owner, null),
    metadata: changeMetadata(current, body, problems),
    events: body.events === undefined ? current.events : [...new Set(body.events)],
    ...changeStatus(current, body, problems),
    httpMethod: changed(current.httpMethod, body.http_method, BLANK_WEBHOOK.httpMethod),
    headers: changeHeaderList(current, body, problems),
    auth: changeAuthSettings(current, body, problems),
    compression: changed(current.compression, body.compression, BLANK_WEBHOOK.compression),
    preset: changed(current.preset, body.preset, null),
    envelope: changed(current.envelope, body.envelope, null),
    transformation: changeTransformationOf(current, body, problems),
    signature: changeSignature(current, body, problems),
    retryPolicy: changeRetryPolicy(current, body, problems),
    timeoutSeconds: changed(current.timeoutSeconds, body.timeout_seconds, null),
    maxConcurrency: changed(current.maxConcurrency, body.max_concurrency, null),
    rateLimitPerMinute: changed(current.rateLimitPerMinute, body.rate_limit_per_minute, null),
    ordering: merged<OrderingFields>(current.ordering, body.ordering),
    batching: merged<BatchingFields>(current.batching, body.batching),
    circuitBreaker: merged<CircuitBreakerFields>(current.circuitBreaker, body.circuit_breaker),
    failoverUrl: changed(current.failoverUrl, body.failover_url, null),
    ipWhitelist: changeIpWhitelist(current, body, problems),
    priority: changed(current.priority, body.priority, BLANK_WEBHOOK.priority),
    verifyTls: changed(current.verifyTls, body.verify_tls, BLANK_WEBHOOK.verifyTls),
    filters: changeFilters(current, body, problems),
    filterMode: changed(current.filterMode, body.filter_mode, BLANK_WEBHOOK.filterMode),
  };
  problems.push(...headerClashes(next, environmentPreset), ...destinationClashes(next), ...optionClashes(next));
  if (problems.length > 0) throw invalidFields(problems);
  return next;
}

function changed<T>(current: T, given: T | null | undefined, cleared: T): T {
  if (given === undefined) return current;
  return given ?? cleared;
}

/** Members of `given` over those of `current`; null removes a member, null for the whole removes all. */
export function merged<T extends object>(current: T, given: { [K in keyof T]?: T[K] | null } | null | undefined): T {
  if (given === undefined) return current;
  const entries = Object.entries({ ...(given === null ? undefined : current), ...given });
  return Object.fromEntries(entries.filter(([, value]) => value !== null && value !== undefined)) as T;
}

function changeMetadata(current: WebhookSettings, body: WebhookChange, problems: FieldProblem[]) {
  const metadata = merged<Record<string, unknown>>(current.metadata, body.metadata);
  if (body.metadata == null) return metadata;
  const json = JSON.stringify(metadata);
  if (Buffer.byteLength(json) > METADATA_BYTES_MAX) {
    problems.push({ path: 'metadata', message: `must be at most ${METADATA_BYTES_MAX} bytes of JSON` });
  }
  // PostgreSQL's jsonb takes neither NUL nor a lone half of a surrogate pair; JSON.stringify writes both as escapes.
  if (/(?<!\\)(?:\\\\)*\\u(?:0000|d[89a-f])/.test(json)) {
    problems.push({ path: 'metadata', message: 'must have no NUL characters and no halves of surrogate pairs' });
  }
  return metadata;
}

function changeStatus(
  current: WebhookSettings,
  body: WebhookChange,
  problems: FieldProblem[],
): Pick<WebhookSettings, 'status' | 'statusReason'> {
  const { is_active: isActive, status: given } = body;
  if (isActive != null && given != null && isActive !== (given === 'active')) {
    problems.push({ path: 'is_active', message: `does not go with the status "${given}"` });
  }
  // null for one of the two says nothing beside a value for the other.
  const fromShort = isActive == null ? undefined : isActive ? 'active' : 'disabled';
  const unsaid = isActive === undefined && given === undefined ? current.status : BLANK_WEBHOOK.status;
  const status = given ?? fromShort ?? unsaid;
  if (status === 'active') return { status, statusReason: null };
  return { status, statusReason: status === current.status ? current.statusReason : MANUAL };
}

function changeHeaderList(current: WebhookSettings, body: WebhookChange, problems: FieldProblem[]) {
  const { headers, custom_headers: alias } = body;
  if (headers != null && alias != null) {
    problems.push({ path: 'custom_headers', message: 'is another name of "headers"; give one of them' });
  }
  const change = headers ?? alias ?? (headers === undefined ? alias : headers);
  if (change === undefined) return current.headers;
  if (change === null) return [];
  const result = changeHeaders(current.headers, change);
  if (result.ok) return result.headers;
  problems.push(...result.problems);
  return current.headers;
}

function changeAuthSettings(current: WebhookSettings, body: WebhookChange, problems: FieldProblem[]): AuthSettings {
  if (body.auth === undefined) return current.auth;
  const result = changeAuth(current.auth, body.auth);
  if (result.ok) return result.auth;
  problems.push(...result.problems);
  return current.auth;
}

function changeTransformationOf(current: WebhookSettings, body: WebhookChange, problems: FieldProblem[]) {
  const transformation = changeTransformation(current.transformation, body.transformation);
  if (body.transformation == null || transformation === null) return transformation;
  const problem = contentProblem(transformation);
  if (problem !== undefined) problems.push({ ...problem, path: `transformation.${problem.path}` });
  return transformation;
}

function changeSignature(current: WebhookSettings, body: WebhookChange, problems: FieldProblem[]): SignatureSettings {
  const short = body.signature_method === 'standard' ? 'none' : body.signature_method;
  const long = body.signature?.method;
  if (short != null && long != null && short !== long) {
    problems.push({ path: 'signature_method', message: 'does not go with "signature.method"; give one of them' });
  }
  const settings = merged<SignatureSettings>(
    merged<SignatureSettings>(current.signature, body.signature),
    short === undefined || (short === null && long != null) ? undefined : { method: short },
  );
  const problem = signatureSettingsProblem(settings);
  if (problem !== undefined) problems.push({ path: 'signature.header', message: problem });
  return settings;
}

function changeRetryPolicy(current: WebhookSettings, body: WebhookChange, problems: FieldProblem[]): RetryPolicyFields {
  const short = body.retry_count == null ? body.retry_count : body.retry_count + 1;
  const long = body.retry_policy?.max_attempts;
  if (short != null && long != null && short !== long) {
    problems.push({
      path: 'retry_count',
      message: 'must be one less than "retry_policy.max_attempts"; give one of them',
    });
  }
  const policy = merged<RetryPolicyFields>(
    merged<RetryPolicyFields>(current.retryPolicy, body.retry_policy),
    short === undefined || (short === null && long != null) ? undefined : { max_attempts: short },
  );
  const { initial_delay_seconds: initial, max_delay_seconds: max } = policy;
  if (initial !== undefined && max !== undefined && max < initial) {
    problems.push({ path: 'retry_policy.max_delay_seconds', message: 'must not be below initial_delay_seconds' });
  }
  return policy;
}

function changeIpWhitelist(current: WebhookSettings, body: WebhookChange, problems: FieldProblem[]) {
  const given = body.ip_whitelist;
  if (given === undefined) return current.ipWhitelist;
  const ranges = new Set<string>();
  for (const [at, text] of (given ?? []).entries()) {
    const range = readCidr(text);
    if (range === undefined) {
      problems.push({ path: `ip_whitelist.${at}`, message: 'must be an IPv4 or IPv6 address or a CIDR' });
    } else ranges.add(range);
  }
  return ranges.size === 0 ? null : [...ranges];
}

/** The list as a whole: filters have no name by which a member of it could be meant. */
function changeFilters(current: WebhookSettings, body: WebhookChange, problems: FieldProblem[]) {
  if (body.filters === undefined) return current.filters;
  const given = body.filters ?? [];
  const filters = filtersOf(given);
  if (Buffer.byteLength(JSON.stringify(filters)) > FILTERS_BYTES_MAX) {
    problems.push({ path: 'filters', message: `must be at most ${FILTERS_BYTES_MAX} bytes of JSON together` });
    return filters;
  }
  const compiled = compileFilters(filters, 'all');
  if (!compiled.ok) problems.push(...problemsOf(given, compiled.problems));
  return filters;
}

/** A failover that leads to where the request just failed, and URLs that the list would never let a request reach. */
function destinationClashes({ url, failoverUrl, ipWhitelist }: WebhookSettings): FieldProblem[] {
  const main = new URL(url);
  const failover = failoverUrl === null ? undefined : new URL(failoverUrl);
  const problems: FieldProblem[] = [];
  if (failover?.href === main.href) problems.push({ path: 'failover_url', message: 'must not be the same as url' });
  for (const [name, destination] of [
    ['url', main],
    ['failover_url', failover],
  ] as const) {
    const address = destination && literalOf(destination);
    if (ipWhitelist !== null && address !== undefined && !isWithinWhitelist(ipWhitelist, [address])) {
      problems.push({ path: 'ip_whitelist', message: `does not hold ${address}, the address in ${name}` });
    }
  }
  return problems;
}

/** A receiver must not get a header that carries a signature or a credential twice. */
function headerClashes(settings: WebhookSettings, environmentPreset: string): FieldProblem[] {
  const { signature, eventHeader, envelope } = resolveSettings(settings, environmentPreset);
  const taken = [eventHeader.toLowerCase(), ...(signature.method === 'none' ? [] : [signature.header.toLowerCase()])];
  const authHeader = authHeaderOf(settings.auth)?.toLowerCase();
  const problems = pairs(settings.headers).flatMap(([name]) => {
    if (taken.includes(name.toLowerCase())) {
      return [{ path: `headers.${name}`, message: 'is a header that Posthorn sets itself' }];
    }
    return name.toLowerCase() === authHeader ? [{ path: `headers.${name}`, message: 'is the header of "auth"' }] : [];
  });
  if (authHeader !== undefined && (taken.includes(authHeader) || isEnvelopeHeader(envelope, authHeader))) {
    problems.push({ path: 'auth.header', message: 'is a header that Posthorn sets itself' });
  }
  return problems;
}

/** Options that go with a body, or with TLS, where there is none; and batches of what cannot stand in an array of JSON. */
function optionClashes(settings: WebhookSettings): FieldProblem[] {
  const { httpMethod, batching, auth, url, failoverUrl, transformation, headers } = settings;
  const problems: FieldProblem[] = [];
  if (resolveBatching(batching) !== null) {
    const path = 'batching.enabled';
    if (httpMethod === 'GET') problems.push({ path, message: 'does not go with GET, which carries no body' });
    if (transformation?.enabled === true && storedName(transformation.template) === undefined) {
      problems.push(...contentTypeClash(transformation.content_type));
    }
    const templated = pairs(headers).find(([, value]) => isTemplated(value));
    if (templated !== undefined) {
      problems.push({ path, message: `does not go with headers.${templated[0]}, a template for each event` });
    }
  }
  for (const [path, text] of Object.entries({ url, failover_url: failoverUrl })) {
    if (auth.type === 'mtls' && text !== null && new URL(text).protocol !== 'https:') {
      problems.push({ path, message: 'must be an https:// URL for "mtls"' });
    }
  }
  return problems;
}
