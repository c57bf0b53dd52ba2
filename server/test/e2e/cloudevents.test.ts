import { type CloudEvent, HTTP } from 'cloudevents';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { eventually } from '../../src/testing/eventually.ts';
import { startTestPosthorn, type TestPosthorn } from '../../src/testing/posthorn.ts';
import { type ReceivedRequest, type Receiver, startReceiver } from '../../src/testing/receiver.ts';

let posthorn: TestPosthorn;
let receiver: Receiver;
beforeAll(async () => {
  posthorn = await startTestPosthorn();
  receiver = await startReceiver();
});
afterAll(async () => {
  await receiver.stop();
  await posthorn.stop();
});

/** What the HTTP binding of the public package makes of a request. */
function read({ headers, body }: ReceivedRequest): CloudEvent<unknown> {
  const event = HTTP.toEvent({ headers, body: body.toString() });
  if (Array.isArray(event)) throw new Error('A batch arrived.');
  expect((event as CloudEvent).validate()).toBe(true);
  return event as CloudEvent<unknown>;
}

test.each([
  ['cloudevents', 'application/cloudevents+json'],
  ['cloudevents_binary', 'application/json'],
])('a webhook with the envelope %s gets events that CloudEvents software reads', async (envelope, contentType) => {
  const { body: webhook } = await posthorn.call('POST', '/api/v1/webhooks', {
    name: envelope,
    url: receiver.url,
    events: [`mode.${envelope}`],
    envelope,
    // It keeps headers of these names that it had before it took the binary mode, and sends each name once.
    headers: { 'Ce-Id': 'mine', 'Ce-Tenant': 'acme', 'X-Own': 'kept' },
  });
  expect(webhook.envelope).toBe(envelope);
  const before = receiver.requests.length;
  const { body: event } = await posthorn.call('POST', '/api/v1/events', {
    event_type: `mode.${envelope}`,
    data: { total: 12.5, note: 'Grüße' },
    timestamp: '2026-01-31T12:00:00Z',
  });
  const request = (await receiver.received(before + 1))[before] as ReceivedRequest;
  expect(request.headers).toMatchObject({ 'content-type': contentType, 'x-own': 'kept', 'webhook-id': event.id });
  expect(read(request)).toMatchObject({
    id: event.id,
    source: 'posthorn',
    type: `mode.${envelope}`,
    time: '2026-01-31T12:00:00.000Z',
    data: { total: 12.5, note: 'Grüße' },
  });
  expect(request.headers['ce-tenant']).toBe(envelope === 'cloudevents' ? 'acme' : undefined);

  const delivery = await eventually(
    async () => (await posthorn.call('GET', `/api/v1/deliveries?event_id=${event.id}`)).body.data[0],
    (found) => found?.status === 'delivered',
  );
  const [attempt] = (await posthorn.call('GET', `/api/v1/deliveries/${delivery.id}`)).body.attempts;
  expect(attempt.request_body).toBe(request.body.toString());
  expect(attempt.request_headers['ce-id']).toBe(envelope === 'cloudevents' ? 'mine' : event.id);
});

test('a signature cannot be put into a header of a CloudEvent', async () => {
  const answer = await posthorn.call('POST', '/api/v1/webhooks', {
    name: 'CloudEvents',
    url: receiver.url,
    events: ['*'],
    signature: { method: 'hmac_sha256', header: 'CE-Type' },
  });
  expect([answer.status, answer.body.error.details.fields[0].path]).toEqual([422, 'signature.header']);
});
