import { Type } from 'typebox';
import { type ApiClient, apiPath } from '../api-client.ts';

/** A webhook at the server that leads to a receiver of this machine. */
export interface Registration {
  webhookId: string;
  /** Deletes the webhook. Throws what `ApiClient.call` throws. */
  remove(): Promise<void>;
}

const CreatedWebhook = Type.Object({ id: Type.String() });

const WebhookList = Type.Object({
  data: Type.Array(Type.Object({ id: Type.String(), name: Type.String(), url: Type.String() })),
});

const WEBHOOKS_PATH = '/api/v1/webhooks';
const NAME = 'Local receiver';

export interface ReceiverWebhook {
  url: string;
  /** Names and patterns, as in the field `events` of a webhook. */
  events: string[];
  /** Chosen here, so that the very first delivery can be checked. */
  secret: string;
}

/**
 * Makes a webhook for a receiver. One that an earlier receiver on the same address could not remove (it was killed) is
 * removed first, so that nothing arrives twice.
 */
export async function registerReceiver(client: ApiClient, webhook: ReceiverWebhook): Promise<Registration> {
  const found = await client.call(WebhookList, {
    method: 'GET',
    path: `${WEBHOOKS_PATH}?limit=250&q=${encodeURIComponent(NAME)}`,
  });
  for (const earlier of found.data) {
    if (earlier.name === NAME && earlier.url === webhook.url) await deleteWebhook(client, earlier.id);
  }
  const created = await client.call(CreatedWebhook, {
    method: 'POST',
    path: WEBHOOKS_PATH,
    body: { name: NAME, ...webhook },
  });
  return { webhookId: created.id, remove: () => deleteWebhook(client, created.id) };
}

async function deleteWebhook(client: ApiClient, id: string): Promise<void> {
  await client.callRaw({ method: 'DELETE', path: apiPath(WEBHOOKS_PATH, id) });
}
