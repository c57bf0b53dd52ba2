import type { Transaction } from 'kysely';
import { hidden } from '../audit/changed-fields.ts';
import type { Tables } from '../db/tables.ts';
import type { Scope } from '../http/caller.ts';
import { invalidField } from '../kernel/errors.ts';
import { holdStoredTemplates } from '../shaping/stored-templates.ts';
import { noSuchTemplate, storedName } from '../shaping/transformation.ts';
import { generateSecret } from '../signing/secrets.ts';
import { environmentPreset, lockEnvironment } from '../tenants/environment-preset.ts';
import { activate, closeCircuit } from './activate.ts';
import { auditedSettings } from './audited.ts';
import { applyChange } from './change.ts';
import { resolveCircuitBreaker } from './circuit-breaker.ts';
import { forgetStreak } from './failing-webhooks.ts';
import { resolveOrdering } from './ordering.ts';
import { refuseBeyondOwner } from './owner.ts';
import { refuseBeyondQuota, refuseOneTooMany } from './quota.ts';
import { insertWebhook, readSettings, sealedIn, updateWebhook, type WebhookRow } from './rows.ts';
import type { WebhookChange } from './schema.ts';
import { ensureKeyPair, GRACE_SECONDS, newSecret, refuseBadSecret } from './secret-commands.ts';
import { insertSecret, isNewestSecret, replaceSecret } from './secrets.ts';
import { BLANK_WEBHOOK, type WebhookSettings } from './settings.ts';
import { type Changer, change, doneTo, lockOrThrow, type WebhookStore } from './store.ts';
import { tellOfWaiting } from './told-deliveries.ts';
import { discardWaiting } from './waiting-deliveries.ts';

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

/** What failed so far says nothing of how requests will fare now, or is not to be counted any more. */
function forgivesFailures(before: WebhookSettings, after: WebhookSettings): boolean {
  return before.url !== after.url || resolveCircuitBreaker(after.circuitBreaker) === null;
}

function parksKeys({ ordering }: WebhookSettings): boolean {
  return resolveOrdering(ordering)?.onDead === 'park';
}

/** What waited for a dead delivery goes on. */
async function unparkKeys(trx: Transaction<Tables>, tenantId: string, webhookId: string): Promise<void> {
  await trx.deleteFrom('parked_keys').where('tenant_id', '=', tenantId).where('webhook_id', '=', webhookId).execute();
}

/** A webhook whose headers or `auth` do not open any more can be deleted all the same; the log has the rest of it then. */
function readWhatOpens(row: WebhookRow, { box }: WebhookStore): WebhookSettings {
  try {
    return readSettings(row, box);
  } catch {
    return readSettings({ ...row, headers_box: null, auth_box: null }, box);
  }
}
