import type { Transaction } from 'kysely';
import type { Tables } from '../db/tables.ts';
import { notify } from '../tenants/queries.ts';
import { announce } from './announcements.ts';
import { MANUAL } from './change.ts';
import { forgetStreak } from './failing-webhooks.ts';
import type { WebhookRow } from './rows.ts';
import { releaseHeld } from './waiting-deliveries.ts';

/**
 * What goes with a webhook that becomes active: its held deliveries become due, its circuit closes, and what it failed
 * before no longer counts against it.
 */
export async function activate(trx: Transaction<Tables>, row: WebhookRow, now: Date): Promise<void> {
  const { tenant_id: tenantId, environment_id: environmentId, id: webhookId } = row;
  await releaseHeld(trx, tenantId, webhookId, now);
  await closeCircuit(trx, row);
  await forgetStreak(trx, tenantId, webhookId);
  if (wasDisabled(row)) {
    await announce(trx, { tenantId, environmentId, id: webhookId }, 'webhook.recovered', now, { reason: 'enabled' });
  }
  await notify(trx, { topic: 'webhook_resumed', tenantId, environmentId, webhookId });
}

/** Every node forgets what it counted against the webhook. */
export async function closeCircuit(trx: Transaction<Tables>, row: WebhookRow): Promise<void> {
  const { tenant_id: tenantId, environment_id: environmentId, id: webhookId } = row;
  await trx.deleteFrom('circuits').where('tenant_id', '=', tenantId).where('webhook_id', '=', webhookId).execute();
  await notify(trx, { topic: 'circuits', tenantId, environmentId, webhookId });
}

/** By Posthorn, which has told of it. */
function wasDisabled(row: WebhookRow): boolean {
  return row.status === 'disabled' && row.status_reason !== MANUAL;
}
