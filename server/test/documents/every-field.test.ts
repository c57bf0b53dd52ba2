import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { startTestPosthorn, type TestPosthorn } from '../../src/testing/posthorn.ts';
import { type DocumentTenant, openTenant } from './document-tenant.ts';

/** What whatsapp-crm.md has DTOs for: each field that a webhook is created and updated with. */
let posthorn: TestPosthorn;
let tenant: DocumentTenant;
let count = 0;
beforeAll(async () => {
  posthorn = await startTestPosthorn();
});
afterAll(() => posthorn.stop());
beforeEach(async () => {
  count += 1;
  tenant = await openTenant(posthorn, `fields-${count}`, 'whatsapp-crm');
});

/** For each field a value, another, one that is refused, and what is shown of the first where it is something else. */
const FIELDS: Record<string, { one: unknown; other: unknown; wrong: unknown; shown?: unknown }> = {
  name: { one: 'CRM', other: 'Other', wrong: '' },
  url: { one: 'http://127.0.0.1:4711/hook', other: 'http://127.0.0.1:4712/', wrong: 'no url' },
  events: { one: ['message.new', 'contact.*'], other: ['*'], wrong: [] },
  secret: { one: 'a secret of our own', other: 'another secret', wrong: 'short' },
  description: { one: 'What it is for', other: 'Another', wrong: 5 },
  owner: { one: 'customer-1', other: 'customer-2', wrong: 5 },
  metadata: { one: { team: 'crm' }, other: { team: 'ops' }, wrong: 'text' },
  is_active: { one: true, other: false, wrong: 'yes' },
  status: { one: 'active', other: 'paused', wrong: 'gone' },
  http_method: { one: 'PUT', other: 'PATCH', wrong: 'TRACE' },
  headers: { one: { 'X-Team': 'crm' }, other: { 'X-Team': 'ops' }, wrong: { Host: 'x' } },
  custom_headers: { one: { 'X-Team': 'crm' }, other: { 'X-Team': 'ops' }, wrong: { 'X-A': 5 } },
  auth: {
    one: { type: 'bearer', token: 'token-of-the-receiver' },
    other: { type: 'none' },
    wrong: { type: 'magic' },
    shown: { type: 'bearer', token: '***' },
  },
  compression: { one: 'gzip', other: 'none', wrong: 'zip' },
  signature_method: { one: 'hmac_sha1', other: 'hmac_sha256', wrong: 'md5' },
  signature: {
    one: { method: 'hmac_sha256', header: 'X-Signed' },
    other: { method: 'hmac_sha1', header: 'X-Sig' },
    wrong: { method: 'md5' },
  },
  preset: { one: 'call-center', other: 'isp-framework', wrong: 'no-such' },
  envelope: { one: 'flat', other: 'raw', wrong: 'paper' },
  transformation: {
    one: { enabled: true, template: { id: '{{ data.id }}' } },
    other: { enabled: false, template: { id: '{{ data.no }}' } },
    wrong: { enabled: true, template: '{{' },
  },
  retry_policy: {
    one: { max_attempts: 7, initial_delay_seconds: 3 },
    other: { max_attempts: 2, initial_delay_seconds: 9 },
    wrong: { max_attempts: 0 },
  },
  retry_count: { one: 2, other: 5, wrong: -1 },
  timeout_seconds: { one: 7, other: 60, wrong: 61 },
  max_concurrency: { one: 4, other: 5, wrong: 0 },
  rate_limit_per_minute: { one: 100, other: 50, wrong: 0 },
  ordering: {
    one: { enabled: true, key_path: 'contact.id', on_dead: 'park' },
    other: { enabled: false },
    wrong: { enabled: 'yes' },
  },
  batching: {
    one: { enabled: true, max_events: 10, max_wait_ms: 500, max_bytes: 100_000 },
    other: { enabled: false },
    wrong: { enabled: true, max_events: 0 },
  },
  circuit_breaker: {
    one: { enabled: true, failure_rate: 0.8, minimum_requests: 10, window_seconds: 30, open_seconds: 15 },
    other: { enabled: false },
    wrong: { failure_rate: 2 },
  },
  failover_url: { one: 'http://127.0.0.1:4713/', other: 'http://127.0.0.1:4714/', wrong: 'no url' },
  ip_whitelist: { one: ['127.0.0.0/8'], other: ['127.0.0.1/32'], wrong: ['everywhere'] },
  priority: { one: 5, other: -5, wrong: 101 },
  verify_tls: { one: false, other: true, wrong: 'no' },
  filters: {
    one: [{ field_path: 'data.id', operator: 'equals', value: 'x', case_sensitive: true }],
    other: [],
    wrong: [{ field_path: 'data.id', operator: 'like', value: 'x' }],
  },
  filter_mode: { one: 'any', other: 'all', wrong: 'some' },
};

const REQUIRED = { name: 'Hook', url: 'http://127.0.0.1:4711/', events: ['*'] };

async function fieldsOf(method: string, path: string): Promise<string[]> {
  const { body } = await posthorn.call('GET', '/openapi.json');
  const { schema } = body.paths[path][method].requestBody.content['application/json'];
  const { properties } = schema.$ref === undefined ? schema : body.components.schemas[schema.$ref.split('/').at(-1)];
  const fields = Object.entries<{ readOnly?: true }>(properties).filter(([, { readOnly }]) => readOnly !== true);
  return fields.map(([name]) => name).sort();
}

const wanted = ({ one, shown = one }: (typeof FIELDS)[string]) => shown;
/** Where what was given under another name is shown. */
const shownAs = (field: string) => (field === 'custom_headers' ? 'headers' : field);

async function created(field: string, value: unknown) {
  const answer = await tenant.call('POST', '/api/v1/webhooks', { ...REQUIRED, [field]: value });
  expect(answer.status, `${field}: ${answer.text}`).toBe(201);
  return answer.body;
}

async function shown(id: string, field: string): Promise<unknown> {
  const path = `/api/v1/webhooks/${id}${field === 'secret' ? '/secret' : ''}`;
  return (await tenant.call('GET', path)).body[shownAs(field)];
}

test('a webhook is created with each field that there is, shows it, and refuses it when it is wrong', async () => {
  expect(await fieldsOf('post', '/api/v1/webhooks')).toEqual(Object.keys(FIELDS).sort());
  for (const [field, values] of Object.entries(FIELDS)) {
    const webhook = await created(field, values.one);
    expect({ [field]: webhook[shownAs(field)] }).toMatchObject({ [field]: wanted(values) });
    expect({ [field]: await shown(webhook.id, field) }).toMatchObject({ [field]: wanted(values) });
    const refused = await tenant.call('POST', '/api/v1/webhooks', { ...REQUIRED, [field]: values.wrong });
    expect([field, refused.status]).toEqual([field, 422]);
    const [{ path }] = refused.body.error.details.fields;
    expect(
      [field, shownAs(field)].some((name) => path.startsWith(name)),
      refused.text,
    ).toBe(true);
  }
});

test('a webhook is updated in each field that there is, and left as it was by one that is wrong', async () => {
  expect(await fieldsOf('patch', '/api/v1/webhooks/{id}')).toEqual(Object.keys(FIELDS).sort());
  for (const [field, values] of Object.entries(FIELDS)) {
    if (field === 'secret') continue;
    const { id } = await created(field, values.one);
    const refused = await tenant.call('PATCH', `/api/v1/webhooks/${id}`, { [field]: values.wrong });
    expect([field, refused.status]).toEqual([field, 422]);
    expect({ [field]: await shown(id, field) }).toMatchObject({ [field]: wanted(values) });
    const changed = await tenant.call('PATCH', `/api/v1/webhooks/${id}`, { [field]: values.other });
    expect(changed.status, `${field}: ${changed.text}`).toBe(200);
    expect({ [field]: changed.body[shownAs(field)] }).toMatchObject({ [field]: values.other });
    expect({ [field]: await shown(id, field) }).toMatchObject({ [field]: values.other });
  }
});
