import type { Transaction } from 'kysely';
import type { Tables } from '../db/tables.ts';
import { invalidField } from '../kernel/errors.ts';
import { generateKeyPair } from '../signing/key-pairs.ts';
import { generateSecret, secretProblem } from '../signing/secrets.ts';
import { environmentPreset } from '../tenants/environment-preset.ts';
import { readOwnSettings, type WebhookRow } from './rows.ts';
import { insertSecret, liveSecrets, type NewSecret, replaceSecret, type SecretKind } from './secrets.ts';
import { resolveSettings, type WebhookSettings } from './settings.ts';
import { type Changer, change, doneTo, lockOrThrow, type WebhookStore } from './store.ts';

/** How long replaced secrets go on signing unless the caller says otherwise. */
export const GRACE_SECONDS = 86_400;

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

export async function ensureKeyPair(
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

export function newSecret(
  store: WebhookStore,
  row: WebhookRow,
  kind: SecretKind,
  secret: string,
  now: Date,
): NewSecret {
  return { tenantId: row.tenant_id, webhookId: row.id, id: store.newId(), kind, secret, now };
}

export function refuseBadSecret(secret: string): void {
  const problem = secretProblem(secret);
  if (problem !== undefined) throw invalidField('secret', problem);
}
