import type { Preset } from '../catalog/presets/presets.ts';
import { findPreset, presets } from '../catalog/presets/presets.ts';
import type { Filter, FilterMode } from '../routing/filters/filter.ts';
import type { Envelope } from '../shaping/envelopes.ts';
import type { Transformation } from '../shaping/transformation.ts';
import { DEFAULT_SIGNATURE, type SignatureConfig, type SignatureSettings } from '../signing/config.ts';
import { type AuthSettings, NO_AUTH } from './auth/settings.ts';
import type { BatchingFields } from './batching.ts';
import type { CircuitBreakerFields } from './circuit-breaker.ts';
import type { HeaderList } from './headers.ts';
import type { OrderingFields } from './ordering.ts';
import { type RetryPolicy, type RetryPolicyFields, resolveRetryPolicy } from './retry-policy.ts';

export const HTTP_METHODS = ['POST', 'PUT', 'PATCH', 'DELETE', 'GET'] as const;
export type HttpMethod = (typeof HTTP_METHODS)[number];

export const COMPRESSIONS = ['none', 'gzip'] as const;
export type Compression = (typeof COMPRESSIONS)[number];

export const WEBHOOK_STATUSES = ['active', 'paused', 'disabled'] as const;
export type WebhookStatus = (typeof WEBHOOK_STATUSES)[number];

/** What is said of one webhook, as its row keeps it. null, or an absent member: as the preset says. */
export interface WebhookSettings {
  name: string;
  url: string;
  description: string | null;
  owner: string | null;
  metadata: Readonly<Record<string, unknown>>;
  events: readonly string[];
  status: WebhookStatus;
  /** Why it is not active: `manual`, or a reason of the delivery engine. */
  statusReason: string | null;
  httpMethod: HttpMethod;
  headers: HeaderList;
  auth: AuthSettings;
  compression: Compression;
  /** null: the environment's. */
  preset: string | null;
  envelope: Envelope | null;
  /** null: the envelope alone. */
  transformation: Transformation | null;
  signature: SignatureSettings;
  retryPolicy: RetryPolicyFields;
  timeoutSeconds: number | null;
  /** Requests at once; null: as many as the engine gives. */
  maxConcurrency: number | null;
  /** null: no limit. */
  rateLimitPerMinute: number | null;
  ordering: OrderingFields;
  batching: BatchingFields;
  circuitBreaker: CircuitBreakerFields;
  /** Where requests go while `url` fails; null: nowhere. */
  failoverUrl: string | null;
  /** Canonical CIDRs, at least one; null: no restriction. */
  ipWhitelist: readonly string[] | null;
  /** -100 to 100; higher goes first. */
  priority: number;
  verifyTls: boolean;
  /** Which of the events that it is subscribed to it wants; empty: all of them. */
  filters: readonly Filter[];
  filterMode: FilterMode;
}

/** What a webhook is before anything is said of it. */
export const BLANK_WEBHOOK: WebhookSettings = {
  name: '',
  url: '',
  description: null,
  owner: null,
  metadata: {},
  events: [],
  status: 'active',
  statusReason: null,
  httpMethod: 'POST',
  headers: [],
  auth: NO_AUTH,
  compression: 'none',
  preset: null,
  envelope: null,
  transformation: null,
  signature: {},
  retryPolicy: {},
  timeoutSeconds: null,
  maxConcurrency: null,
  rateLimitPerMinute: null,
  ordering: {},
  batching: {},
  circuitBreaker: {},
  failoverUrl: null,
  ipWhitelist: null,
  priority: 0,
  verifyTls: true,
  filters: [],
  filterMode: 'all',
};

/** The part of a webhook's settings for which it may rely on a preset, with every choice made. */
export interface DeliverySettings {
  preset: Preset;
  envelope: Envelope;
  signature: SignatureConfig;
  retryPolicy: RetryPolicy;
  timeoutSeconds: number;
  /** null: `Posthorn/<version>`. */
  userAgent: string | null;
  eventHeader: string;
}

type OwnSettings = Pick<WebhookSettings, 'preset' | 'envelope' | 'signature' | 'retryPolicy' | 'timeoutSeconds'>;

/** What is in force for a webhook: its own word, else its preset's, else that of its environment's preset. */
export function resolveSettings(own: OwnSettings, environmentPreset: string): DeliverySettings {
  const preset = findPreset(own.preset ?? environmentPreset) ?? standardPreset;
  const { delivery } = preset;
  return {
    preset,
    envelope: own.envelope ?? delivery.envelope,
    signature: { ...DEFAULT_SIGNATURE, ...delivery.signature, ...own.signature },
    retryPolicy: resolveRetryPolicy(own.retryPolicy, delivery.retry_policy),
    timeoutSeconds: own.timeoutSeconds ?? delivery.timeout_seconds,
    userAgent: delivery.user_agent,
    eventHeader: delivery.event_header,
  };
}

/** Also for a row that names a preset of another version of the program: deliveries must go on. */
const standardPreset = presets.get('standard') as Preset;
