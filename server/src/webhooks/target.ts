import { errorCode } from '../db/pool.ts';
import type { Logger } from '../kernel/logger.ts';
import type { SecretBox } from '../kernel/secret-box.ts';
import { type FilterSet, storedFilters } from '../routing/filters/filter-set.ts';
import type { BodyForm } from '../shaping/body-form.ts';
import { type Envelope, isEnvelopeHeader } from '../shaping/envelopes.ts';
import type { Program } from '../shaping/program.ts';
import { createShaping, type Shaping } from '../shaping/shaping.ts';
import type { StoredTemplate } from '../shaping/stored-templates.ts';
import { isTemplated } from '../shaping/transformation.ts';
import { prepareSigner, type Signer } from '../signing/signer.ts';
import { type Credentials, credentialsOf } from './auth/credentials.ts';
import { type AuthSettings, authHeaderOf, NO_AUTH } from './auth/settings.ts';
import { type Batching, resolveBatching } from './batching.ts';
import { type CircuitBreaker, resolveCircuitBreaker } from './circuit-breaker.ts';
import { type HeaderList, maskHeaders, pairs } from './headers.ts';
import { type Ordering, resolveOrdering } from './ordering.ts';
import type { RetryPolicy } from './retry-policy.ts';
import {
  openAuth,
  openHeaders,
  readFilters,
  readLaneSettings,
  readOwnSettings,
  readTransformation,
  type WebhookRow,
} from './rows.ts';
import { type LiveSecret, openKeys } from './secrets.ts';
import { type Compression, type HttpMethod, resolveSettings, type WebhookStatus } from './settings.ts';

/** All that a delivery needs to know of its webhook, with the preset's word where the webhook has none. Immutable. */
export interface WebhookTarget {
  readonly tenantId: string;
  readonly environmentId: string;
  /** UUID. */
  readonly id: string;
  readonly owner: string | null;
  readonly status: WebhookStatus;
  readonly url: URL;
  readonly method: HttpMethod;
  /** The event types and patterns it is subscribed to. */
  readonly events: readonly string[];
  /** Name and value in turn. None is reserved, `user-agent`, or a header that the target names elsewhere. */
  readonly customHeaders: HeaderList;
  /** `customHeaders` as attempts record them: credentials masked. */
  readonly maskedHeaders: HeaderList;
  readonly credentials: Credentials;
  readonly compression: Compression;
  readonly envelope: Envelope;
  readonly bodySpelling: BodyForm['bodySpelling'];
  /** What shapes its requests beyond the envelope, in the sandbox; null: nothing. */
  readonly shaping: Shaping | null;
  readonly retryPolicy: RetryPolicy;
  readonly timeoutMs: number;
  /** Requests at once; null: as many as the engine gives. */
  readonly maxConcurrency: number | null;
  /** Evenly spread; null: no limit. */
  readonly rateLimitPerMinute: number | null;
  /** null: events go as they come. */
  readonly ordering: Ordering | null;
  /** null: each delivery has a request of its own. */
  readonly batching: Batching | null;
  /** It has a rate limit, a `maxConcurrency` or an ordering, which only hold when one node at a time sends to it. */
  readonly bound: boolean;
  /** null: the circuit never opens. */
  readonly circuitBreaker: CircuitBreaker | null;
  /** Another URL of the same receiver, for when `url` fails. */
  readonly failoverUrl: URL | null;
  /** Canonical CIDRs that requests may go to; null: no restriction. */
  readonly ipWhitelist: readonly string[] | null;
  readonly priority: number;
  readonly verifyTls: boolean;
  /** Which events of those that it is subscribed to it wants; null: all of them. */
  readonly filter: FilterSet | null;
  readonly userAgent: string;
  /** Name of the header that carries the event type. */
  readonly eventHeader: string;
  /**
   * Makes its keys at the first signature, so that reading thousands of webhooks stays cheap. It throws when the
   * webhook's stored secrets or headers cannot be opened: the attempt fails, and nothing goes out half-authenticated.
   */
  readonly signer: Signer;
}

/** Makes the target of a row. `defaultUserAgent` counts where neither the webhook nor its preset names one. */
export function createTarget(
  row: WebhookRow,
  secrets: readonly LiveSecret[],
  environmentPreset: string,
  options: { box: SecretBox; defaultUserAgent: string; logger: Logger },
): WebhookTarget {
  const settings = resolveSettings(readOwnSettings(row), environmentPreset);
  const { signature, eventHeader } = settings;
  const lane = readLaneSettings(row);
  const { filters, filterMode } = readFilters(row);
  const ordering = resolveOrdering(lane.ordering);
  const headers = readSealed(row, options);
  const all = headers.ok ? pairs(headers.list) : [];
  // The webhook may have had them before its preset came to use the same names.
  const elsewhere = ['user-agent', eventHeader.toLowerCase()];
  if (signature.method !== 'none') elsewhere.push(signature.header.toLowerCase());
  const authHeader = headers.ok ? authHeaderOf(headers.auth)?.toLowerCase() : undefined;
  const isTwice =
    authHeader !== undefined && (elsewhere.includes(authHeader) || isEnvelopeHeader(settings.envelope, authHeader));
  if (authHeader !== undefined) elsewhere.push(authHeader);
  const fixed = all.filter(([, value]) => !isTemplated(value));
  const customHeaders = fixed
    .filter(([name]) => !elsewhere.includes(name.toLowerCase()) && !isEnvelopeHeader(settings.envelope, name))
    .flat();
  const ownUserAgent = fixed.find(([name]) => name.toLowerCase() === 'user-agent')?.[1];
  const templated = templatedHeaders(all, elsewhere);
  const shaping = createShaping(readTransformation(row), templated, []);
  return {
    tenantId: row.tenant_id,
    environmentId: row.environment_id,
    id: row.id,
    owner: row.owner,
    status: row.status,
    url: new URL(row.url),
    method: row.http_method as HttpMethod,
    events: row.events,
    customHeaders,
    maskedHeaders: maskHeaders(customHeaders),
    credentials: credentialsOf(headers.ok ? headers.auth : NO_AUTH, row.id),
    compression: row.compression as Compression,
    envelope: settings.envelope,
    bodySpelling: signature.body_spelling,
    shaping,
    retryPolicy: settings.retryPolicy,
    timeoutMs: settings.timeoutSeconds * 1000,
    maxConcurrency: row.max_concurrency,
    rateLimitPerMinute: row.rate_limit_per_minute,
    ordering,
    // Neither goes with it (`change.ts` refuses both).
    batching: row.http_method === 'GET' || templated.length > 0 ? null : resolveBatching(lane.batching),
    bound: row.rate_limit_per_minute !== null || row.max_concurrency !== null || ordering !== null,
    circuitBreaker: resolveCircuitBreaker(lane.circuitBreaker),
    failoverUrl: row.failover_url === null ? null : new URL(row.failover_url),
    ipWhitelist: row.ip_whitelist,
    priority: row.priority,
    verifyTls: row.verify_tls,
    filter: storedFilters(filters, filterMode, () =>
      options.logger.error({ webhook_id: row.id }, 'the filters of a webhook cannot be read; it gets all events'),
    ),
    userAgent: ownUserAgent ?? settings.userAgent ?? options.defaultUserAgent,
    eventHeader,
    signer: lazySigner(() => {
      if (!headers.ok) throw headers.error;
      // The preset came to use the header of the webhook's credential after that was written.
      if (isTwice) throw new Error('The header of a credential is taken.');
      return prepareSigner(signature, openKeys(secrets, row.tenant_id, options.box));
    }),
  };
}

function templatedHeaders(all: readonly [name: string, value: string][], elsewhere: string[]): Program['headers'] {
  return all.filter(([name, value]) => {
    const key = name.toLowerCase();
    return isTemplated(value) && (key === 'user-agent' || !elsewhere.includes(key));
  });
}

/** The same target with the stored templates that its webhook names. */
export function withTemplates(target: WebhookTarget, templates: readonly StoredTemplate[]): WebhookTarget {
  if (target.shaping === null) return target;
  const { transformation, headers } = target.shaping;
  return { ...target, shaping: createShaping(transformation, headers, templates) };
}

function readSealed(
  row: WebhookRow,
  options: { box: SecretBox; logger: Logger },
): { ok: true; list: HeaderList; auth: AuthSettings } | { ok: false; error: unknown } {
  try {
    return { ok: true, list: openHeaders(row, options.box), auth: openAuth(row, options.box) };
  } catch (error) {
    // One unreadable webhook must not keep the environment's other webhooks from being read.
    options.logger.error(
      { webhook_id: row.id, code: errorCode(error) },
      'the headers or the auth of a webhook cannot be opened',
    );
    return { ok: false, error };
  }
}

function lazySigner(prepare: () => Signer): Signer {
  let prepared: Signer | undefined;
  return {
    sign(messageId, timestampSeconds, body) {
      prepared ??= prepare();
      return prepared.sign(messageId, timestampSeconds, body);
    },
  };
}
