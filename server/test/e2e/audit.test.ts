import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createIdSource, formatId, parseId } from '../../src/kernel/ids.ts';
import { eventually } from '../../src/testing/eventually.ts';
import { type Answer, startTestPosthorn, type TestPosthorn } from '../../src/testing/posthorn.ts';
import { type Receiver, startReceiver } from '../../src/testing/receiver.ts';
import { ROUTES, sameAs } from './documented-routes.ts';

/** Routes that show a secret: reading them is recorded as well. */
const READS_OF_SECRETS = ['GET /api/v1/webhooks/{id}/secret'];

const CHANGING = ROUTES.filter(
  (each) => each.method !== 'GET' || READS_OF_SECRETS.includes(sameAs(each) ?? each.route),
).map(({ route }) => route);

const newId = createIdSource();
let posthorn: TestPosthorn;
let receiver: Receiver;
let tenant: { id: string; slug: string };
let made = 0;
beforeAll(async () => {
  [posthorn, receiver] = await Promise.all([startTestPosthorn(), startReceiver()]);
  tenant = await makeTenant();
});
afterAll(() => Promise.all([posthorn.stop(), receiver.stop()]));

async function makeTenant() {
  made += 1;
  const slug = `audited-${made}`;
  const settings = { allow_unknown_event_types: true };
  const { body } = await posthorn.call('POST', '/api/v1/tenants', { slug, name: slug, settings });
  return { id: body.id as string, slug };
}

async function query(text: string, values: unknown[]): Promise<void> {
  const client = new pg.Client(posthorn.database.connection);
  await client.connect();
  await client.query(text, values).finally(() => client.end());
}

const ask = async (method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Answer> => {
  const answer = await posthorn.call(method, path, body, { 'x-tenant-id': tenant.id, ...headers });
  expect(answer.status, `${method} ${path}: ${answer.text}`).toBeLessThan(300);
  return answer;
};
const post = async (path: string, body?: unknown): Promise<Answer['body']> => (await ask('POST', path, body)).body;

const webhook = (fields: object = {}) =>
  post('/api/v1/webhooks', { name: 'W', url: receiver.url, events: ['order.*'], ...fields });

async function template(): Promise<string> {
  made += 1;
  return (await post('/api/v1/templates', { name: `audited-${made}`, template: { a: 1 } })).id;
}

/** A delivery of a webhook whose receiver fails, in the status. */
async function failing(status: 'dead' | 'failed', retry: object) {
  receiver.onRequest = (request) => request.respond(request.path === '/failing' ? 500 : 200);
  made += 1;
  const type = `failing.n${made}`;
  const { id } = await webhook({ url: `${receiver.url}/failing`, events: [type], retry_policy: retry });
  await post('/api/v1/events', { event_type: type, data: {} });
  const { data } = await eventually(
    async () => (await ask('GET', `/api/v1/deliveries?webhook_id=${id}`)).body,
    (page) => page.data[0]?.status === status,
  );
  return { webhookId: id as string, id: data[0].id as string };
}
const dead = () => failing('dead', { max_attempts: 1 });
const waiting = () => failing('failed', { schedule_seconds: [3600], jitter: 0 });
const event = async () => (await post('/api/v1/events', { event_type: 'lone.event', data: { a: 1 } })).id as string;
const eventType = async () => {
  made += 1;
  return (await post('/api/v1/event-types', { name: `type.n${made}` })).name as string;
};
const key = async () => (await post('/api/v1/api-keys', { name: 'K', role: 'viewer' })).id as string;
const login = { name: 'Login', issuer: 'https://login.example', audience: 'posthorn', secret: 'personal'.repeat(4) };
const alertRule = () => {
  made += 1;
  return { name: `rule ${made}`, metric: 'dead_letters', threshold: 5, period: '5m', action: 'alert_operations_team' };
};
/** One that fired, of a rule that is not looked at. */
const incident = async () => {
  const rule = await post('/api/v1/alerts/rules', { ...alertRule(), is_active: false });
  const id = newId();
  await query(
    `INSERT INTO alert_incidents (tenant_id, environment_id, id, rule_id, rule_name, metric, threshold, period_seconds,
       action, status, value, worst_value, last_value, fired_at)
     SELECT tenant_id, environment_id, $2, id, name, metric, threshold, period_seconds, action, 'firing', 6, 6, 6, now()
     FROM alert_rules WHERE id = $1`,
    [parseId('alertRule', rule.id), id],
  );
  return formatId('incident', id);
};
const range = { since: '2026-01-01T00:00:00Z', until: '2026-01-02T00:00:00Z' };

type Case = [action: string, call: () => Promise<[path: string, body?: unknown]>];

/** Of each changing route the action that is recorded, and a call that succeeds. */
const EXPECTED: Record<string, Case> = {
  'POST /api/v1/tenants': ['tenant.created', async () => ['/api/v1/tenants', { name: 'New', slug: 'new' }]],
  'PUT /api/v1/tenants/{id}': ['tenant.updated', async () => [`/api/v1/tenants/${tenant.slug}`, { name: 'Put' }]],
  'PATCH /api/v1/tenants/{id}': ['tenant.updated', async () => [`/api/v1/tenants/${tenant.slug}`, { name: 'Patched' }]],
  'DELETE /api/v1/tenants/{id}': ['tenant.deleted', async () => [`/api/v1/tenants/${(await makeTenant()).slug}`]],
  'POST /api/v1/tenants/{id}/suspend': [
    'tenant.suspended',
    async () => [`/api/v1/tenants/${(await makeTenant()).id}/suspend`, { reason: 'unpaid' }],
  ],
  'POST /api/v1/tenants/{id}/resume': [
    'tenant.resumed',
    async () => {
      const { id } = await makeTenant();
      await post(`/api/v1/tenants/${id}/suspend`);
      return [`/api/v1/tenants/${id}/resume`];
    },
  ],
  'POST /api/v1/jwt-issuers': ['jwt_issuer.created', async () => ['/api/v1/jwt-issuers', login]],
  'PUT /api/v1/jwt-issuers/{id}': [
    'jwt_issuer.updated',
    async () => [`/api/v1/jwt-issuers/${(await post('/api/v1/jwt-issuers', login)).id}`, { name: 'Put' }],
  ],
  'PATCH /api/v1/jwt-issuers/{id}': [
    'jwt_issuer.updated',
    async () => [
      `/api/v1/jwt-issuers/${(await post('/api/v1/jwt-issuers', login)).id}`,
      { secret: 'personal'.repeat(5) },
    ],
  ],
  'DELETE /api/v1/jwt-issuers/{id}': [
    'jwt_issuer.deleted',
    async () => [`/api/v1/jwt-issuers/${(await post('/api/v1/jwt-issuers', login)).id}`],
  ],
  'POST /api/v1/tenants/{id}/environments': [
    'environment.created',
    async () => [`/api/v1/tenants/${tenant.id}/environments`, { name: 'canary' }],
  ],
  'PUT /api/v1/tenants/{id}/environments/{name}': [
    'environment.updated',
    async () => [`/api/v1/tenants/${tenant.id}/environments/production`, { retention: { payload_days: 3 } }],
  ],
  'PATCH /api/v1/tenants/{id}/environments/{name}': [
    'environment.updated',
    async () => [`/api/v1/tenants/${tenant.id}/environments/production`, { retention: { audit_days: 30 } }],
  ],
  'DELETE /api/v1/tenants/{id}/environments/{name}': [
    'environment.deleted',
    async () => [`/api/v1/tenants/${tenant.id}/environments/development`],
  ],
  'POST /api/v1/api-keys': ['api_key.created', async () => ['/api/v1/api-keys', { name: 'K', role: 'viewer' }]],
  'PUT /api/v1/api-keys/{id}': ['api_key.updated', async () => [`/api/v1/api-keys/${await key()}`, { name: 'Put' }]],
  'PATCH /api/v1/api-keys/{id}': [
    'api_key.updated',
    async () => [`/api/v1/api-keys/${await key()}`, { requests_per_second: 3 }],
  ],
  'POST /api/v1/api-keys/{id}/rotate': ['api_key.rotated', async () => [`/api/v1/api-keys/${await key()}/rotate`]],
  'DELETE /api/v1/api-keys/{id}': ['api_key.revoked', async () => [`/api/v1/api-keys/${await key()}`]],
  'POST /api/v1/portal-tokens': [
    'portal_token.created',
    async () => ['/api/v1/portal-tokens', { owner: 'anna', access: 'manage' }],
  ],
  'POST /api/v1/portal-tokens/revoke': [
    'portal_token.revoked',
    async () => ['/api/v1/portal-tokens/revoke', { owner: 'anna' }],
  ],
  'POST /api/v1/retention/run': ['retention.run', async () => ['/api/v1/retention/run']],
  'POST /api/v1/exports': ['export.created', async () => ['/api/v1/exports', { path: 'who', value: 'personal' }]],
  'POST /api/v1/erasures': ['erasure.created', async () => ['/api/v1/erasures', { path: 'who', value: 'personal' }]],
  'DELETE /api/v1/erasures/{id}': [
    'erasure.cancelled',
    async () => {
      const { id } = await post('/api/v1/erasures', { path: 'who', value: 'nobody' });
      const waiting = newId();
      await query(
        `INSERT INTO erasure_jobs (tenant_id, environment_id, id, path, value_hash, until_at, status, stage, cursor_id,
           next_step_at, created_at)
         SELECT tenant_id, environment_id, $2, path, value_hash, until_at, 'queued', 'events', cursor_id,
           now() + interval '1 hour', created_at FROM erasure_jobs WHERE id = $1`,
        [parseId('erasure', id), waiting],
      );
      return [`/api/v1/erasures/${formatId('erasure', waiting)}`];
    },
  ],
  'POST /api/v1/alerts/rules': ['alert_rule.created', async () => ['/api/v1/alerts/rules', alertRule()]],
  'PUT /api/v1/alerts/rules/{id}': [
    'alert_rule.updated',
    async () => [`/api/v1/alerts/rules/${(await post('/api/v1/alerts/rules', alertRule())).id}`, { threshold: 7 }],
  ],
  'PATCH /api/v1/alerts/rules/{id}': [
    'alert_rule.updated',
    async () => [`/api/v1/alerts/rules/${(await post('/api/v1/alerts/rules', alertRule())).id}`, { period: '7m' }],
  ],
  'DELETE /api/v1/alerts/rules/{id}': [
    'alert_rule.deleted',
    async () => [`/api/v1/alerts/rules/${(await post('/api/v1/alerts/rules', alertRule())).id}`],
  ],
  'POST /api/v1/alerts/incidents/{id}/acknowledge': [
    'incident.acknowledged',
    async () => [`/api/v1/alerts/incidents/${await incident()}/acknowledge`],
  ],
  'POST /api/v1/alerts/incidents/{id}/resolve': [
    'incident.resolved',
    async () => [`/api/v1/alerts/incidents/${await incident()}/resolve`],
  ],
  'POST /api/v1/event-types/presets/{preset}': [
    'preset.installed',
    async () => ['/api/v1/event-types/presets/call-center'],
  ],
  'POST /api/v1/event-types/import': [
    'event_types.imported',
    async () => ['/api/v1/event-types/import', { openapi: '3.1.0', webhooks: { imported: { post: {} } } }],
  ],
  'POST /api/v1/event-types': ['event_type.created', async () => ['/api/v1/event-types', { name: 'made.type' }]],
  'PUT /api/v1/event-types/{name}': [
    'event_type.updated',
    async () => [`/api/v1/event-types/${await eventType()}`, { description: 'New' }],
  ],
  'PATCH /api/v1/event-types/{name}': [
    'event_type.updated',
    async () => [`/api/v1/event-types/${await eventType()}`, { deprecated: true }],
  ],
  'DELETE /api/v1/event-types/{name}': ['event_type.deleted', async () => [`/api/v1/event-types/${await eventType()}`]],
  'POST /api/v1/webhooks': [
    'webhook.created',
    async () => ['/api/v1/webhooks', { name: 'W', url: receiver.url, events: ['*'] }],
  ],
  'PUT /api/v1/webhooks/{id}': [
    'webhook.updated',
    async () => [`/api/v1/webhooks/${(await webhook()).id}`, { name: 'Put' }],
  ],
  'PATCH /api/v1/webhooks/{id}': [
    'webhook.updated',
    async () => [`/api/v1/webhooks/${(await webhook()).id}`, { name: 'Patched' }],
  ],
  'DELETE /api/v1/webhooks/{id}': ['webhook.deleted', async () => [`/api/v1/webhooks/${(await webhook()).id}`]],
  'POST /api/v1/webhooks/{id}/pause': [
    'webhook.paused',
    async () => [`/api/v1/webhooks/${(await webhook()).id}/pause`],
  ],
  'POST /api/v1/webhooks/{id}/resume': [
    'webhook.resumed',
    async () => [`/api/v1/webhooks/${(await webhook({ status: 'paused' })).id}/resume`],
  ],
  'POST /api/v1/webhooks/{id}/enable': [
    'webhook.enabled',
    async () => [`/api/v1/webhooks/${(await webhook({ status: 'disabled' })).id}/enable`],
  ],
  'GET /api/v1/webhooks/{id}/secret': [
    'webhook.secret_read',
    async () => [`/api/v1/webhooks/${(await webhook()).id}/secret`],
  ],
  'POST /api/v1/webhooks/{id}/secret/rotate': [
    'webhook.secret_rotated',
    async () => [`/api/v1/webhooks/${(await webhook()).id}/secret/rotate`],
  ],
  'POST /api/v1/webhooks/{id}/test': [
    'webhook.tested',
    async () => [`/api/v1/webhooks/${(await webhook()).id}/test`, { payload: { personal: 'data' } }],
  ],
  'POST /api/v1/templates': [
    'template.created',
    async () => {
      made += 1;
      return ['/api/v1/templates', { name: `audited-${made}`, template: { a: '{{ data.a }}' } }];
    },
  ],
  'PUT /api/v1/templates/{id}': [
    'template.updated',
    async () => [`/api/v1/templates/${await template()}`, { template: { a: 2 } }],
  ],
  'PATCH /api/v1/templates/{id}': [
    'template.updated',
    async () => [`/api/v1/templates/${await template()}`, { description: 'Patched' }],
  ],
  'POST /api/v1/templates/{id}/rollback': [
    'template.rolled_back',
    async () => {
      const id = await template();
      await ask('PATCH', `/api/v1/templates/${id}`, { template: { a: 2 } });
      return [`/api/v1/templates/${id}/rollback`, { version: 1 }];
    },
  ],
  'DELETE /api/v1/templates/{id}': ['template.deleted', async () => [`/api/v1/templates/${await template()}`]],
  'POST /api/v1/webhooks/{id}/recover': [
    'replay.created',
    async () => [`/api/v1/webhooks/${(await webhook()).id}/recover`, { since: range.since }],
  ],
  'DELETE /api/v1/events/{id}/payload': [
    'event.payload_erased',
    async () => [`/api/v1/events/${await event()}/payload`],
  ],
  'POST /api/v1/events/{id}/replay': [
    'event.replayed',
    async () => [`/api/v1/events/${await event()}/replay`, { webhook_ids: [(await webhook()).id] }],
  ],
  'POST /api/v1/deliveries/{id}/retry': [
    'delivery.retried',
    async () => [`/api/v1/deliveries/${(await dead()).id}/retry`],
  ],
  'POST /api/v1/deliveries/{id}/cancel': [
    'delivery.cancelled',
    async () => [`/api/v1/deliveries/${(await waiting()).id}/cancel`],
  ],
  'POST /api/v1/dead-letters/replay': ['replay.created', async () => ['/api/v1/dead-letters/replay', {}]],
  'POST /api/v1/dead-letters/purge': [
    'dead_letters.purged',
    async () => ['/api/v1/dead-letters/purge', { webhook_id: (await dead()).webhookId }],
  ],
  'POST /api/v1/replays': ['replay.created', async () => ['/api/v1/replays', range]],
  'DELETE /api/v1/replays/{id}': [
    'replay.cancelled',
    async () => {
      const { id } = await post('/api/v1/replays', range);
      const waiting = newId();
      // One that is not taken up before it is cancelled.
      await query(
        `INSERT INTO replay_jobs (tenant_id, environment_id, id, trigger, until_at, status, estimated, estimate_is_exact,
           cursor_id, next_chunk_at, created_at)
         SELECT tenant_id, environment_id, $2, trigger, until_at, 'queued', 0, true, cursor_id, now() + interval '1 hour',
           created_at FROM replay_jobs WHERE id = $1`,
        [parseId('replay', id), waiting],
      );
      return [`/api/v1/replays/${formatId('replay', waiting)}`];
    },
  ],
};

/** What the requirement documents' paths take where it is not what their canonical routes take. */
const OTHER_BODIES: Record<string, object> = {
  'PUT /endpoints/{id}/status': { status: 'paused' },
  'POST /endpoints/test': { personal: 'data' },
};

/** A path with the values that another one has at its parameters. */
function withValuesOf(template: string, path: string, values: string): string {
  const named = path.split('/').flatMap((part, at) => (part.startsWith('{') ? [[part, values.split('/')[at]]] : []));
  return named.reduce((text, [name = '', value = '']) => text.replace(name, value), template);
}

// The requirement documents' paths record what their canonical routes record.
for (const each of ROUTES) {
  const [action, prepare] = EXPECTED[sameAs(each) ?? ''] ?? [];
  if (action === undefined || prepare === undefined) continue;
  EXPECTED[each.route] = [
    action,
    async () => {
      const [path, body] = await prepare();
      return [withValuesOf(each.path, each.canonical, path), OTHER_BODIES[each.route] ?? body];
    },
  ];
}

const unrecorded = { event_type: 'not.recorded', data: {} };

/** What was published is on record itself, and a test of filters changes nothing. Each with a body. */
const NOT_RECORDED: Record<string, object> = {
  'POST /api/v1/events': unrecorded,
  'POST /events/publish': unrecorded,
  'POST /api/v1/events/batch': { events: [unrecorded] },
  'POST /api/v1/filters/test': { filters: [], data: {} },
  'POST /api/v1/templates/{id}/test': { sample: {} },
  'POST /templates/{id}/test': { sample: {} },
};

/** The newest entries of the tenant and of the platform. */
async function newest(chain: 'tenant' | 'platform', query = ''): Promise<Answer['body'][]> {
  return (await ask('GET', `/api/v1/audit?chain=${chain}${query}`)).body.data;
}

describe('every changing route', () => {
  test('says in this test what it records', () => {
    expect(CHANGING.filter((route) => !(route in EXPECTED) && !(route in NOT_RECORDED))).toEqual([]);
    expect(Object.keys(EXPECTED).filter((route) => !CHANGING.includes(route))).toEqual([]);
  });

  test.each(Object.entries(EXPECTED))('%s', async (route, [action, prepare]) => {
    const [path, body] = await prepare();
    const method = route.split(' ')[0] ?? '';
    const answer = await ask(method, path, body);
    const entries = [...(await newest('tenant')), ...(await newest('platform'))];
    const own = entries.filter((entry) => entry.request_id === answer.headers.get('x-request-id'));
    expect(own).toHaveLength(1);
    expect(own[0]).toMatchObject({
      id: expect.stringMatching(/^aud_/),
      action,
      outcome: 'success',
      actor: { kind: 'operator', id: 'operator' },
      role: 'operator',
      address: '127.0.0.1',
    });
    expect(JSON.stringify(own)).not.toContain('personal');
  });

  test.each(Object.entries(NOT_RECORDED))('but not %s', async (route, body) => {
    const path = route.replace('POST ', '');
    const whole = path.includes('{id}') ? path.replace('{id}', await template()) : path;
    const before = (await newest('tenant'))[0].id;
    await post(whole, body);
    expect((await newest('tenant'))[0].id).toBe(before);
  });
});

describe('what changes nothing', () => {
  test('has no entry: refused, of fields as they are, done before, or a dry run', async () => {
    const { id } = await webhook({ name: 'Same' });
    const key = await post('/api/v1/api-keys', { name: 'K', role: 'viewer' });
    await ask('POST', `/api/v1/webhooks/${id}/pause`);
    await ask('DELETE', `/api/v1/api-keys/${key.id}`);
    const before = (await newest('tenant'))[0].id;
    await ask('PATCH', `/api/v1/webhooks/${id}`, { name: 'Same' });
    await ask('POST', `/api/v1/webhooks/${id}/pause`);
    await ask('DELETE', `/api/v1/api-keys/${key.id}`);
    await ask('POST', '/api/v1/replays', { ...range, dry_run: true });
    const refused = await posthorn.call(
      'PATCH',
      `/api/v1/webhooks/${id}`,
      { url: 'nonsense' },
      { 'x-tenant-id': tenant.id },
    );
    expect(refused.status).toBe(422);
    expect((await newest('tenant'))[0].id).toBe(before);
  });

  test('an answer that is given again for its Idempotency-Key is one change', async () => {
    const body = { name: 'Once', role: 'viewer' };
    for (const _ of [1, 2]) await ask('POST', '/api/v1/api-keys', body, { 'idempotency-key': 'once' });
    const created = await newest('tenant', '&action=api_key.created&limit=250');
    expect(created.filter((entry) => entry.after.name === 'Once')).toHaveLength(1);
  });
});

describe('before and after', () => {
  test('are the fields that changed, with what is secret masked, and nowhere in the database in clear', async () => {
    const secrets = [
      's3cret-header',
      's3cret-query',
      's3cret-signing',
      's3cret-next',
      's3cret-member',
      's3cret-other',
      's3cret-session',
    ];
    const { id } = await webhook({
      url: `${receiver.url}/hook?token=s3cret-query`,
      headers: { Authorization: 's3cret-header', 'X-Session': 's3cret-session', 'X-Plain': 'plain' },
      secret: 's3cret-signing',
      metadata: { api_key: 's3cret-member', team: 'a' },
      timeout_seconds: 7,
    });
    const [created] = await newest('tenant', `&resource_id=${id}`);
    expect(created).toMatchObject({
      before: null,
      after: {
        url: `${receiver.url}/hook?***`,
        headers: { Authorization: '***', 'X-Session': '***', 'X-Plain': 'plain' },
        metadata: { api_key: '***', team: 'a' },
      },
    });
    await ask('PATCH', `/api/v1/webhooks/${id}`, {
      headers: { Authorization: 's3cret-next' },
      url: `${receiver.url}/hook?token=s3cret-other`,
      secret: 's3cret-other',
      metadata: { team: 'b' },
      timeout_seconds: 8,
    });
    const [changed] = await newest('tenant', `&resource_id=${id}`);
    expect(changed).toMatchObject({ action: 'webhook.updated' });
    const [url, secret, headers] = [`${receiver.url}/hook?***`, '***', { Authorization: '***' }];
    expect(changed.before).toEqual({ url, secret, headers, metadata: { team: 'a' }, timeout_seconds: 7 });
    expect(changed.after).toEqual({ url, secret, headers, metadata: { team: 'b' }, timeout_seconds: 8 });
    const { text } = await ask('GET', '/api/v1/audit/export');
    for (const value of secrets) expect(text).not.toContain(value);
  });

  test('keep no sample of an event type, and of a large schema the beginning', async () => {
    const properties = Object.fromEntries(Array.from({ length: 500 }, (_, at) => [`field_${at}`, { type: 'string' }]));
    const body = { name: 'large.type', schema: { type: 'object', properties }, sample: { customer: 'Jane Roe' } };
    await post('/api/v1/event-types', body);
    const [entry] = await newest('tenant', '&resource_id=large.type');
    expect(entry.after.sample).toBe('(23 bytes)');
    expect(entry.after.schema).toMatch(/^\{"type":"object","properties":.*… \(cut: \d{5} bytes\)$/);
    expect(JSON.stringify(entry).length).toBeLessThan(4_000);
  });
});

test('a webhook that Posthorn disables by itself has an entry of the system', async () => {
  receiver.onRequest = (request) => request.respond(request.path === '/gone' ? 410 : 200);
  const { id } = await webhook({ url: `${receiver.url}/gone`, events: ['gone.type'] });
  await post('/api/v1/events', { event_type: 'gone.type', data: {} });
  const [entry] = await eventually(
    () => newest('tenant', `&resource_id=${id}&actor=system`),
    (found) => found.length > 0,
  );
  expect(entry).toMatchObject({
    action: 'webhook.disabled',
    actor: { kind: 'system', id: 'system' },
    role: null,
    address: null,
    request_id: null,
    before: { status: 'active', status_reason: null },
    after: { status: 'disabled', status_reason: 'gone' },
  });
});

test('how long records are kept is recorded as it was and is', async () => {
  const { id } = await makeTenant();
  const as = { 'x-tenant-id': id };
  await ask('PATCH', `/api/v1/tenants/${id}`, { settings: { retention: { payload_days: 5 } } }, as);
  await ask('PATCH', `/api/v1/tenants/${id}/environments/staging`, { retention: { audit_days: 7 } }, as);
  await ask('PATCH', `/api/v1/tenants/${id}/environments/staging`, { retention: { audit_days: 7 } }, as);
  const { data } = (await ask('GET', '/api/v1/audit', undefined, as)).body;
  expect(data).toHaveLength(2);
  expect(data[0]).toMatchObject({
    action: 'environment.updated',
    environment: 'staging',
    before: { retention: { audit_days: null } },
    after: { retention: { audit_days: 7 } },
  });
  expect(data[1]).toMatchObject({
    action: 'tenant.updated',
    before: { settings: { retention: { payload_days: 30 } } },
    after: { settings: { retention: { payload_days: 5 } } },
  });
});

test('an erasure that has ended has an entry with its counts, and the value is in none', async () => {
  const { id } = await makeTenant();
  const as = { 'x-tenant-id': id };
  for (const who of ['hubert-0815', 'hubert-0815', 'somebody']) {
    await ask('POST', '/api/v1/events', { event_type: 'a.type', data: { who } }, as);
  }
  const subject = { path: 'who', value: 'hubert-0815' };
  await ask('POST', '/api/v1/exports', subject, as);
  const job = (await ask('POST', '/api/v1/erasures', subject, as)).body;
  const [ended] = await eventually(
    async () => (await ask('GET', '/api/v1/audit?action=erasure.completed', undefined, as)).body.data,
    (data) => data.length > 0,
  );
  expect(ended).toMatchObject({
    actor: { kind: 'system', id: 'system' },
    resource_type: 'erasure',
    resource_id: job.id,
    details: { path: 'who', looked_at_events: 3, erased_events: 2 },
  });
  const { text } = await ask('GET', '/api/v1/audit/export', undefined, as);
  expect(text).toContain('export.created');
  expect(text).not.toContain('hubert');
});

describe('portal tokens', () => {
  const anna = { owner: 'anna', access: 'manage' };
  const withToken = (token: string, method: string, path: string, body?: unknown) =>
    posthorn.call(method, path, body, { authorization: `Bearer ${token}` });
  const logOf = async (id: string, filter = '') =>
    (await ask('GET', `/api/v1/audit?limit=250${filter}`, undefined, { 'x-tenant-id': id })).body.data;

  test('say whose they are and until when, and never the token', async () => {
    const { id } = await makeTenant();
    const made = (await ask('POST', '/api/v1/portal-tokens', anna, { 'x-tenant-id': id })).body;
    await ask('POST', '/api/v1/portal-tokens/revoke', {}, { 'x-tenant-id': id });
    const [revoked, created] = await logOf(id);
    expect(revoked).toMatchObject({ action: 'portal_token.revoked', details: { owner: null } });
    expect(created).toMatchObject({
      action: 'portal_token.created',
      resource_type: 'portal_token',
      resource_id: 'anna',
      after: { owner: 'anna', access: 'manage', expires_at: made.expires_at },
    });
    const [content, signature] = made.token.slice('ph_portal_'.length).split('.');
    const { text } = await ask('GET', '/api/v1/audit/export', undefined, { 'x-tenant-id': id });
    for (const part of [content, signature]) expect(text).not.toContain(part);
  });

  test('are the actor of what is done with them, by their owner, and keep to it', async () => {
    const { id } = await makeTenant();
    const as = { 'x-tenant-id': id };
    const { token } = (await ask('POST', '/api/v1/portal-tokens', anna, as)).body;
    const fields = { name: 'W', url: receiver.url, events: ['order.paid'] };
    const own = await withToken(token, 'POST', '/api/v1/webhooks', fields);
    expect([own.status, own.body.owner]).toEqual([201, 'anna']);
    await withToken(token, 'GET', `/api/v1/webhooks/${own.body.id}/secret`);
    const foreign = (await ask('POST', '/api/v1/webhooks', { ...fields, owner: 'bert' }, as)).body;
    for (const [method, path] of [
      ['PATCH', ''],
      ['DELETE', ''],
      ['POST', '/pause'],
      ['POST', '/secret/rotate'],
    ] as const) {
      expect((await withToken(token, method, `/api/v1/webhooks/${foreign.id}${path}`, {})).status).toBe(404);
    }
    expect((await withToken(token, 'POST', '/api/v1/webhooks', { ...fields, owner: 'bert' })).status).toBe(403);
    const entries = await logOf(id, '&actor=anna');
    expect(entries.map(({ action }: { action: string }) => action)).toEqual(['webhook.secret_read', 'webhook.created']);
    for (const entry of entries) {
      expect(entry).toMatchObject({ actor: { kind: 'portal_token', id: 'anna' }, role: 'portal_manage' });
    }
  });

  test('that are refused are recorded with their owner, also once they were revoked', async () => {
    const { id } = await makeTenant();
    const as = { 'x-tenant-id': id };
    const { token } = (await ask('POST', '/api/v1/portal-tokens', anna, as)).body;
    expect((await withToken(token, 'GET', '/api/v1/api-keys')).status).toBe(403);
    await ask('POST', '/api/v1/portal-tokens/revoke', { owner: 'anna' }, as);
    expect((await withToken(token, 'GET', '/api/v1/webhooks')).status).toBe(401);
    await posthorn.restart();
    const denied = await logOf(id, '&outcome=denied');
    expect(denied.map(({ actor, details }: Answer['body']) => [actor, details.status, details.route]).sort()).toEqual([
      [{ kind: 'portal_token', id: 'anna' }, 401, 'GET /api/v1/webhooks'],
      [{ kind: 'portal_token', id: 'anna' }, 403, 'GET /api/v1/api-keys'],
    ]);
    expect(JSON.stringify(denied)).not.toContain('ph_portal_');
  });
});
