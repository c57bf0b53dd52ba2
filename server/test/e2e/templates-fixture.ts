import { afterAll, beforeAll, beforeEach, expect } from 'vitest';
import { eventually } from '../../src/testing/eventually.ts';
import { startTestPosthorn, type TestPosthorn } from '../../src/testing/posthorn.ts';
import { type Receiver, startReceiver } from '../../src/testing/receiver.ts';

/** The program, and a new receiver for each test, after which no webhook and no template is left. */
export let posthorn: TestPosthorn;
export let receiver: Receiver;

beforeAll(async () => {
  posthorn = await startTestPosthorn();
});
afterAll(() => posthorn.stop());
beforeEach(async () => {
  receiver = await startReceiver();
  return async () => {
    for (const kind of ['webhooks', 'templates']) {
      for (const { id } of (await posthorn.call('GET', `/api/v1/${kind}`)).body.data) {
        await posthorn.call('DELETE', `/api/v1/${kind}/${id}`);
      }
    }
    await receiver.stop();
  };
});

export async function ask(method: string, path: string, body?: unknown, status = 200) {
  const answer = await posthorn.call(method, path, body);
  expect(answer.status, `${method} ${path}: ${answer.text}`).toBe(status);
  return answer.body;
}

export const hook = (fields: object = {}) => ({ name: 'Test', url: receiver.url, events: ['*'], ...fields });
export const createWebhook = (fields: object = {}) => ask('POST', '/api/v1/webhooks', hook(fields), 201);
export const createTemplate = (fields: object) =>
  ask('POST', '/api/v1/templates', { name: 'crm', template: { a: 1 }, ...fields }, 201);

/** Publishes a `lead.created`; gives the answer. */
export const publish = (data: object, fields: object = {}) =>
  ask('POST', '/api/v1/events', { event_type: 'lead.created', data, ...fields }, 202);

/** The delivery of an event when it has come to a status, with its attempts. */
export async function ended(eventId: string, status: string) {
  const { id } = await eventually(
    async () => (await posthorn.call('GET', `/api/v1/deliveries?event_id=${eventId}`)).body.data[0],
    (delivery) => delivery?.status === status,
  );
  return ask('GET', `/api/v1/deliveries/${id}`);
}
