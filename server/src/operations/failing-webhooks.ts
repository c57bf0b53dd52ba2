import { type DisabledWebhook, disableWebhook, type WebhookStore } from '../webhooks/commands.ts';
import { failingWebhooks } from '../webhooks/failing-webhooks.ts';

export interface FailingWebhooksDeps {
  store: WebhookStore;
  /** Called once for each webhook that this call disabled, after the commit. */
  onDisabled: (disabled: DisabledWebhook) => void;
}

/**
 * Disables the webhooks, of all tenants, that have failed for days. Several nodes may do it at once: each webhook is
 * disabled by one of them, which alone is told of it.
 */
export async function disableFailingWebhooks(deps: FailingWebhooksDeps, nowMs: number): Promise<void> {
  const { store, onDisabled } = deps;
  for await (const webhook of failingWebhooks(store.db, nowMs)) {
    const disabled = await disableWebhook(store, webhook, webhook.id, 'failing');
    if (disabled !== undefined) onDisabled(disabled);
  }
}
