import { formatId } from '../kernel/ids.ts';
import type { SecretBox } from '../kernel/secret-box.ts';
import type { Masker } from '../masking/masker.ts';
import type { Json } from '../shaping/program.ts';
import type { Transformation } from '../shaping/transformation.ts';
import { publicKeyOf } from '../signing/key-pairs.ts';
import { showAuth } from './auth/settings.ts';
import { showBatching } from './batching.ts';
import { showCircuitBreaker } from './circuit-breaker.ts';
import { maskHeaders, pairs } from './headers.ts';
import { showOrdering } from './ordering.ts';
import { showRetryPolicy } from './retry-policy.ts';
import { type CountedWebhookRow, readSettings } from './rows.ts';
import type { SecretsShown, WebhookShown } from './schema.ts';
import { type LiveSecret, openSecret } from './secrets.ts';
import { resolveSettings, type WebhookSettings } from './settings.ts';

/** What answers say of the environment that a webhook is in. */
export interface ShownEnvironment {
  name: string;
  preset: string;
}

/** A webhook as the API shows it. `secrets`: its live ones, of which only a public key is shown. */
export function showWebhook(
  row: CountedWebhookRow,
  secrets: readonly LiveSecret[],
  environment: ShownEnvironment,
  box: SecretBox,
  masker: Masker,
): WebhookShown {
  const own = readSettings(row, box);
  const settings = resolveSettings(own, environment.preset);
  const publicKey = settings.signature.asymmetric ? newestPublicKey(secrets, row.tenant_id, box) : undefined;
  const circuitBreaker = showCircuitBreaker(own.circuitBreaker);
  // A row that was left when the breaker was turned off holds nothing back.
  const circuitState = (circuitBreaker.enabled ? row.circuit_state : null) ?? 'closed';
  return {
    id: formatId('webhook', row.id),
    tenant_id: formatId('tenant', row.tenant_id),
    environment: environment.name,
    ...showSettings(own, environment.preset, masker),
    ...(publicKey !== undefined && { signing_public_key: publicKey }),
    circuit_state: circuitState,
    circuit_reopens_at: circuitState === 'open' ? (row.circuit_reopens_at?.toISOString() ?? null) : null,
    total_deliveries: row.delivered + row.dead,
    successful_deliveries: row.delivered,
    failed_deliveries: row.dead,
    filtered_deliveries: row.filtered,
    last_triggered_at: row.last_triggered_at?.toISOString() ?? null,
    created_at: row.created_at.toISOString(),
    updated_at: row.updated_at.toISOString(),
  };
}

/** What people decide about a webhook, with what the presets decide where they do not. */
export function showSettings(own: WebhookSettings, environmentPreset: string, masker: Masker) {
  const settings = resolveSettings(own, environmentPreset);
  return {
    name: own.name,
    url: masker.text(own.url),
    description: own.description === null ? null : masker.text(own.description),
    owner: own.owner,
    metadata: masker.reveals ? own.metadata : JSON.parse(masker.json(JSON.stringify(own.metadata))),
    events: [...own.events],
    is_active: own.status === 'active',
    status: own.status,
    status_reason: own.statusReason,
    http_method: own.httpMethod,
    headers: masker.headers(Object.fromEntries(pairs(maskHeaders(own.headers)))),
    auth: showAuth(own.auth, masker),
    compression: own.compression,
    preset: settings.preset.name,
    envelope: settings.envelope,
    transformation: showTransformation(own.transformation, masker),
    signature: settings.signature,
    signature_method: settings.signature.method,
    retry_policy: showRetryPolicy(settings.retryPolicy),
    retry_count: settings.retryPolicy.maxAttempts - 1,
    timeout_seconds: settings.timeoutSeconds,
    max_concurrency: own.maxConcurrency,
    rate_limit_per_minute: own.rateLimitPerMinute,
    ordering: showOrdering(own.ordering),
    batching: showBatching(own.batching),
    circuit_breaker: showCircuitBreaker(own.circuitBreaker),
    failover_url: own.failoverUrl === null ? null : masker.text(own.failoverUrl),
    ip_whitelist: own.ipWhitelist === null ? null : [...own.ipWhitelist],
    priority: own.priority,
    verify_tls: own.verifyTls,
    filters: [...own.filters],
    filter_mode: own.filterMode,
  };
}

function showTransformation(own: Transformation | null, masker: Masker) {
  if (own === null || masker.reveals) return own;
  return { ...own, template: JSON.parse(masker.json(JSON.stringify(own.template))) as Json };
}

/** The answer of `/secret`. `asymmetric`: whether the webhook signs with its key pair. */
export function showSecrets(
  secrets: readonly LiveSecret[],
  tenantId: string,
  asymmetric: boolean,
  box: SecretBox,
): SecretsShown {
  const newest = secrets.find((secret) => secret.kind === 'symmetric');
  const publicKey = asymmetric ? newestPublicKey(secrets, tenantId, box) : undefined;
  return {
    secret: newest === undefined ? '' : openSecret(newest, tenantId, box),
    previous: secrets.flatMap(({ kind, expiresAt }) =>
      expiresAt === null ? [] : [{ kind, expires_at: expiresAt.toISOString() }],
    ),
    ...(publicKey !== undefined && { public_key: publicKey }),
  };
}

function newestPublicKey(secrets: readonly LiveSecret[], tenantId: string, box: SecretBox): string | undefined {
  const newest = secrets.find((secret) => secret.kind === 'asymmetric');
  return newest && publicKeyOf(openSecret(newest, tenantId, box));
}
