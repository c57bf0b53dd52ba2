import { afterAll, beforeAll, expect, test } from 'vitest';
import { startTestPosthorn, type TestPosthorn } from '../../src/testing/posthorn.ts';
import { type Receiver, startReceiver } from '../../src/testing/receiver.ts';
import { type DocumentTenant, openTenant } from './document-tenant.ts';

/** What four of the documents print of updates is a path and a method: a client reads, sets a field, and sends all back. */
let posthorn: TestPosthorn;
let receiver: Receiver;
beforeAll(async () => {
  [posthorn, receiver] = await Promise.all([startTestPosthorn(), startReceiver()]);
});
afterAll(() => Promise.all([posthorn.stop(), receiver.stop()]));

let count = 0;
async function open(preset: string): Promise<DocumentTenant> {
  count += 1;
  return openTenant(posthorn, `back-${count}`, preset);
}

const SETTINGS = {
  events: ['*'],
  headers: { Authorization: 'Bearer sf_token_123', 'X-Source': 'Vocelio' },
  auth: { type: 'api_key', header: 'X-API-Key', value: 'your_api_key_here' },
  transformation: { enabled: true, template: { type: '{{ event_type }}' } },
  filters: [{ field_path: 'data.score', operator: 'not_equals', value: 80 }],
  signature: { method: 'hmac_sha256', header: 'X-Signed', asymmetric: true },
};

test.each([
  ['isp-communications', 'PUT', '/api/communications/webhooks'],
  ['isp-framework', 'PUT', '/api/v1/webhooks'],
  ['call-center', 'PUT', '/endpoints'],
  ['whatsapp-crm', 'PATCH', '/api/v1/webhooks'],
])('a webhook of %s that was read is sent back with %s %s, with one field changed', async (preset, method, path) => {
  const tenant = await open(preset);
  for (const settings of [{}, SETTINGS]) {
    const { id } = await tenant.createWebhook(receiver.url, settings);
    // What is counted meanwhile was read before.
    const { body: read } = await tenant.call('GET', `${path}/${id}`);
    await tenant.call('POST', `${path}/${id}/test`, {});
    const answer = await tenant.call(method, `${path}/${id}`, { ...read, name: 'Updated Webhook Name' });
    expect(answer.status, answer.text).toBe(200);
    const counted = { last_triggered_at: expect.anything(), updated_at: expect.anything() };
    const totals = { total_deliveries: 1, successful_deliveries: 1 };
    expect(answer.body).toEqual({ ...read, name: 'Updated Webhook Name', ...counted, ...totals });
    await tenant.call('POST', `${path}/${id}/test`, {});
    const [before, after] = receiver.requests.slice(-2).map(({ headers }) => headers);
    for (const name of ['authorization', 'x-api-key', 'x-source']) expect(after?.[name]).toBe(before?.[name]);
  }
});

test('what is read-only is not changed, and whoever asks for it is told', async () => {
  const tenant = await open('whatsapp-crm');
  const other = await open('whatsapp-crm');
  const webhook = await tenant.createWebhook(receiver.url);
  const foreign = await other.createWebhook(receiver.url);
  const { body: read } = await tenant.call('GET', `/api/v1/webhooks/${webhook.id}`);
  for (const [change, paths] of [
    [{ total_deliveries: 0 }, ['total_deliveries']],
    [{ created_at: read.created_at, name: 'x' }, ['created_at']],
    [{ environment: 'staging' }, ['environment']],
    [{ ...read, environment: 'staging' }, ['environment']],
    [{ ...read, id: foreign.id, tenant_id: foreign.tenant_id }, ['id', 'tenant_id']],
    [{ ...read, id: null }, ['id']],
  ] as const) {
    const answer = await tenant.call('PATCH', `/api/v1/webhooks/${webhook.id}`, change);
    expect(answer.status, answer.text).toBe(422);
    expect(answer.body.error.details.fields).toEqual(paths.map((path) => ({ path, message: 'cannot be changed' })));
  }
  expect((await tenant.call('GET', `/api/v1/webhooks/${webhook.id}`)).body).toEqual(read);
  // A new webhook has none of it.
  const copy = await tenant.call('POST', '/api/v1/webhooks', read);
  expect(copy.body.error.details.fields).toContainEqual({ path: 'id', message: 'is not a known field' });
  const stranger = await other.call('PUT', `/api/v1/webhooks/${webhook.id}`, read);
  expect([stranger.status, stranger.body.error.code]).toEqual([404, 'not_found']);
});

test.each([
  [{ is_active: false }, { is_active: false, status: 'disabled', status_reason: 'manual' }],
  [{ status: 'paused' }, { is_active: false, status: 'paused', status_reason: 'manual' }],
  [{ retry_count: 2 }, { retry_count: 2 }],
  [{ signature_method: 'hmac_sha1' }, { signature_method: 'hmac_sha1' }],
  [{ custom_headers: { 'X-Source': 'Other' } }, { headers: { 'X-Source': 'Other' } }],
  [{ headers: { 'X-Source': 'Other' } }, { custom_headers: { 'X-Source': 'Other' } }],
])('sent back with %j, a field counts before the others that say the same and came with it', async (change, shown) => {
  const tenant = await open('call-center');
  const { id } = await tenant.createWebhook(receiver.url, { headers: { 'X-Source': 'Vocelio' } });
  const { body: read } = await tenant.call('GET', `/endpoints/${id}`);
  const answer = await tenant.call('PUT', `/endpoints/${id}`, { ...read, ...change });
  expect(answer.status, answer.text).toBe(200);
  expect(answer.body).toMatchObject({ ...change, ...shown });
  // Without the id it is a request that says two things.
  const { id: _, created_at, updated_at, ...rest } = read;
  const settings = { status: rest.status, retry_policy: rest.retry_policy, signature: rest.signature };
  const both = { ...settings, headers: rest.headers, custom_headers: rest.headers, is_active: true, ...change };
  expect((await tenant.call('PUT', `/endpoints/${id}`, both)).status).toBe(422);
});

test('what the preset decides stays with the preset when it is sent back', async () => {
  const tenant = await open('call-center');
  const { id } = await tenant.createWebhook(receiver.url);
  const { body: read } = await tenant.call('GET', `/endpoints/${id}`);
  await tenant.call('PUT', `/endpoints/${id}`, { ...read, name: 'Other' });
  const { body } = await tenant.call('PATCH', `/endpoints/${id}`, { preset: 'whatsapp-crm' });
  expect(body).toMatchObject({ envelope: 'event', timeout_seconds: 30, signature_method: 'hmac_sha256_hex' });
});

test('a secret that is sent each time is replaced by another one only', async () => {
  const tenant = await open('isp-framework');
  // The printed registration, as what a client sends again whenever it starts.
  const registration = {
    name: 'My Webhook',
    url: receiver.url,
    secret: 'your-secret-key',
    events: ['customer.created'],
  };
  const { id, secret: _, ...created } = await tenant.createWebhook(receiver.url, registration);
  for (let time = 0; time < 6; time += 1) {
    const answer = await tenant.call('PUT', `/api/v1/webhooks/${id}`, registration);
    expect(answer.status, answer.text).toBe(200);
  }
  // So does a client that keeps the answer of POST.
  const kept = await tenant.call('PUT', `/api/v1/webhooks/${id}`, { ...created, id, secret: registration.secret });
  expect(kept.status, kept.text).toBe(200);
  const secrets = async () => (await tenant.call('GET', `/api/v1/webhooks/${id}/secret`)).body;
  expect(await secrets()).toEqual({ secret: 'your-secret-key', previous: [] });
  await tenant.call('POST', `/api/v1/webhooks/${id}/test`);
  expect(receiver.requests.at(-1)?.headers['webhook-signature']).toMatch(/^v1,\S+$/);

  await tenant.call('PUT', `/api/v1/webhooks/${id}`, { secret: 'another-secret' });
  const replaced = { secret: 'another-secret', previous: [{ kind: 'symmetric' }] };
  expect(await secrets()).toMatchObject(replaced);
  await tenant.call('PUT', `/api/v1/webhooks/${id}`, { secret: 'another-secret' });
  expect(await secrets()).toMatchObject(replaced);
  // One that was replaced is another one.
  await tenant.call('PUT', `/api/v1/webhooks/${id}`, registration);
  expect((await secrets()).secret).toBe('your-secret-key');
});
