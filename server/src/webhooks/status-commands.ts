import type { Transaction } from 'kysely';
import { bySystem } from '../audit/auditor.ts';
import type { Tables } from '../db/tables.ts';
import type { Scope } from '../http/caller.ts';
import { activate } from './activate.ts';
import { announce } from './announcements.ts';
import { MANUAL } from './change.ts';
import { readHealth } from './failing-webhooks.ts';
import { failingTooLongSince } from './failure-streak.ts';
import { lockWebhook, type WebhookRow } from './rows.ts';
import type { WebhookStatus } from './settings.ts';
import { type Changer, change, doneTo, lockOrThrow, type WebhookStore } from './store.ts';

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

async function writeStatus(trx: Transaction<Tables>, row: WebhookRow, next: StatusAndReason, now: Date): Promise<void> {
  await trx
    .updateTable('webhooks')
    .set({ status: next.status, status_reason: next.reason, updated_at: now })
    .where('tenant_id', '=', row.tenant_id)
    .where('id', '=', row.id)
    .execute();
}
