import { failingWebhooks } from '../webhooks/failing-webhooks.ts';
import { disableWebhook } from '../webhooks/status-commands.ts';
import type { WebhookStore } from '../webhooks/store.ts';

/**
 * Disables the webhooks, of all tenants, that have failed for days. Several nodes may do it at once: each webhook is
 * disabled by one of them.
 */
export async function disableFailingWebhooks(store: WebhookStore, nowMs: number): Promise<void> {
  for await (const webhook of failingWebhooks(store.db, nowMs)) {
    await disableWebhook(store, webhook, webhook.id, 'failing');
  }
}
