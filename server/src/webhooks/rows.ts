import { type Selectable, type SqlBool, sql, type Transaction } from 'kysely';
import type { Database } from '../db/pool.ts';
import type { Tables } from '../db/tables.ts';
import { SEALED_COLUMNS, sealedPlace } from '../encryption/sealed-columns.ts';
import type { Reach, Scope } from '../http/caller.ts';
import type { PageRequest } from '../http/pagination.ts';
import { AppError } from '../kernel/errors.ts';
import type { SecretBox } from '../kernel/secret-box.ts';
import type { Filter, FilterMode } from '../routing/filters/filter.ts';
import { patternsMatching } from '../routing/subscription-index.ts';
import type { Envelope } from '../shaping/envelopes.ts';
import type { Transformation } from '../shaping/transformation.ts';
import type { SignatureSettings } from '../signing/config.ts';
import { type AuthSettings, NO_AUTH } from './auth/settings.ts';
import type { BatchingFields } from './batching.ts';
import type { CircuitBreakerFields } from './circuit-breaker.ts';
import { uncounted, uncountedFiltered } from './counts.ts';
import type { HeaderList } from './headers.ts';
import type { OrderingFields } from './ordering.ts';
import type { RetryPolicyFields } from './retry-policy.ts';
import type { Compression, HttpMethod, WebhookSettings, WebhookStatus } from './settings.ts';

export type WebhookRow = Selectable<Tables['webhooks']>;

/** A row with the counts of its deliveries and its circuit. */
export interface CountedWebhookRow extends WebhookRow {
  delivered: number;
  dead: number;
  filtered: number;
  last_triggered_at: Date | null;
  /** null: closed. */
  circuit_state: 'open' | 'half_open' | null;
  circuit_reopens_at: Date | null;
}

export interface WebhookFilter {
  /** An event type: the webhooks that would get it. A pattern: the webhooks that have it. */
  event?: string | undefined;
  active_only?: boolean | undefined;
  status?: WebhookStatus | undefined;
  owner?: string | undefined;
  /** A part of the name, URL or description, in any case. */
  q?: string | undefined;
  /** `q` is looked for in names alone. */
  qInNames?: boolean | undefined;
}

/** Newest first, one more than the page has room for. */
export async function listWebhooks(
  db: Database,
  reach: Reach,
  filter: WebhookFilter,
  page: PageRequest,
): Promise<CountedWebhookRow[]> {
  let query = countedWebhooks(db, reach)
    .orderBy('webhooks.id', 'desc')
    .offset(page.skip ?? 0)
    .limit(page.limit + 1);
  if (page.beforeId !== undefined) query = query.where('webhooks.id', '<', page.beforeId);
  if (filter.event !== undefined) {
    query = query.where(sql<SqlBool>`webhooks.events && ${patternsMatching(filter.event)}::text[]`);
  }
  if (filter.active_only === true) query = query.where('webhooks.status', '=', 'active');
  if (filter.status !== undefined) query = query.where('webhooks.status', '=', filter.status);
  if (filter.owner !== undefined) query = query.where('webhooks.owner', '=', filter.owner);
  if (filter.q !== undefined) {
    const part = `%${filter.q.replace(/[\\%_]/g, '\\$&')}%`;
    query = query.where((eb) =>
      eb.or([
        eb('webhooks.name', 'ilike', part),
        ...(filter.qInNames === true
          ? []
          : [eb('webhooks.url', 'ilike', part), eb('webhooks.description', 'ilike', part)]),
      ]),
    );
  }
  return query.execute();
}

export async function findWebhook(db: Database, reach: Reach, id: string): Promise<CountedWebhookRow | undefined> {
  return countedWebhooks(db, reach).where('webhooks.id', '=', id).executeTakeFirst();
}

/** The row, locked against other changes until the transaction ends. */
export async function lockWebhook(trx: Transaction<Tables>, reach: Reach, id: string): Promise<WebhookRow | undefined> {
  return trx
    .selectFrom('webhooks')
    .selectAll()
    .where('tenant_id', '=', reach.tenantId)
    .where('environment_id', '=', reach.environmentId)
    .where('id', '=', id)
    .$if(reach.owner !== undefined, (query) => query.where('owner', '=', reach.owner ?? ''))
    .forUpdate()
    .executeTakeFirst();
}

export async function insertWebhook(
  trx: Transaction<Tables>,
  scope: Scope,
  webhook: { id: string; settings: WebhookSettings; now: Date },
  box: SecretBox,
): Promise<WebhookRow> {
  const { id, settings, now } = webhook;
  return trx
    .insertInto('webhooks')
    .values({
      tenant_id: scope.tenantId,
      environment_id: scope.environmentId,
      id,
      ...toColumns(settings, scope.tenantId, id, box),
      created_at: now,
      updated_at: now,
    })
    .returningAll()
    .executeTakeFirstOrThrow();
}

/** Writes all settings of a row that the caller has locked. */
export async function updateWebhook(
  trx: Transaction<Tables>,
  row: WebhookRow,
  settings: WebhookSettings,
  now: Date,
  box: SecretBox,
): Promise<void> {
  await trx
    .updateTable('webhooks')
    .set({ ...toColumns(settings, row.tenant_id, row.id, box), updated_at: now })
    .where('tenant_id', '=', row.tenant_id)
    .where('id', '=', row.id)
    .execute();
}

/** @throws AppError 500 when the row's headers or `auth` cannot be opened with this encryption key. */
export function readSettings(row: WebhookRow, box: SecretBox): WebhookSettings {
  return {
    name: row.name,
    url: row.url,
    description: row.description,
    owner: row.owner,
    metadata: row.metadata as Record<string, unknown>,
    events: row.events,
    status: row.status,
    statusReason: row.status_reason,
    httpMethod: row.http_method as HttpMethod,
    headers: openHeaders(row, box),
    auth: openAuth(row, box),
    compression: row.compression as Compression,
    transformation: readTransformation(row),
    maxConcurrency: row.max_concurrency,
    rateLimitPerMinute: row.rate_limit_per_minute,
    ...readLaneSettings(row),
    failoverUrl: row.failover_url,
    ipWhitelist: row.ip_whitelist,
    priority: row.priority,
    verifyTls: row.verify_tls,
    ...readFilters(row),
    ...readOwnSettings(row),
  };
}

/** The part of a row over which a preset may have a say. */
export function readOwnSettings(row: WebhookRow) {
  return {
    preset: row.preset,
    envelope: row.envelope as Envelope | null,
    signature: (row.signature ?? {}) as SignatureSettings,
    retryPolicy: (row.retry_policy ?? {}) as RetryPolicyFields,
    timeoutSeconds: row.timeout_seconds,
  };
}

/** The part of a row that is kept as JSON and that no preset has a say in. */
export function readLaneSettings(row: WebhookRow) {
  return {
    ordering: (row.ordering ?? {}) as OrderingFields,
    batching: (row.batching ?? {}) as BatchingFields,
    circuitBreaker: (row.circuit_breaker ?? {}) as CircuitBreakerFields,
  };
}

/** The part of a row that says which events it wants. */
export function readFilters(row: WebhookRow) {
  return {
    filters: (row.filters ?? []) as readonly Filter[],
    filterMode: (row.filter_mode ?? 'all') as FilterMode,
  };
}

export function readTransformation(row: WebhookRow): Transformation | null {
  return row.transformation as Transformation | null;
}

export function openHeaders(row: WebhookRow, box: SecretBox): HeaderList {
  if (row.headers_box === null) return [];
  return JSON.parse(openSealed(box, row.headers_box, headersPlace(row.tenant_id, row.id))) as string[];
}

export function openAuth(row: WebhookRow, box: SecretBox): AuthSettings {
  if (row.auth_box === null) return NO_AUTH;
  return JSON.parse(openSealed(box, row.auth_box, authPlace(row.tenant_id, row.id))) as AuthSettings;
}

/** What of a row is sealed, for `SecretBox.learn`. */
export function sealedIn(row: WebhookRow): (Buffer | null)[] {
  return [row.headers_box, row.auth_box];
}

/** @throws AppError 500 when the value was sealed with a key that is not known here, or for another place. */
export function openSealed(box: SecretBox, sealed: Buffer, place: string): string {
  try {
    return box.open(sealed, place);
  } catch (cause) {
    throw new AppError({
      code: 'secret_unreadable',
      message:
        'A stored secret cannot be opened: it is damaged, it was stored for another row, or its key is not known here.',
      cause,
    });
  }
}

function toColumns(settings: WebhookSettings, tenantId: string, id: string, box: SecretBox) {
  const { headers, auth, signature, retryPolicy } = settings;
  return {
    name: settings.name,
    url: settings.url,
    description: settings.description,
    owner: settings.owner,
    metadata: JSON.stringify(settings.metadata),
    events: [...settings.events],
    status: settings.status,
    status_reason: settings.statusReason,
    http_method: settings.httpMethod,
    headers_box: headers.length === 0 ? null : box.seal(JSON.stringify(headers), headersPlace(tenantId, id)),
    auth_box: auth.type === 'none' ? null : box.seal(JSON.stringify(auth), authPlace(tenantId, id)),
    compression: settings.compression,
    preset: settings.preset,
    envelope: settings.envelope,
    transformation: settings.transformation === null ? null : JSON.stringify(settings.transformation),
    signature: jsonOrNull(signature),
    retry_policy: jsonOrNull(retryPolicy),
    timeout_seconds: settings.timeoutSeconds,
    max_concurrency: settings.maxConcurrency,
    rate_limit_per_minute: settings.rateLimitPerMinute,
    ordering: jsonOrNull(settings.ordering),
    batching: jsonOrNull(settings.batching),
    circuit_breaker: jsonOrNull(settings.circuitBreaker),
    failover_url: settings.failoverUrl,
    ip_whitelist: settings.ipWhitelist === null ? null : [...settings.ipWhitelist],
    priority: settings.priority,
    verify_tls: settings.verifyTls,
    filters: settings.filters.length === 0 ? null : JSON.stringify(settings.filters),
    filter_mode: settings.filterMode === 'all' ? null : settings.filterMode,
  };
}

function headersPlace(tenantId: string, id: string): string {
  return sealedPlace(SEALED_COLUMNS.webhookHeaders, tenantId, id);
}

function authPlace(tenantId: string, id: string): string {
  return sealedPlace(SEALED_COLUMNS.webhookAuth, tenantId, id);
}

function jsonOrNull(value: object): string | null {
  return Object.keys(value).length === 0 ? null : JSON.stringify(value);
}

function countedWebhooks(db: Database, reach: Reach) {
  return db
    .selectFrom('webhooks')
    .leftJoin('webhook_totals as totals', (join) =>
      join.onRef('totals.tenant_id', '=', 'webhooks.tenant_id').onRef('totals.webhook_id', '=', 'webhooks.id'),
    )
    .leftJoin(uncounted(reach.tenantId), (join) => join.onRef('uncounted.webhook_id', '=', 'webhooks.id'))
    .leftJoin(uncountedFiltered(reach.tenantId), (join) =>
      join.onRef('uncounted_filtered.webhook_id', '=', 'webhooks.id'),
    )
    .leftJoin('circuits', (join) =>
      join.onRef('circuits.tenant_id', '=', 'webhooks.tenant_id').onRef('circuits.webhook_id', '=', 'webhooks.id'),
    )
    .selectAll('webhooks')
    .select((eb) => [
      sql<number>`coalesce(totals.delivered, 0) + coalesce(uncounted.delivered, 0)`.as('delivered'),
      sql<number>`coalesce(totals.dead, 0) + coalesce(uncounted.dead, 0)`.as('dead'),
      sql<number>`coalesce(totals.filtered, 0) + coalesce(uncounted_filtered.filtered, 0)`.as('filtered'),
      sql<Date | null>`greatest(totals.last_triggered_at, uncounted.last_at)`.as('last_triggered_at'),
      eb.ref('circuits.state').as('circuit_state'),
      eb.ref('circuits.reopens_at').as('circuit_reopens_at'),
    ])
    .where('webhooks.tenant_id', '=', reach.tenantId)
    .where('webhooks.environment_id', '=', reach.environmentId)
    .$if(reach.owner !== undefined, (query) => query.where('webhooks.owner', '=', reach.owner ?? ''));
}
