import type { Transaction } from 'kysely';
import { type Auditor, bySystem } from '../audit/auditor.ts';
import { hidden } from '../audit/changed-fields.ts';
import type { AuditedAction, AuditLog } from '../audit/log.ts';
import type { Database } from '../db/pool.ts';
import type { Tables } from '../db/tables.ts';
import type { Reach, Scope } from '../http/caller.ts';
import type { Clock } from '../kernel/clock.ts';
import { conflict, invalidField, notFound } from '../kernel/errors.ts';
import { formatId, type IdSource } from '../kernel/ids.ts';
import type { SecretBox } from '../kernel/secret-box.ts';
import { holdStoredTemplates } from '../shaping/stored-templates.ts';
import { noSuchTemplate, storedName } from '../shaping/transformation.ts';
import { generateKeyPair } from '../signing/key-pairs.ts';
import { generateSecret, secretProblem } from '../signing/secrets.ts';
import { notify } from '../tenants/queries.ts';
import { announce } from './announcements.ts';
import { auditedSettings } from './audited.ts';
import { applyChange, MANUAL } from './change.ts';
import { resolveCircuitBreaker } from './circuit-breaker.ts';
import type { WebhookDirectory } from './directory.ts';
import { forgetStreak, readHealth } from './failing-webhooks.ts';
import { failingTooLongSince } from './failure-streak.ts';
import { resolveOrdering } from './ordering.ts';
import { refuseBeyondOwner } from './owner.ts';
import {
  insertWebhook,
  lockWebhook,
  readOwnSettings,
  readSettings,
  sealedIn,
  updateWebhook,
  type WebhookRow,
} from './rows.ts';
import type { WebhookChange } from './schema.ts';
import {
  insertSecret,
  isNewestSecret,
  liveSecrets,
  type NewSecret,
  replaceSecret,
  type SecretKind,
} from './secrets.ts';
import { BLANK_WEBHOOK, resolveSettings, type WebhookSettings, type WebhookStatus } from './settings.ts';
import { tellOfWaiting } from './told-deliveries.ts';
import { discardWaiting, releaseHeld } from './waiting-deliveries.ts';

export interface WebhookStore {
  db: Database;
  clock: Clock;
  newId: IdSource;
  audit: AuditLog;
  box: SecretBox;
  directory: Pick<WebhookDirectory, 'invalidate'>;
  /** Webhooks that a tenant may have in all of its environments; null: as many as it likes, as without this. */
  webhooksMax?: (tenantId: string) => Promise<number | null>;
}

/** Who changes a webhook, in the tenant and environment of which it is; with an owner only that owner's. */
type Changer = Auditor & Reach;

/** Webhooks an environment may have: the index of subscriptions and a page of totals stay quick up to there. */
const WEBHOOKS_MAX = 10_000;

/** Webhooks an owner may have before its portal makes no more: one customer must not use up the environment's. */
const WEBHOOKS_OF_OWNER_MAX = 100;

/** How long replaced secrets go on signing unless the caller says otherwise. */
export const GRACE_SECONDS = 86_400;

/**
 * Makes a webhook with its secret, and with a key pair where it signs asymmetrically. For a caller with an owner it is
 * that owner's. Returns its UUID and the secret.
 *
 * @throws AppError 422 for settings or a secret that cannot be, 403 for what reaches beyond the caller's owner, 409
 * beyond 10,000 webhooks, the tenant's quota, and for an owner's portal beyond 100, 404 when the environment is gone.
 */
export async function createWebhook(
  store: WebhookStore,
  by: Changer,
  body: WebhookChange,
): Promise<{ id: string; secret: string }> {
  const { secret = generateSecret(), ...given } = body;
  refuseBadSecret(secret);
  refuseBeyondOwner(by, given);
  const settings = by.owner === undefined ? given : { ...given, owner: by.owner };
  const id = store.newId();
  const ofTenantMax = (await store.webhooksMax?.(by.tenantId)) ?? null;
  await change(store, by, async (trx, now) => {
    if (ofTenantMax !== null) await refuseBeyondQuota(trx, by.tenantId, ofTenantMax);
    const preset = await lockEnvironment(trx, by);
    await refuseOneTooMany(trx, by);
    const webhook = { id, settings: applyChange(BLANK_WEBHOOK, settings, preset), now };
    await holdNamedTemplate(trx, by, webhook.settings);
    const row = await insertWebhook(trx, by, webhook, store.box);
    await insertSecret(trx, newSecret(store, row, 'symmetric', secret, now), store.box);
    await ensureKeyPair(store, trx, row, webhook.settings, preset, now);
    const done = { ...doneTo(id, 'created'), after: auditedSettings(webhook.settings, preset) };
    return { result: undefined, done };
  });
  return { id, secret };
}

/** @throws AppError 404, 422, 409 for one live secret too many, 403 for what reaches beyond the caller's owner. */
export async function changeWebhook(store: WebhookStore, by: Changer, id: string, body: WebhookChange): Promise<void> {
  const { secret, ...settings } = body;
  if (secret !== undefined) refuseBadSecret(secret);
  await change(store, by, async (trx, now) => {
    const row = await lockOrThrow(trx, by, id);
    refuseBeyondOwner(by, body, row);
    const preset = await environmentPreset(trx, by);
    await store.box.learn(sealedIn(row));
    const current = readSettings(row, store.box);
    const next = applyChange(current, settings, preset);
    if (settings.transformation !== undefined) await holdNamedTemplate(trx, by, next);
    await updateWebhook(trx, row, next, now, store.box);
    await ensureKeyPair(store, trx, row, next, preset, now);
    const given = secret === undefined ? undefined : newSecret(store, row, 'symmetric', secret, now);
    const isReplaced = given !== undefined && !(await isNewestSecret(trx, given, store.box));
    if (isReplaced) await replaceSecret(trx, given, GRACE_SECONDS * 1000, store.box);
    const activated = row.status !== 'active' && next.status === 'active';
    if (activated) await activate(trx, row, now);
    else if (forgivesFailures(current, next)) await closeCircuit(trx, row);
    if (!activated && next.url !== row.url) await forgetStreak(trx, row.tenant_id, id);
    if (!parksKeys(next)) await unparkKeys(trx, row.tenant_id, id);
    const [before, after] = [auditedSettings(current, preset), auditedSettings(next, preset)];
    const done = doneTo(id, 'updated');
    const result = undefined;
    if (!isReplaced) return { result, done: { ...done, before, after } };
    const replaced = { before: { ...before, secret: hidden('before') }, after: { ...after, secret: hidden('after') } };
    return { result, done: { ...done, ...replaced } };
  });
}

/** It was there when the request was judged, and may have been deleted since. @throws AppError 422 */
async function holdNamedTemplate(trx: Transaction<Tables>, scope: Scope, settings: WebhookSettings): Promise<void> {
  const name = settings.transformation === null ? undefined : storedName(settings.transformation.template);
  if (name === undefined || (await holdStoredTemplates(trx, scope, name))) return;
  throw invalidField('transformation.template', noSuchTemplate(name));
}

/**
 * Pauses, disables or enables a webhook. When it becomes active, its held deliveries become due, its circuit closes, and
 * what it failed before no longer counts against it.
 *
 * `action`: what the audit log calls it.
 * @throws AppError 404
 */
export async function setWebhookStatus(
  store: WebhookStore,
  by: Changer,
  id: string,
  status: WebhookStatus,
  action: 'paused' | 'resumed' | 'enabled' | 'disabled' = ACTIONS[status],
): Promise<void> {
  await change(store, by, async (trx, now) => {
    const row = await lockOrThrow(trx, by, id);
    if (row.status === status) return { result: undefined };
    const next = { status, reason: status === 'active' ? null : MANUAL };
    await writeStatus(trx, row, next, now);
    if (status === 'active') await activate(trx, row, now);
    return { result: undefined, done: { ...doneTo(id, action), ...auditedStatus(row, next) } };
  });
}

/** By Posthorn, which has told of it. */
function wasDisabled(row: WebhookRow): boolean {
  return row.status === 'disabled' && row.status_reason !== MANUAL;
}

/** Why Posthorn disables a webhook: its receiver answered 410, or has failed for days. */
export type DisableReason = 'gone' | 'failing';

/**
 * Disables a webhook because of what its receiver answers; `reason` is kept as its `status_reason`. Changes nothing
 * when it is gone or not active, since a person's choice stands, nor when it is no longer failing.
 *
 * Returns whether it did: of several calls at once one has. That is announced with the change.
 */
export async function disableWebhook(
  store: WebhookStore,
  scope: Scope,
  id: string,
  reason: DisableReason,
): Promise<boolean> {
  return change(store, bySystem(scope), async (trx, now) => {
    const row = await lockWebhook(trx, scope, id);
    if (row?.status !== 'active') return { result: false };
    const failingSince =
      reason === 'failing' ? failingTooLongSince(await readHealth(trx, scope.tenantId, id), now.getTime()) : null;
    if (failingSince === undefined) return { result: false };
    const next = { status: 'disabled', reason } as const;
    await writeStatus(trx, row, next, now);
    const details = { reason, failing_since: failingSince?.toISOString() ?? null };
    await announce(trx, { ...scope, id }, 'webhook.disabled', now, details);
    return { result: true, done: { ...doneTo(id, 'disabled'), ...auditedStatus(row, next) } };
  });
}

/** Deletes a webhook with its secrets and totals; deliveries that wait for it end as discarded. @throws AppError 404 */
export async function deleteWebhook(store: WebhookStore, by: Changer, id: string): Promise<void> {
  await change(store, by, async (trx, now) => {
    const row = await lockOrThrow(trx, by, id);
    await store.box.learn(sealedIn(row));
    await tellOfWaiting(trx, { tenantId: row.tenant_id, environmentId: row.environment_id }, id);
    await discardWaiting(trx, row.tenant_id, id, now);
    await trx
      .deleteFrom('webhook_totals')
      .where('tenant_id', '=', row.tenant_id)
      .where('webhook_id', '=', id)
      .execute();
    await closeCircuit(trx, row);
    await trx.deleteFrom('webhooks').where('tenant_id', '=', row.tenant_id).where('id', '=', id).execute();
    const before = auditedSettings(readWhatOpens(row, store), await environmentPreset(trx, by));
    return { result: undefined, done: { ...doneTo(id, 'deleted'), before } };
  });
}

/**
 * Gives a webhook the secret, or a generated one; without a given one an asymmetric webhook also gets a new key pair.
 * What is replaced goes on signing beside it for the grace.
 *
 * @throws AppError 404, 422, 409 when more than five secrets of a kind would be live.
 */
export async function rotateSecret(
  store: WebhookStore,
  by: Changer,
  id: string,
  options: { secret?: string | undefined; graceSeconds: number },
): Promise<void> {
  if (options.secret !== undefined) refuseBadSecret(options.secret);
  await change(store, by, async (trx, now) => {
    const row = await lockOrThrow(trx, by, id);
    const graceMs = options.graceSeconds * 1000;
    const secret = newSecret(store, row, 'symmetric', options.secret ?? generateSecret(), now);
    await replaceSecret(trx, secret, graceMs, store.box);
    const { signature } = resolveSettings(readOwnSettings(row), await environmentPreset(trx, by));
    if (options.secret === undefined && signature.asymmetric) {
      const keyPair = newSecret(store, row, 'asymmetric', generateKeyPair().privateKey, now);
      await replaceSecret(trx, keyPair, graceMs, store.box);
    }
    await trx
      .updateTable('webhooks')
      .set({ updated_at: now })
      .where('tenant_id', '=', row.tenant_id)
      .where('id', '=', id)
      .execute();
    const details = { given: options.secret !== undefined, grace_period_seconds: options.graceSeconds };
    return { result: undefined, done: { ...doneTo(id, 'secret_rotated'), details } };
  });
}

/** The preset that webhooks of the environment have by default. @throws AppError 404 when the environment is gone. */
export async function environmentPreset(db: Database, scope: Scope): Promise<string> {
  const row = await selectEnvironment(db, scope).executeTakeFirst();
  if (row === undefined) throw notFound('environment');
  return row.preset;
}

/** What a change gives back, and what it did; without the latter it changed nothing. */
interface Outcome<T> {
  result: T;
  done?: AuditedAction;
}

/**
 * One change in one transaction, told to every node when it commits, and to this one before the answer. The audit log
 * has it.
 */
async function change<T>(
  store: WebhookStore,
  by: Changer,
  work: (trx: Transaction<Tables>, now: Date) => Promise<Outcome<T>>,
): Promise<T> {
  const { tenantId, environmentId } = by;
  try {
    return await store.db.transaction().execute(async (trx) => {
      const { result, done } = await work(trx, new Date(store.clock.now()));
      await notify(trx, { topic: 'webhooks', tenantId, environmentId });
      if (done !== undefined) await store.audit.record(trx, by, done);
      return result;
    });
  } finally {
    // Also after a failure: a connection lost during the commit leaves open whether it happened.
    store.directory.invalidate(tenantId, environmentId);
  }
}

async function activate(trx: Transaction<Tables>, row: WebhookRow, now: Date): Promise<void> {
  const { tenant_id: tenantId, environment_id: environmentId, id: webhookId } = row;
  await releaseHeld(trx, tenantId, webhookId, now);
  await closeCircuit(trx, row);
  await forgetStreak(trx, tenantId, webhookId);
  if (wasDisabled(row)) {
    await announce(trx, { tenantId, environmentId, id: webhookId }, 'webhook.recovered', now, { reason: 'enabled' });
  }
  await notify(trx, { topic: 'webhook_resumed', tenantId, environmentId, webhookId });
}

/** What failed so far says nothing of how requests will fare now, or is not to be counted any more. */
function forgivesFailures(before: WebhookSettings, after: WebhookSettings): boolean {
  return before.url !== after.url || resolveCircuitBreaker(after.circuitBreaker) === null;
}

/** Every node forgets what it counted against the webhook. */
async function closeCircuit(trx: Transaction<Tables>, row: WebhookRow): Promise<void> {
  const { tenant_id: tenantId, environment_id: environmentId, id: webhookId } = row;
  await trx.deleteFrom('circuits').where('tenant_id', '=', tenantId).where('webhook_id', '=', webhookId).execute();
  await notify(trx, { topic: 'circuits', tenantId, environmentId, webhookId });
}

function parksKeys({ ordering }: WebhookSettings): boolean {
  return resolveOrdering(ordering)?.onDead === 'park';
}

/** What waited for a dead delivery goes on. */
async function unparkKeys(trx: Transaction<Tables>, tenantId: string, webhookId: string): Promise<void> {
  await trx.deleteFrom('parked_keys').where('tenant_id', '=', tenantId).where('webhook_id', '=', webhookId).execute();
}

interface StatusAndReason {
  status: WebhookStatus;
  reason: string | null;
}

function auditedStatus(row: WebhookRow, next: StatusAndReason) {
  return {
    before: { status: row.status, status_reason: row.status_reason },
    after: { status: next.status, status_reason: next.reason },
  };
}

/** What a change of the status alone is called, unless the request has another name for it. */
const ACTIONS = { active: 'enabled', paused: 'paused', disabled: 'disabled' } as const;

/** A webhook whose headers or `auth` do not open any more can be deleted all the same; the log has the rest of it then. */
function readWhatOpens(row: WebhookRow, { box }: WebhookStore): WebhookSettings {
  try {
    return readSettings(row, box);
  } catch {
    return readSettings({ ...row, headers_box: null, auth_box: null }, box);
  }
}

function doneTo(id: string, action: string) {
  return { action: `webhook.${action}`, resourceType: 'webhook', resourceId: formatId('webhook', id) } as const;
}

async function writeStatus(trx: Transaction<Tables>, row: WebhookRow, next: StatusAndReason, now: Date): Promise<void> {
  await trx
    .updateTable('webhooks')
    .set({ status: next.status, status_reason: next.reason, updated_at: now })
    .where('tenant_id', '=', row.tenant_id)
    .where('id', '=', row.id)
    .execute();
}

async function lockOrThrow(trx: Transaction<Tables>, reach: Reach, id: string): Promise<WebhookRow> {
  const row = await lockWebhook(trx, reach, id);
  if (row === undefined) throw notFound('webhook');
  return row;
}

/** Creations in an environment go one after the other, so that the limit holds exactly. */
async function lockEnvironment(trx: Transaction<Tables>, scope: Scope): Promise<string> {
  const row = await selectEnvironment(trx, scope).forNoKeyUpdate().executeTakeFirst();
  if (row === undefined) throw notFound('environment');
  return row.preset;
}

function selectEnvironment(db: Database, scope: Scope) {
  return db
    .selectFrom('environments')
    .select('preset')
    .where('tenant_id', '=', scope.tenantId)
    .where('id', '=', scope.environmentId);
}

async function refuseOneTooMany(trx: Transaction<Tables>, { tenantId, environmentId, owner }: Reach): Promise<void> {
  const { all, own } = await trx
    .selectFrom('webhooks')
    .select(({ fn }) => [
      fn.countAll<number>().as('all'),
      fn
        .countAll<number>()
        .filterWhere('owner', '=', owner ?? '')
        .as('own'),
    ])
    .where('tenant_id', '=', tenantId)
    .where('environment_id', '=', environmentId)
    .executeTakeFirstOrThrow();
  if (all >= WEBHOOKS_MAX) {
    throw conflict('too_many_webhooks', `An environment has at most ${WEBHOOKS_MAX} webhooks.`);
  }
  if (owner !== undefined && own >= WEBHOOKS_OF_OWNER_MAX) {
    throw conflict('too_many_webhooks', `An owner has at most ${WEBHOOKS_OF_OWNER_MAX} webhooks by portal tokens.`);
  }
}

/** Creations of a tenant with a quota go one after the other. The tenant is locked before its environment, as elsewhere. */
async function refuseBeyondQuota(trx: Transaction<Tables>, tenantId: string, max: number): Promise<void> {
  await trx.selectFrom('tenants').select('id').where('id', '=', tenantId).forNoKeyUpdate().execute();
  const { count } = await trx
    .selectFrom('webhooks')
    .select((eb) => eb.fn.countAll<number>().as('count'))
    .where('tenant_id', '=', tenantId)
    .executeTakeFirstOrThrow();
  if (count >= max) {
    throw conflict('quota_exceeded', `The tenant's limit of ${max} webhooks, all environments together, is reached.`, {
      limit: 'webhooks',
      value: max,
    });
  }
}

async function ensureKeyPair(
  store: WebhookStore,
  trx: Transaction<Tables>,
  row: WebhookRow,
  settings: WebhookSettings,
  preset: string,
  now: Date,
): Promise<void> {
  if (!resolveSettings(settings, preset).signature.asymmetric) return;
  const live = await liveSecrets(trx, row.tenant_id, [row.id], now.getTime());
  if (live.some((secret) => secret.kind === 'asymmetric')) return;
  await insertSecret(trx, newSecret(store, row, 'asymmetric', generateKeyPair().privateKey, now), store.box);
}

function newSecret(store: WebhookStore, row: WebhookRow, kind: SecretKind, secret: string, now: Date): NewSecret {
  return { tenantId: row.tenant_id, webhookId: row.id, id: store.newId(), kind, secret, now };
}

function refuseBadSecret(secret: string): void {
  const problem = secretProblem(secret);
  if (problem !== undefined) throw invalidField('secret', problem);
}
