import { createHmac } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { type ReceivedRequest, startReceiver } from '../../src/testing/receiver.ts';
import { receiver, tenant, testDocument } from './document-fixture.ts';

/** What call-center.md says beyond its events: its payloads, its endpoint fields, its retries. */
testDocument('call-center');

const PRINTED_RETRY_POLICY = {
  enabled: true,
  max_attempts: 5,
  initial_delay_seconds: 1,
  max_delay_seconds: 300,
  backoff_multiplier: 2.0,
  retry_on_status_codes: [408, 429, 500, 502, 503, 504],
};

const PRINTED_LEAD = {
  event_type: 'lead.created',
  event_id: 'evt_123456789',
  timestamp: '2025-08-05T17:30:00Z',
  data: {
    lead: {
      id: 'lead_123',
      name: 'John Doe',
      email: 'john.doe@example.com',
      phone: '+1-555-0123',
      source: 'website',
      score: 85,
      created_at: '2025-08-05T17:30:00Z',
    },
    agent: { id: 'agent_456', name: 'Sarah Johnson', email: 'sarah@vocelio.com' },
  },
  metadata: { source_service: 'lead_management', version: '1.0', retry_count: 0 },
};

const PRINTED_CALL = {
  event_type: 'call.ended',
  event_id: 'call_789',
  timestamp: '2025-08-05T18:00:00Z',
  data: {
    call: {
      id: 'call_789',
      duration: 450,
      outcome: 'completed',
      recording_url: 'https://recordings.vocelio.com/call_789.mp3',
      started_at: '2025-08-05T17:52:30Z',
      ended_at: '2025-08-05T18:00:00Z',
    },
    customer: { id: 'customer_456', name: 'Jane Smith', phone: '+1-555-0789' },
    agent: { id: 'agent_123', name: 'Mike Wilson' },
  },
};

const withMilliseconds = (timestamp: string) => timestamp.replace('Z', '.000Z');

describe('the printed payloads', () => {
  test('a lead published as printed is delivered as printed, byte for byte but for the milliseconds', async () => {
    await tenant.createWebhook(receiver.url);
    await tenant.publish(PRINTED_LEAD);
    const [request] = await receiver.received(1);
    const expected = { ...PRINTED_LEAD, timestamp: withMilliseconds(PRINTED_LEAD.timestamp) };
    expect(request?.body.toString()).toBe(JSON.stringify(expected));
  });

  test('a call without metadata gets the count of retries as its only metadata', async () => {
    await tenant.createWebhook(receiver.url);
    await tenant.publish(PRINTED_CALL);
    const [request] = await receiver.received(1);
    const timestamp = withMilliseconds(PRINTED_CALL.timestamp);
    const expected = { ...PRINTED_CALL, timestamp, metadata: { retry_count: 0 } };
    expect(request?.body.toString()).toBe(JSON.stringify(expected));
  });

  test('retry_count counts the retries, and every attempt is signed anew', async () => {
    receiver.onRequest = (request) => request.respond(receiver.requests.length < 3 ? 503 : 200);
    const { id, secret } = await tenant.createWebhook(receiver.url, {
      retry_policy: { schedule_seconds: [0], max_attempts: 3, jitter: 0 },
    });
    const event = await tenant.publish(PRINTED_LEAD);
    await tenant.delivery(event.id, id, 'delivered');
    const metadata = receiver.requests.map(({ body }) => JSON.parse(body.toString()).metadata);
    expect(metadata).toEqual([0, 1, 2].map((retry_count) => ({ ...PRINTED_LEAD.metadata, retry_count })));
    for (const { body, headers } of receiver.requests) {
      expect(headers['x-webhook-signature']).toBe(`sha256=${hmac('sha256', secret, body)}`);
    }
  });
});

test('the printed body of a test event is taken: `payload` is `data`, and two fields of a lead are enough', async () => {
  await tenant.createWebhook(receiver.url, { events: ['lead.created'] });
  const printed = `{
    "event_type": "lead.created",
    "payload": {
      "lead": {"id": "test_123", "name": "Test Lead"}
    }
  }`;
  expect(await tenant.publish(printed)).toMatchObject({ event_type: 'lead.created', deliveries: 1 });
  const [request] = await receiver.received(1);
  expect(request?.body.toString()).toContain('"data":{"lead":{"id":"test_123","name":"Test Lead"}}');
});

describe('a webhook endpoint', () => {
  test('is made with the fields of the CRM example, and sends its headers and signature', async () => {
    const fields = {
      name: 'Salesforce Lead Sync',
      url: `${receiver.url}/webhooks/leads`,
      events: ['lead.created', 'lead.updated', 'lead.converted'],
      http_method: 'POST',
      secret: 'salesforce_webhook_secret',
      signature_method: 'hmac_sha256',
      custom_headers: { Authorization: 'Bearer sf_token_123', 'X-Source': 'Vocelio' },
    };
    const { custom_headers, ...others } = fields;
    const webhook = await tenant.createWebhook(receiver.url, fields);
    expect(webhook).toMatchObject({ ...others, headers: { Authorization: '***', 'X-Source': 'Vocelio' } });

    await tenant.publish(PRINTED_LEAD);
    const [request] = (await receiver.received(1)) as [ReceivedRequest];
    expect([request.method, request.path]).toEqual(['POST', '/webhooks/leads']);
    expect(request.headers).toMatchObject({
      authorization: custom_headers.Authorization,
      'x-source': custom_headers['X-Source'],
      'x-webhook-signature': `sha256=${hmac('sha256', fields.secret, request.body)}`,
    });
    for (const path of ['', '/logs']) {
      expect((await tenant.call('GET', `/api/v1/webhooks/${webhook.id}${path}`)).text).not.toContain('sf_token_123');
    }
  });

  test.each(['POST', 'PUT', 'PATCH', 'DELETE'])('is called with the method %s, body and signature', async (method) => {
    const { secret } = await tenant.createWebhook(receiver.url, { http_method: method });
    await tenant.publish(PRINTED_LEAD);
    const [request] = (await receiver.received(1)) as [ReceivedRequest];
    expect(request.method).toBe(method);
    expect(JSON.parse(request.body.toString())).toMatchObject({ event_type: 'lead.created', data: PRINTED_LEAD.data });
    expect(request.headers['x-webhook-signature']).toBe(`sha256=${hmac('sha256', secret, request.body)}`);
  });

  test('is called with GET without a body, with the headers of every delivery', async () => {
    const { secret } = await tenant.createWebhook(receiver.url, { http_method: 'GET' });
    await tenant.publish(PRINTED_LEAD);
    const [request] = (await receiver.received(1)) as [ReceivedRequest];
    expect([request.method, request.body.length]).toEqual(['GET', 0]);
    expect(request.headers).toMatchObject({
      'x-webhook-event': 'lead.created',
      'x-webhook-signature': `sha256=${hmac('sha256', secret, Buffer.alloc(0))}`,
    });
    expect(request.headers['content-type']).toBeUndefined();
  });

  test('signs with SHA-1 where signature_method says so', async () => {
    const fields = { secret: 'salesforce_webhook_secret', signature_method: 'hmac_sha1' };
    expect(await tenant.createWebhook(receiver.url, fields)).toMatchObject({ signature_method: 'hmac_sha1' });
    await tenant.publish(PRINTED_LEAD);
    const [request] = (await receiver.received(1)) as [ReceivedRequest];
    expect(request.headers['x-webhook-signature']).toBe(`sha1=${hmac('sha1', fields.secret, request.body)}`);
  });

  test('takes API key authentication as a header, sent as it is and never shown', async () => {
    const { id } = await tenant.createWebhook(receiver.url, { custom_headers: { 'X-API-Key': 'your_api_key_here' } });
    const test = await tenant.call('POST', `/api/v1/webhooks/${id}/test`);
    expect(receiver.requests[0]?.headers['x-api-key']).toBe('your_api_key_here');
    expect(test.body.request_headers['x-api-key']).toBe('***');
    expect((await tenant.call('GET', `/api/v1/webhooks/${id}`)).text).not.toContain('your_api_key_here');
  });

  test('cannot give its headers under both names at once', async () => {
    const body = { name: 'Both', url: receiver.url, events: ['*'], headers: { 'X-A': '1' }, custom_headers: {} };
    const answer = await tenant.call('POST', '/api/v1/webhooks', body);
    expect(answer.status).toBe(422);
    expect(answer.body.error.details.fields).toMatchObject([{ path: 'custom_headers' }]);
  });
});

describe('retries', () => {
  test('a retry_policy given as printed is shown as printed', async () => {
    const webhook = await tenant.createWebhook(receiver.url, { retry_policy: PRINTED_RETRY_POLICY });
    expect(webhook.retry_policy).toMatchObject({ ...PRINTED_RETRY_POLICY, schedule_seconds: null });
    const shown = await tenant.call('GET', `/api/v1/webhooks/${webhook.id}`);
    expect(shown.body.retry_policy).toEqual(webhook.retry_policy);
  });

  test('the preset alone is the printed policy', async () => {
    expect((await tenant.createWebhook(receiver.url)).retry_policy).toMatchObject(PRINTED_RETRY_POLICY);
  });

  test('with `enabled: false` there is one attempt', async () => {
    receiver.onRequest = (request) => request.respond(500);
    const { id } = await tenant.createWebhook(receiver.url, { retry_policy: { enabled: false } });
    const event = await tenant.publish(PRINTED_LEAD);
    expect(await tenant.delivery(event.id, id, 'dead')).toMatchObject({ attempt_count: 1 });
  });

  test('the six printed statuses are tried again, others end the delivery at once', async () => {
    const statuses = { failed: [408, 429, 500, 502, 503, 504], dead: [302, 400, 401, 404, 422, 501, 505] };
    receiver.onRequest = (request) => request.respond(Number(request.path.slice(1)));
    for (const [outcome, codes] of Object.entries(statuses)) {
      for (const code of codes) {
        await tenant.createWebhook(`${receiver.url}/${code}`, { metadata: { outcome } });
      }
    }
    const webhooks = (await tenant.call('GET', '/api/v1/webhooks')).body.data;
    const event = await tenant.publish(PRINTED_LEAD);
    expect(event.deliveries).toBe(13);
    for (const { id, url, metadata } of webhooks) {
      const delivery = await tenant.delivery(event.id, id, metadata.outcome);
      expect(delivery.response_status, url).toBe(Number(new URL(url).pathname.slice(1)));
      expect(delivery.status_reason).toBe(metadata.outcome === 'dead' ? 'status_not_retryable' : null);
    }
  });

  test('a receiver that does not answer at all is tried again', async () => {
    receiver.onRequest = (request) => request.reset();
    const { id } = await tenant.createWebhook(receiver.url);
    const event = await tenant.publish(PRINTED_LEAD);
    expect(await tenant.delivery(event.id, id, 'failed')).toMatchObject({ error_class: 'reset', attempt_count: 1 });
  });

  test('Retry-After of a receiver that is over its limit is respected', async () => {
    receiver.onRequest = (request) => request.respond(429, { 'retry-after': '120' });
    const { id } = await tenant.createWebhook(receiver.url);
    const publishedAt = Date.now();
    const event = await tenant.publish(PRINTED_LEAD);
    const failed = await tenant.delivery(event.id, id, 'failed');
    expect(Date.parse(failed.next_attempt_at)).toBeGreaterThanOrEqual(publishedAt + 120_000);
    expect(Date.parse(failed.next_attempt_at)).toBeLessThanOrEqual(Date.now() + 120_000);
  });
});

function hmac(algorithm: string, secret: string, body: Buffer): string {
  return createHmac(algorithm, secret).update(body).digest('hex');
}

test.each([401, 403])(
  'the owner of an endpoint that answers %i is told at once, and no other owner',
  async (status) => {
    const watching = await startReceiver();
    receiver.onRequest = (request) => request.respond(status);
    for (const owner of ['ann', 'bob']) {
      await tenant.createWebhook(`${watching.url}/${owner}`, { owner, events: ['delivery.dead'] });
    }
    const { id } = await tenant.createWebhook(receiver.url, { owner: 'ann', retry_policy: PRINTED_RETRY_POLICY });
    const event = await tenant.publish(PRINTED_LEAD);
    const dead = await tenant.delivery(event.id, id, 'dead');
    const [told] = await watching.received(1);
    await watching.stop();
    expect(told?.path).toBe('/ann');
    expect(JSON.parse(told?.body.toString() ?? '').data).toMatchObject({
      delivery_id: dead.id,
      response_status: status,
      reason: 'status_not_retryable',
      webhook: { webhook_id: id, owner: 'ann' },
    });
    expect(watching.requests).toHaveLength(1);
    // It is not tried again: the same credentials would be refused again.
    expect(receiver.requests).toHaveLength(1);
  },
);
