import { Ajv2020 } from 'ajv/dist/2020.js';
import formats from 'ajv-formats';
import { Webhook } from 'standardwebhooks';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { findPreset } from '../../src/catalog/presets/presets.ts';
import { eventually } from '../../src/testing/eventually.ts';
import { type Answer, startTestPosthorn, type TestPosthorn } from '../../src/testing/posthorn.ts';
import { type ReceivedRequest, type Receiver, startReceiver } from '../../src/testing/receiver.ts';
import { type DocumentTenant, openTenant } from './document-tenant.ts';
import { DOCUMENTS, namesOf } from './documents.ts';
import {
  changed,
  hasPython,
  ispCommunicationsReceiver,
  type PrintedReceiver,
  pythonVerdicts,
  supportReceiver,
} from './printed-code.ts';

let posthorn: TestPosthorn;
beforeAll(async () => {
  posthorn = await startTestPosthorn();
});
afterAll(() => posthorn.stop());

const ajv = new Ajv2020({ strict: true });
formats.default(ajv);

test('the five documents bring 12, 25, 38, 10 and 22 event types', () => {
  expect(DOCUMENTS.map((document) => namesOf(document).length)).toEqual([12, 25, 38, 10, 22]);
});

describe.each(DOCUMENTS)('$preset', (document) => {
  const { preset, secret } = document;
  let tenant: DocumentTenant;
  let receiver: Receiver;
  let webhook: Answer['body'];
  let listed: Answer['body'][];
  /** The 202 of publishing each type's sample, and the answer of sending it as a test, by event type. */
  const published = new Map<string, Answer['body']>();
  const tested = new Map<string, Answer>();

  beforeAll(async () => {
    receiver = await startReceiver();
    tenant = await openTenant(posthorn, preset, preset);
    webhook = await tenant.createWebhook(receiver.url, { secret });
    listed = (await tenant.call('GET', '/api/v1/webhooks/events')).body.data;
    for (const { name, sample } of listed) {
      const event = { event_type: name, data: sample, timestamp: document.timestamp };
      published.set(name, (await tenant.call('POST', '/api/v1/events', event)).body);
      const path = `/api/v1/webhooks/${webhook.id}/test`;
      tested.set(name, await tenant.call('POST', path, { event_type: name }));
    }
    await eventually(
      async () => receiver.requests.length,
      (count) => count >= 2 * listed.length,
    );
    return () => receiver.stop();
  });

  /** The requests that carried an event: one, when all is well. */
  const requestsOf = (eventId: string) => receiver.requests.filter(({ headers }) => headers['webhook-id'] === eventId);

  describe('the catalogue', () => {
    test('has exactly the event types of the document, each under its heading', () => {
      const byGroup: Record<string, string[]> = {};
      for (const { name, group } of listed) byGroup[group] = [...(byGroup[group] ?? []), name].sort();
      const expected = Object.entries(document.eventTypes).map(([group, names]) => [group, [...names].sort()]);
      expect(byGroup).toEqual(Object.fromEntries(expected));
    });

    test('comes whole in one answer, without a next page', async () => {
      const { body } = await tenant.call('GET', '/api/v1/webhooks/events');
      expect(body).toMatchObject({ next_cursor: null, has_more: false });
      expect(body.data).toHaveLength(namesOf(document).length);
    });

    test('is the same when the preset is installed again', async () => {
      const scope = { 'x-tenant-id': preset };
      const again = await posthorn.call('POST', `/api/v1/event-types/presets/${preset}`, undefined, scope);
      expect(again.body).toMatchObject({ preset, installed: namesOf(document).length });
      expect((await tenant.call('GET', '/api/v1/webhooks/events')).body.data).toEqual(listed);
    });

    test('takes no event type of another document', async () => {
      const other = preset === 'call-center' ? 'invoice.paid' : 'lead.created';
      const answer = await tenant.call('POST', '/api/v1/events', { event_type: other, data: {} });
      expect(answer.status).toBe(422);
      expect((await tenant.call('GET', `/api/v1/webhooks/events/${other}`)).status).toBe(404);
    });
  });

  describe.each(namesOf(document))('%s', (type) => {
    test('is described with group, text, schema and a sample that fits the schema', async () => {
      const { status, body } = await tenant.call('GET', `/api/v1/webhooks/events/${type}`);
      expect(status).toBe(200);
      const { name, ...text } = findPreset(preset)?.event_types.find((each) => each.name === type) ?? {};
      expect(body).toEqual({ name, event_type: type, ...text, deprecated: false, enforce_schema: false });
      expect(body.description).toMatch(/^[A-Z].*\.$/);
      const validate = ajv.compile(body.schema);
      expect(validate(body.sample), JSON.stringify(validate.errors)).toBe(true);
      const { schema: _, enforce_schema: __, ...short } = body;
      expect(listed).toContainEqual(short);
    });

    test("is delivered once in the document's envelope", () => {
      const { id, deliveries } = published.get(type);
      expect(deliveries).toBe(1);
      const requests = requestsOf(id);
      expect(requests).toHaveLength(1);
      const { sample: data } = listed.find(({ name }) => name === type);
      const expected = document.body({ id, type, timestamp: document.timestamp, data });
      expect(requests[0]?.body.toString()).toBe(JSON.stringify(expected));
    });

    test("carries the document's headers and a Standard Webhooks signature", () => {
      const { id } = published.get(type);
      const [request] = requestsOf(id) as [ReceivedRequest];
      expectHeaders(request, type, id);
    });

    test('is sent by POST /webhooks/{id}/test, which answers with the attempt', () => {
      const { status, body: attempt } = tested.get(type) as Answer;
      expect(status).toBe(200);
      expect(attempt).toMatchObject({
        trigger: 'test',
        number: 1,
        is_success: true,
        webhook_id: webhook.id,
        event_type: type,
        url: new URL(receiver.url).href,
        http_method: 'POST',
        response_status: 200,
        error_class: null,
      });
      const [request] = requestsOf(attempt.event_id) as [ReceivedRequest];
      expectHeaders(request, type, attempt.event_id);
      expect(request.body.toString()).toBe(attempt.request_body);
      const body = JSON.parse(attempt.request_body);
      const { sample: data } = listed.find(({ name }) => name === type);
      expect(body).toEqual(document.body({ id: attempt.event_id, type, timestamp: body.timestamp, data }));
      expect(Math.abs(Date.parse(body.timestamp) - Date.now())).toBeLessThan(120_000);
    });
  });

  function expectHeaders(request: ReceivedRequest, type: string, eventId: string): void {
    expect(request.method).toBe('POST');
    const signature = document.signature(request.body, secret);
    expect(request.headers).toMatchObject({
      'content-type': 'application/json',
      'user-agent': expect.stringMatching(document.userAgent),
      'x-webhook-event': type,
      'x-webhook-signature': signature,
      'x-webhook-delivery': expect.stringMatching(/^dlv_/),
      'x-webhook-attempt': '1',
      'webhook-id': eventId,
      'webhook-timestamp': expect.stringMatching(/^\d{10}$/),
      'webhook-signature': expect.stringMatching(/^v1,/),
    });
    const standard = new Webhook(secret, { format: 'raw' });
    expect(() => standard.verify(request.body.toString(), request.headers as Record<string, string>)).not.toThrow();
    expect(document.signature(changed(request).body, secret)).not.toBe(signature);
  }

  const printedReceivers: Record<string, () => PrintedReceiver> = {
    'isp-communications': ispCommunicationsReceiver,
    'support-autoresponder': () => supportReceiver(secret),
  };
  const printedReceiver = printedReceivers[preset];
  if (printedReceiver !== undefined) {
    test('the Node receiver that the document prints accepts every delivery and no changed one', () => {
      const receive = printedReceiver();
      const statuses = (requests: ReceivedRequest[]) => new Set(requests.map((request) => receive(request).status));
      expect(receiver.requests).toHaveLength(2 * listed.length);
      expect(statuses(receiver.requests)).toEqual(new Set([200]));
      expect(statuses(receiver.requests.map(changed))).toEqual(new Set([401]));
    });
  }

  if (['isp-communications', 'call-center', 'support-autoresponder'].includes(preset)) {
    test.runIf(hasPython)('the Python code that the document prints accepts every delivery and no changed one', () => {
      const { requests } = receiver;
      const verdicts = pythonVerdicts(preset, secret, [...requests, ...requests.map(changed)]);
      expect(verdicts).toEqual([...requests.map(() => true), ...requests.map(() => false)]);
      expect(pythonVerdicts(preset, 'another secret', requests.slice(0, 1))).toEqual([false]);
    });
  }

  describe('a webhook that says nothing of its own', () => {
    test('shows the retry policy and timeout of the document as the ones in force', async () => {
      const { body } = await tenant.call('GET', `/api/v1/webhooks/${webhook.id}`);
      expect(body).toMatchObject({
        preset,
        retry_policy: document.retryPolicy,
        retry_count: document.waits.length,
        timeout_seconds: document.timeoutSeconds,
        http_method: 'POST',
        verify_tls: true,
      });
    });

    test('is tried after the waits of the document and then is a dead letter', async () => {
      const staging = await openTenant(posthorn, preset, preset, 'staging');
      const failing = await startReceiver();
      // Answered by hand, so that no attempt runs ahead of this test.
      failing.onRequest = () => {};
      const fail = async (attempt: number) => {
        const requests = await failing.received(attempt);
        requests[attempt - 1]?.respond(500, {}, 'broken');
        return Date.now();
      };
      try {
        const { id: webhookId } = await staging.createWebhook(failing.url);
        const [type] = namesOf(document);
        const event = await staging.publish({ event_type: type, data: {} });
        for (const [at, wait] of document.waits.entries()) {
          const answeredAt = await fail(at + 1);
          const failed = await deliveryAfter(staging, event.id, at + 1, 'failed');
          const due = Date.parse(failed.next_attempt_at);
          expect(due).toBeGreaterThanOrEqual(answeredAt + wait * 1_000);
          expect(due).toBeLessThanOrEqual(Date.now() + wait * 1_100);
          // In place of waiting for the next attempt, it is asked for; the wait after it is that of its number.
          await staging.call('POST', `/api/v1/deliveries/${failed.id}/retry`);
        }
        await fail(document.waits.length + 1);
        const dead = await deliveryAfter(staging, event.id, document.waits.length + 1, 'dead');
        expect(dead).toMatchObject({ status_reason: 'attempts_used_up', response_status: 500, next_attempt_at: null });
        expect(failing.requests).toHaveLength(document.waits.length + 1);
        const letters = await staging.call('GET', `/api/v1/dead-letters?webhook_id=${webhookId}`);
        expect(letters.body.data).toMatchObject([{ delivery_id: dead.id, event_type: type }]);
      } finally {
        await failing.stop();
      }
    });
  });
});

function deliveryAfter(tenant: DocumentTenant, eventId: string, attempts: number, status: string) {
  return eventually(
    async () => (await tenant.call('GET', `/api/v1/deliveries?event_id=${eventId}`)).body.data[0],
    (row) => row?.attempt_count === attempts && row.status === status,
  );
}
