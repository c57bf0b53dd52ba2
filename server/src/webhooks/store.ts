import type { Transaction } from 'kysely';
import type { Auditor } from '../audit/auditor.ts';
import type { AuditedAction, AuditLog } from '../audit/log.ts';
import type { Database } from '../db/pool.ts';
import type { Tables } from '../db/tables.ts';
import type { Reach } from '../http/caller.ts';
import type { Clock } from '../kernel/clock.ts';
import { notFound } from '../kernel/errors.ts';
import { formatId, type IdSource } from '../kernel/ids.ts';
import type { SecretBox } from '../kernel/secret-box.ts';
import { notify } from '../tenants/queries.ts';
import type { WebhookDirectory } from './directory.ts';
import { lockWebhook, type WebhookRow } from './rows.ts';

/** What commands on webhooks work with. */
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
export type Changer = Auditor & Reach;

/** What a change gives back, and what it did; without the latter it changed nothing. */
interface Outcome<T> {
  result: T;
  done?: AuditedAction;
}

/**
 * One change in one transaction, told to every node when it commits, and to this one before the answer. The audit log
 * has it.
 */
export async function change<T>(
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

/** @throws AppError 404 */
export async function lockOrThrow(trx: Transaction<Tables>, reach: Reach, id: string): Promise<WebhookRow> {
  const row = await lockWebhook(trx, reach, id);
  if (row === undefined) throw notFound('webhook');
  return row;
}

/** What the audit log calls something that was done to a webhook. */
export function doneTo(id: string, action: string) {
  return { action: `webhook.${action}`, resourceType: 'webhook', resourceId: formatId('webhook', id) } as const;
}
