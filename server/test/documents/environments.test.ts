import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { startTestPosthorn, type TestPosthorn } from '../../src/testing/posthorn.ts';
import { type ReceivedRequest, type Receiver, startReceiver } from '../../src/testing/receiver.ts';
import { type DocumentTenant, openTenant } from './document-tenant.ts';
import { DOCUMENTS, namesOf } from './documents.ts';

/** Presets side by side: in environments of one tenant, and on webhooks of one environment. */
let posthorn: TestPosthorn;
let receiver: Receiver;
beforeAll(async () => {
  posthorn = await startTestPosthorn();
});
afterAll(() => posthorn.stop());
let slug: string;
let count = 0;
beforeEach(async () => {
  receiver = await startReceiver();
  count += 1;
  slug = `tenant-${count}`;
  return () => receiver.stop();
});

const keysOf = ({ body }: ReceivedRequest) => Object.keys(JSON.parse(body.toString()));

describe('a webhook that names a preset of its own', () => {
  test.each(DOCUMENTS)('delivers by $preset in an environment of another document', async (document) => {
    const { preset, secret } = document;
    const home = preset === 'call-center' ? 'whatsapp-crm' : 'call-center';
    const tenant = await openTenant(posthorn, slug, home);
    const webhook = await tenant.createWebhook(receiver.url, { preset, secret });
    expect(webhook).toMatchObject({
      preset,
      retry_policy: document.retryPolicy,
      timeout_seconds: document.timeoutSeconds,
    });
    const [type] = namesOf(DOCUMENTS.find((each) => each.preset === home) ?? document);
    const { timestamp } = document;
    const { id } = await tenant.publish({ event_type: type, timestamp, data: { n: 1 } });
    const [request] = (await receiver.received(1)) as [ReceivedRequest];
    const expected = document.body({ id, type: type ?? '', timestamp, data: { n: 1 } });
    expect(request.body.toString()).toBe(JSON.stringify(expected));
    expect(request.headers).toMatchObject({
      'user-agent': expect.stringMatching(document.userAgent),
      'x-webhook-event': type,
      'x-webhook-signature': document.signature(request.body, secret),
    });
  });

  test('goes back to that of its environment with null, and keeps what it says itself', async () => {
    const tenant = await openTenant(posthorn, slug, 'whatsapp-crm');
    const webhook = await tenant.createWebhook(receiver.url, { preset: 'call-center', timeout_seconds: 7 });
    expect(webhook).toMatchObject({
      preset: 'call-center',
      envelope: 'event_type',
      retry_count: 4,
      timeout_seconds: 7,
    });
    const changed = await tenant.call('PATCH', `/api/v1/webhooks/${webhook.id}`, { preset: null });
    expect(changed.body).toMatchObject({
      preset: 'whatsapp-crm',
      envelope: 'event',
      retry_count: 3,
      timeout_seconds: 7,
    });
    await tenant.call('PATCH', `/api/v1/webhooks/${webhook.id}`, { timeout_seconds: null });
    expect((await tenant.call('GET', `/api/v1/webhooks/${webhook.id}`)).body.timeout_seconds).toBe(30);
  });

  test('may say envelope and signature apart from its preset', async () => {
    const tenant = await openTenant(posthorn, slug, 'isp-framework');
    await tenant.createWebhook(receiver.url, {
      envelope: 'flat',
      signature: { standard: false, method: 'hmac_sha256', header: 'X-Hub-Signature-256' },
    });
    await tenant.publish({ event_type: 'auth.login', data: { user: 'a' } });
    const [request] = (await receiver.received(1)) as [ReceivedRequest];
    expect(keysOf(request)).toEqual(['event', 'timestamp', 'user']);
    expect(request.headers['x-hub-signature-256']).toMatch(/^sha256=[0-9a-f]{64}$/);
    for (const name of ['x-webhook-signature', 'webhook-signature', 'webhook-id']) {
      expect(request.headers[name], name).toBeUndefined();
    }
  });
});

test('a preset installed later counts for the webhooks that are there, from the next event on', async () => {
  const tenant = await openTenant(posthorn, slug, 'isp-framework');
  const { id } = await tenant.createWebhook(receiver.url);
  await tenant.publish({ event_type: 'ticket.created', data: {} });
  await receiver.received(1);
  await tenant.call('POST', '/api/v1/event-types/presets/support-autoresponder');
  expect((await tenant.call('GET', `/api/v1/webhooks/${id}`)).body).toMatchObject({
    preset: 'support-autoresponder',
    retry_count: 7,
  });
  await tenant.publish({ event_type: 'ticket.created', data: {} });
  const [before, after] = (await receiver.received(2)) as [ReceivedRequest, ReceivedRequest];
  expect(keysOf(before)).toEqual(['event_type', 'event_id', 'timestamp', 'data', 'metadata']);
  expect(keysOf(after)).toEqual(['event', 'timestamp', 'data']);
  expect(after.headers['user-agent']).toBe('AI-Support-Autoresponder/1.0');
  // Of the 25 and the 10 types, three have the same names.
  expect((await tenant.call('GET', '/api/v1/webhooks/events')).body.data).toHaveLength(32);
});

test('a preset that does not exist cannot be installed or chosen', async () => {
  const tenant = await openTenant(posthorn, slug, 'isp-framework');
  for (const preset of ['nobody', '__proto__', '..%2Fstandard', '%00']) {
    expect((await tenant.call('POST', `/api/v1/event-types/presets/${preset}`)).status, preset).toBe(404);
  }
  const body = { name: 'Hook', url: receiver.url, events: ['*'], preset: 'nobody' };
  const answer = await tenant.call('POST', '/api/v1/webhooks', body);
  expect([answer.status, answer.body.error.details.fields[0].path]).toEqual([422, 'preset']);
});

describe('the environments of a tenant', () => {
  let staging: DocumentTenant;
  let production: DocumentTenant;
  beforeEach(async () => {
    staging = await openTenant(posthorn, slug, 'whatsapp-crm', 'staging');
    production = await openTenant(posthorn, slug, 'call-center', 'production');
  });

  test('have each its own preset and event types', async () => {
    const names = async (environment: DocumentTenant) =>
      (await environment.call('GET', '/api/v1/webhooks/events')).body.data.map(({ name }: { name: string }) => name);
    expect([(await names(staging)).length, (await names(production)).length]).toEqual([22, 38]);
    expect(await names(production)).not.toContain('message.new');
    const listed = await posthorn.call('GET', `/api/v1/tenants/${slug}/environments`);
    const presets = listed.body.data.map(({ name, preset }: { name: string; preset: string }) => [name, preset]);
    expect(Object.fromEntries(presets)).toEqual({
      development: 'standard',
      staging: 'whatsapp-crm',
      production: 'call-center',
    });
  });

  test('get their own events only, each in the form of its document', async () => {
    await staging.createWebhook(`${receiver.url}/staging`);
    await production.createWebhook(`${receiver.url}/production`);
    // Both documents have a `campaign.started`.
    const event = { event_type: 'campaign.started', event_id: 'same', data: {} };
    expect(await staging.publish(event)).toMatchObject({ deliveries: 1, duplicate: false });
    await receiver.received(1);
    expect(await production.publish(event)).toMatchObject({ deliveries: 1, duplicate: false });
    const requests = await receiver.received(2);
    expect(requests.map(({ path }) => path)).toEqual(['/staging', '/production']);
    expect(requests.map(keysOf)).toEqual([
      ['event', 'timestamp', 'data'],
      ['event_type', 'event_id', 'timestamp', 'data', 'metadata'],
    ]);
  });

  test('show nothing of each other', async () => {
    const webhook = await staging.createWebhook(receiver.url);
    const event = await staging.publish({ event_type: 'message.new', data: {} });
    const delivery = await staging.delivery(event.id, webhook.id, 'delivered');
    for (const path of [
      `/webhooks/${webhook.id}`,
      `/webhooks/${webhook.id}/logs`,
      `/webhooks/${webhook.id}/stats`,
      `/webhooks/${webhook.id}/deliveries`,
      `/deliveries/${delivery.id}`,
      `/events/${event.id}`,
      '/webhooks/events/message.new',
    ]) {
      expect((await production.call('GET', `/api/v1${path}`)).status, path).toBe(404);
    }
    for (const path of ['/webhooks', '/webhooks/deliveries', '/events']) {
      expect((await production.call('GET', `/api/v1${path}`)).body.data, path).toEqual([]);
    }
    expect((await production.call('POST', `/api/v1/webhooks/${webhook.id}/test`, {})).status).toBe(404);
    expect(receiver.requests).toHaveLength(1);
  });

  test('are not reached by a key of another environment that names them in a header', async () => {
    const answer = await production.call('GET', '/api/v1/webhooks', undefined, { 'x-environment': 'staging' });
    expect(answer.status).toBe(403);
  });
});

describe('headers that Posthorn sets itself', () => {
  test.each(['X-Webhook-Event', 'x-webhook-signature', 'X-Webhook-Delivery', 'Content-Type', 'Host', 'webhook-id'])(
    'the document header %s cannot be a header of the webhook',
    async (name) => {
      const tenant = await openTenant(posthorn, slug, 'isp-communications');
      const body = { name: 'Hook', url: receiver.url, events: ['*'], headers: { [name]: 'mine' } };
      const answer = await tenant.call('POST', '/api/v1/webhooks', body);
      expect(answer.status).toBe(422);
      expect(answer.body.error.details.fields[0].path).toBe(`headers.${name}`);
    },
  );

  test('the header of the signature cannot be one of the headers too, whichever is given first', async () => {
    const tenant = await openTenant(posthorn, slug, 'isp-framework');
    const signature = { header: 'X-Isp-Signature' };
    const headers = { 'x-isp-signature': 'mine' };
    const both = { name: 'Both', url: receiver.url, events: ['*'], signature, headers };
    expect((await tenant.call('POST', '/api/v1/webhooks', both)).status).toBe(422);
    for (const [first, second] of [
      [{ signature }, { headers }],
      [{ headers }, { signature }],
    ]) {
      const { id } = await tenant.createWebhook(receiver.url, first);
      const answer = await tenant.call('PATCH', `/api/v1/webhooks/${id}`, second);
      expect(answer.status).toBe(422);
      expect(answer.body.error.details.fields).toMatchObject([{ path: 'headers.x-isp-signature' }]);
    }
  });

  test('a header that only a preset chosen later makes a signature is refused with that choice', async () => {
    const tenant = await openTenant(posthorn, slug, 'standard');
    await tenant.call('POST', '/api/v1/event-types', { name: 'order.paid' });
    const { id } = await tenant.createWebhook(receiver.url, {
      signature: { header: 'X-Sig' },
      headers: { 'X-Sig': 'mine' },
    });
    const choice = await tenant.call('PATCH', `/api/v1/webhooks/${id}`, { preset: 'call-center' });
    expect(choice.status).toBe(422);
    await tenant.publish({ event_type: 'order.paid', data: {} });
    expect((await receiver.received(1))[0]?.headers['x-sig']).toBe('mine');

    // An environment's preset asks no webhook: there the signature goes before the header, and is sent once.
    await tenant.call('POST', '/api/v1/event-types/presets/call-center');
    await tenant.publish({ event_type: 'lead.created', data: {} });
    const [, request] = await receiver.received(2);
    expect(request?.headers['x-sig']).toMatch(/^sha256=[0-9a-f]{64}$/);
  });
});
