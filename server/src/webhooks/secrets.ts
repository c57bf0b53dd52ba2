import { type SqlBool, sql, type Transaction } from 'kysely';
import type { Database } from '../db/pool.ts';
import type { Tables } from '../db/tables.ts';
import { SEALED_COLUMNS, sealedPlace } from '../encryption/sealed-columns.ts';
import { conflict } from '../kernel/errors.ts';
import type { SecretBox } from '../kernel/secret-box.ts';
import type { SigningKeys } from '../signing/scheme.ts';
import { openSealed } from './rows.ts';

export type SecretKind = 'symmetric' | 'asymmetric';

/** A secret with which a webhook signs now: the newest of its kind, or an older one within its grace. */
export interface LiveSecret {
  webhookId: string;
  id: string;
  kind: SecretKind;
  box: Buffer;
  /** null: until it is replaced. */
  expiresAt: Date | null;
}

/** Secrets of one kind that may sign side by side. Each adds a signature to every delivery. */
const LIVE_SECRETS_MAX = 5;

/** The live secrets of webhooks of one tenant, newest first within each. */
export async function liveSecrets(
  db: Database,
  tenantId: string,
  webhookIds: readonly string[],
  nowMs: number,
): Promise<LiveSecret[]> {
  if (webhookIds.length === 0) return [];
  return db
    .selectFrom('webhook_secrets')
    .select(['webhook_id as webhookId', 'id', 'kind', 'secret_box as box', 'expires_at as expiresAt'])
    .where('tenant_id', '=', tenantId)
    .where(sql<SqlBool>`webhook_id = ANY(${webhookIds}::uuid[])`)
    .where((eb) => eb.or([eb('expires_at', 'is', null), eb('expires_at', '>', new Date(nowMs))]))
    .orderBy('webhook_id')
    .orderBy((eb) => eb('expires_at', 'is', null), 'desc')
    .orderBy('created_at', 'desc')
    .orderBy('id', 'desc')
    .execute();
}

/** The keys of one webhook, for its signer. */
export function openKeys(secrets: readonly LiveSecret[], tenantId: string, box: SecretBox): SigningKeys {
  const open = (kind: SecretKind) =>
    secrets.filter((secret) => secret.kind === kind).map((secret) => openSecret(secret, tenantId, box));
  return { secrets: open('symmetric'), privateKeys: open('asymmetric') };
}

/** @throws AppError 500 when it was stored with another encryption key. */
export function openSecret(secret: LiveSecret, tenantId: string, box: SecretBox): string {
  return openSealed(box, secret.box, placeOf(tenantId, secret.webhookId, secret.id));
}

export interface NewSecret {
  tenantId: string;
  webhookId: string;
  id: string;
  kind: SecretKind;
  secret: string;
  now: Date;
}

export async function insertSecret(trx: Transaction<Tables>, secret: NewSecret, box: SecretBox): Promise<void> {
  const { tenantId, webhookId, id, kind, now } = secret;
  await trx
    .insertInto('webhook_secrets')
    .values({
      tenant_id: tenantId,
      webhook_id: webhookId,
      id,
      kind,
      secret_box: box.seal(secret.secret, placeOf(tenantId, webhookId, id)),
      created_at: now,
      expires_at: null,
    })
    .execute();
}

/** Whether this is the webhook's newest shared secret: a client that sends all it has, sends it each time. */
export async function isNewestSecret(
  trx: Transaction<Tables>,
  { tenantId, webhookId, secret, now }: NewSecret,
  box: SecretBox,
): Promise<boolean> {
  const live = await liveSecrets(trx, tenantId, [webhookId], now.getTime());
  const newest = live.find(({ kind }) => kind === 'symmetric');
  if (newest === undefined) return false;
  await box.learn([newest.box]);
  return openSecret(newest, tenantId, box) === secret;
}

/**
 * Puts a secret in the place of the newest one of its kind, which goes on signing beside it for the grace. The caller
 * has locked the webhook's row.
 *
 * @throws AppError 409 when too many would then be live.
 */
export async function replaceSecret(
  trx: Transaction<Tables>,
  secret: NewSecret,
  graceMs: number,
  box: SecretBox,
): Promise<void> {
  const { tenantId, webhookId, kind, now } = secret;
  await trx
    .updateTable('webhook_secrets')
    .set({ expires_at: new Date(now.getTime() + graceMs) })
    .where('tenant_id', '=', tenantId)
    .where('webhook_id', '=', webhookId)
    .where('kind', '=', kind)
    .where('expires_at', 'is', null)
    .execute();
  await trx
    .deleteFrom('webhook_secrets')
    .where('tenant_id', '=', tenantId)
    .where('webhook_id', '=', webhookId)
    .where('expires_at', '<=', now)
    .execute();
  const left = await trx
    .selectFrom('webhook_secrets')
    .select((eb) => eb.fn.countAll<number>().as('count'))
    .where('tenant_id', '=', tenantId)
    .where('webhook_id', '=', webhookId)
    .where('kind', '=', kind)
    .executeTakeFirstOrThrow();
  if (left.count >= LIVE_SECRETS_MAX) {
    throw conflict(
      'too_many_secrets',
      `At most ${LIVE_SECRETS_MAX} secrets may sign side by side; wait until the grace of one has ended, or rotate with grace_period_seconds 0.`,
    );
  }
  await insertSecret(trx, secret, box);
}

function placeOf(tenantId: string, webhookId: string, id: string): string {
  return sealedPlace(SEALED_COLUMNS.webhookSecret, tenantId, webhookId, id);
}
