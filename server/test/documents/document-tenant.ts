import { expect } from 'vitest';
import { eventually } from '../../src/testing/eventually.ts';
import type { Answer, TestPosthorn } from '../../src/testing/posthorn.ts';

/**
 * A tenant's environment with a preset installed, spoken to over HTTP with an API key of the role `developer`, as the
 * application of a requirement document would. Event types beyond the preset's are refused there.
 */
export interface DocumentTenant {
  /** The API key: the token that the documents' examples leave open. */
  key: string;
  call(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Answer>;
  /** The webhook that POST answers with; fields that are not given have a name, the URL and all events. */
  createWebhook(url: string, fields?: object): Promise<Answer['body']>;
  /** The 202 of a publish; a text is sent as it is. */
  publish(event: object | string): Promise<Answer['body']>;
  /** The event's delivery to the webhook, once it has this status. */
  delivery(eventId: string, webhookId: string, status: string): Promise<Answer['body']>;
}

export async function openTenant(
  posthorn: TestPosthorn,
  slug: string,
  preset: string,
  environment = 'production',
): Promise<DocumentTenant> {
  const scope = { 'x-tenant-id': slug, 'x-environment': environment };
  const tenant = await posthorn.call('POST', '/api/v1/tenants', { name: slug, slug });
  expect([201, 409]).toContain(tenant.status);
  const installed = await posthorn.call('POST', `/api/v1/event-types/presets/${preset}`, undefined, scope);
  expect(installed.status).toBe(200);
  const made = await posthorn.call('POST', '/api/v1/api-keys', { name: 'Application', role: 'developer' }, scope);
  expect(made.status).toBe(201);
  const { key } = made.body;

  const call: DocumentTenant['call'] = (method, path, body, headers) =>
    posthorn.call(method, path, body, { authorization: `Bearer ${key}`, ...headers });
  return {
    key,
    call,
    async createWebhook(url, fields) {
      const answer = await call('POST', '/api/v1/webhooks', { name: 'Webhook', url, events: ['*'], ...fields });
      expect(answer.status, answer.text).toBe(201);
      return answer.body;
    },
    async publish(event) {
      const answer = await call('POST', '/api/v1/events', event);
      expect(answer.status, answer.text).toBe(202);
      return answer.body;
    },
    delivery: (eventId, webhookId, status) =>
      eventually(
        async () => {
          const query = `event_id=${eventId}&webhook_id=${webhookId}`;
          return (await call('GET', `/api/v1/webhooks/deliveries?${query}`)).body.data[0];
        },
        (row) => row?.status === status,
      ),
  };
}
