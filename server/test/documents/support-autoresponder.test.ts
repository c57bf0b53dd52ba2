import { expect, test } from 'vitest';
import type { ReceivedRequest } from '../../src/testing/receiver.ts';
import { receiver, tenant, testDocument } from './document-fixture.ts';
import { changed, hasPython, pythonVerdicts, supportReceiver } from './printed-code.ts';

/** What support-autoresponder.md says of outgoing webhooks beyond its events. */
testDocument('support-autoresponder');

const PRINTED = {
  event: 'ticket.created',
  timestamp: '2024-01-15T10:30:00Z',
  data: {
    ticket: {
      id: 'uuid',
      ticket_number: 'TKT-2024-001',
      subject: 'Ticket subject',
      status: 'new',
      customer_email: 'customer@example.com',
    },
  },
};

test('the printed payload is what arrives when it is published, byte for byte but for the milliseconds', async () => {
  await tenant.createWebhook(receiver.url);
  await tenant.publish(PRINTED);
  const [request] = await receiver.received(1);
  expect(request?.body.toString()).toBe(JSON.stringify({ ...PRINTED, timestamp: '2024-01-15T10:30:00.000Z' }));
});

test('a webhook is its URL, its secret and the selected events, and gets no others', async () => {
  await tenant.createWebhook(receiver.url, { secret: 'chosen secret', events: ['ticket.*', 'feedback.received'] });
  for (const [type, deliveries] of [
    ['ticket.escalated', 1],
    ['feedback.received', 1],
    ['ai.response.approved', 0],
    ['conversation.added', 0],
  ] as const) {
    expect(await tenant.publish({ event: type, data: {} }), type).toMatchObject({ deliveries });
  }
});

test('an own User-Agent takes the place of the one of the document', async () => {
  const { id } = await tenant.createWebhook(receiver.url, { headers: { 'User-Agent': 'Desk/2.0' } });
  await tenant.call('POST', `/api/v1/webhooks/${id}/test`);
  await tenant.call('PATCH', `/api/v1/webhooks/${id}`, { headers: { 'user-agent': null } });
  await tenant.call('POST', `/api/v1/webhooks/${id}/test`);
  expect(receiver.requests.map(({ headers }) => headers['user-agent'])).toEqual([
    'Desk/2.0',
    'AI-Support-Autoresponder/1.0',
  ]);
});

// The receiver reads the raw body, so every spelling of JSON must verify, and so must every secret.
test.each(['chosen secret', 'pässwort-漢字', 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'])(
  'the printed code accepts any JSON and the secret %s, and refuses another secret or body',
  async (secret) => {
    await tenant.createWebhook(receiver.url, { secret });
    const data = '{"b":1.0,"a":12345678901234567890,"é":"\\u00e9\\/ ü \u2028","x":[ 1e2 , {} ]}';
    await tenant.publish(`{"event":"ticket.updated","data":${data}}`);
    const [request] = (await receiver.received(1)) as [ReceivedRequest];
    expect(request.body.toString()).toContain('"x":[1e2,{}]');
    expect(supportReceiver(secret)(request).status).toBe(200);
    expect(supportReceiver('another secret')(request)).toMatchObject({
      status: 401,
      body: { error: 'Invalid signature' },
    });
    expect(supportReceiver(secret)(changed(request)).status).toBe(401);
    if (!hasPython) return;
    expect(pythonVerdicts('support-autoresponder', secret, [request, changed(request)])).toEqual([true, false]);
    expect(pythonVerdicts('support-autoresponder', 'another secret', [request])).toEqual([false]);
  },
);

test('after a rotation the printed code accepts the new secret only', async () => {
  const { id } = await tenant.createWebhook(receiver.url, { secret: 'the old secret' });
  await tenant.call('POST', `/api/v1/webhooks/${id}/secret/rotate`, { secret: 'the new secret' });
  await tenant.publish({ event: 'ticket.updated', data: {} });
  const [request] = (await receiver.received(1)) as [ReceivedRequest];
  expect(supportReceiver('the new secret')(request).status).toBe(200);
  expect(supportReceiver('the old secret')(request).status).toBe(401);
});
