import { createHmac } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { eventually } from '../../src/testing/eventually.ts';
import { type Answer, OPERATOR_KEY, startTestPosthorn, type TestPosthorn } from '../../src/testing/posthorn.ts';
import { type Receiver, startReceiver } from '../../src/testing/receiver.ts';
import { publishPlainly } from './plain-publish.ts';

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

const post = (path: string, body?: unknown) => posthorn.call('POST', `/api/v1${path}`, body);
const get = (path: string) => posthorn.call('GET', `/api/v1${path}`);

async function createWebhook(fields: object = {}) {
  const { status, body } = await post('/webhooks', { name: 'W', url: receiver.url, events: ['no.such'], ...fields });
  expect(status, JSON.stringify(body)).toBe(201);
  return body;
}

const fieldsOf = ({ body }: Answer) => body.error.details.fields;

/** A webhook that says something else than the default of each field. */
const SAYING_ALL = {
  description: 'Of mine',
  owner: 'customer-1',
  metadata: { a: { b: 1 } },
  status: 'paused',
  http_method: 'PUT',
  headers: { 'X-Kept': '1', 'X-Api-Token': 'secret' },
  auth: { type: 'basic', username: 'u', password: 'p' },
  compression: 'gzip',
  preset: 'call-center',
  envelope: 'raw',
  transformation: { enabled: false, template: { a: '{{ data.a }}' }, native: true, content_type: 'text/json' },
  signature: { standard: false, method: 'hmac_sha1', header: 'X-Sign', prefix: 'v=', encoding: 'base64' },
  retry_policy: {
    enabled: false,
    max_attempts: 3,
    jitter: 0.5,
    retry_on_status_codes: [500],
    schedule_seconds: [1, 2],
  },
  timeout_seconds: 7,
  max_concurrency: 2,
  rate_limit_per_minute: 60,
  ordering: { enabled: true, key_path: 'id', on_dead: 'park' },
  batching: { enabled: true, max_events: 3, max_wait_ms: 10, max_bytes: 2048 },
  circuit_breaker: { enabled: false, failure_rate: 0.2, minimum_requests: 3, window_seconds: 30, open_seconds: 5 },
  failover_url: 'http://127.0.0.1:4999/other',
  ip_whitelist: ['127.0.0.0/8'],
  priority: 9,
  verify_tls: false,
  filters: [{ field_path: 'data.a', operator: 'exists' }],
  filter_mode: 'any',
};

test('what GET answers of a template, an event type and an alert rule can be sent back, and changes nothing', async () => {
  const rule = { name: 'back', metric: 'queue_backlog', threshold: 5, period: '5m', action: 'alert_operations_team' };
  const made = [
    ['templates', (await post('/templates', { name: 'back', template: { a: 'b' } })).body.id],
    ['event-types', (await post('/event-types', { name: 'sent.back', sample: { a: 1.5 } })).body.name],
    ['alerts/rules', (await post('/alerts/rules', rule)).body.id],
  ];
  for (const [path, id] of made) {
    const { updated_at, ...before } = (await get(`/${path}/${id}`)).body;
    for (const method of ['PUT', 'PATCH']) {
      const answer = await posthorn.call(method, `/api/v1/${path}/${id}`, { ...before, updated_at });
      expect(answer.status, answer.text).toBe(200);
      expect(answer.body).toEqual({ ...before, updated_at: expect.any(String) });
      const unknown = await posthorn.call(method, `/api/v1/${path}/${id}`, { ...before, update_at: updated_at });
      expect([unknown.status, fieldsOf(unknown)]).toEqual([
        422,
        [{ path: 'update_at', message: 'is not a known field' }],
      ]);
    }
  }
});

describe('null', () => {
  test.each(['PUT', 'PATCH'])('gives each field of a webhook its default back, with %s', async (method) => {
    const { secret: _, ...blank } = await createWebhook();
    const { id } = await createWebhook({ ...SAYING_ALL, batching: { max_events: 3 } });
    const path = `/api/v1/webhooks/${id}`;
    for (const field of Object.keys(SAYING_ALL)) {
      const { status, body } = await posthorn.call(method, path, { [field]: null });
      expect([field, status, body[field]]).toEqual([field, 200, blank[field]]);
    }
    const own = { id, created_at: expect.any(String), updated_at: expect.any(String) };
    expect((await get(`/webhooks/${id}`)).body).toEqual({ ...blank, ...own });
    await posthorn.call(method, path, { status: 'disabled' });
    const enabled = await posthorn.call(method, path, { is_active: null });
    expect(enabled.body).toMatchObject({ is_active: true, status: 'active', status_reason: null });
  });

  test('gives each member of a setting its default back', async () => {
    const { secret: _, ...blank } = await createWebhook();
    const { id } = await createWebhook({ ...SAYING_ALL, preset: 'standard', batching: { max_events: 3 } });
    for (const field of ['signature', 'retry_policy', 'ordering', 'batching', 'circuit_breaker'] as const) {
      const members = Object.keys(blank[field]).map((name) => [name, null]);
      const { body } = await posthorn.call('PATCH', `/api/v1/webhooks/${id}`, { [field]: Object.fromEntries(members) });
      expect(body[field]).toEqual(blank[field]);
    }
    const { body } = await posthorn.call('PATCH', `/api/v1/webhooks/${id}`, {
      auth: { type: null },
      transformation: { enabled: null, language: null, native: null, content_type: null },
    });
    expect(body).toMatchObject({
      auth: { type: 'none' },
      transformation: { enabled: true, language: 'jinja', native: false, content_type: 'application/json' },
    });
  });

  test('for one name of a setting says nothing beside a value for the other', async () => {
    const names = Object.keys(SAYING_ALL).map((name) => [name, null]);
    const nulls = { ...Object.fromEntries(names), secret: null, custom_headers: null, is_active: null };
    const short = await createWebhook({ ...nulls, is_active: false, signature_method: 'hmac_sha1', retry_count: 2 });
    expect(short).toMatchObject({ status: 'disabled', signature: { method: 'hmac_sha1' }, retry_count: 2 });
    const long = await createWebhook({
      ...{ ...nulls, signature_method: null, retry_count: null, status: 'paused', custom_headers: { 'X-A': '1' } },
      ...{ signature: { method: 'hmac_sha1' }, retry_policy: { max_attempts: 3 } },
    });
    expect(long).toMatchObject({
      ...{ status: 'paused', signature_method: 'hmac_sha1', retry_count: 2, headers: { 'X-A': '1' } },
    });
    for (const both of [
      { status: 'paused', is_active: true },
      { signature_method: 'hmac_sha1', signature: { method: 'hmac_sha256' } },
      { retry_count: 2, retry_policy: { max_attempts: 5 } },
      { headers: { a: '1' }, custom_headers: { a: '2' } },
    ]) {
      expect((await posthorn.call('PATCH', `/api/v1/webhooks/${short.id}`, both)).status).toBe(422);
    }
  });

  const UNSET = {
    ...{ event_id: null, timestamp: null, metadata: null, ordering_key: null, priority: null, deliver_at: null },
  };
  test('in a publish is what was not said, but for the data', async () => {
    const event = { event_type: 'null.published', data: null, ...UNSET };
    const answers = [
      (await post('/events', event)).body,
      (await post('/events/batch', { events: [event] })).body.data[0],
      // Straight from its socket, past the HTTP server.
      (await publishPlainly(posthorn.url, OPERATOR_KEY, event)).body,
    ];
    for (const answer of answers) {
      expect(answer).toMatchObject({ status: 'no_subscribers', event_id: expect.stringMatching(/^evt_/) });
      const { body } = await get(`/events/${answer.event_id}`);
      expect(body).toMatchObject({ data: null, metadata: null, ordering_key: null, priority: 0, deliver_at: null });
    }
    const undefinedType = await post('/events', { ...event, event_type: null });
    expect([undefinedType.status, fieldsOf(undefinedType)[0].path]).toEqual([422, 'event_type']);
  });

  test('in the filter of a replay, as its job answers it, means all', async () => {
    const { id } = await createWebhook();
    const [since, until] = ['2026-01-01T00:00:00Z', '2026-01-02T00:00:00Z'];
    const unsaid = { webhook_id: null, event_type: null };
    for (const [path, body] of [
      ['/replays', { ...unsaid, status: null, since, until }],
      ['/dead-letters/replay', { ...unsaid, since: null, until: null }],
      [`/webhooks/${id}/recover`, { since, until: null }],
    ] as const) {
      expect((await post(path, { ...body, dry_run: true })).body).toMatchObject({ dry_run: true });
      expect((await post(path, { ...body, dry_run: null })).status).toBe(202);
    }
    const tried = { filters: [{ field_path: 'a', operator: 'exists' }], filter_mode: null, data: { a: 1 } };
    expect((await post('/filters/test', tried)).body).toMatchObject({ matches: true });
    expect((await post('/dead-letters/purge', { ...unsaid, since: null, until: null })).body).toEqual({ purged: 0 });
    expect((await post(`/webhooks/${id}/secret/rotate`, { secret: null, grace_period_seconds: null })).status).toBe(
      200,
    );
    expect((await post(`/webhooks/${id}/test`, { event_type: null, payload: null })).body.is_success).toBe(true);
  });
});

describe('the signature of the body', () => {
  let received: number;
  beforeEach(() => {
    received = receiver.requests.length;
  });
  const secret = 'a secret of mine';

  test.each([
    [
      { method: 'hmac_sha256', prefix: 'HMAC ', encoding: 'base64', header: 'X-Shop-Hmac' },
      'sha256',
      'HMAC ',
      'base64',
    ],
    [{ method: 'hmac_sha256', prefix: '' }, 'sha256', '', 'hex'],
    [{ method: 'hmac_sha256_hex', encoding: 'base64' }, 'sha256', '', 'base64'],
    [{ method: 'hmac_sha1', encoding: 'base64' }, 'sha1', 'sha1=', 'base64'],
    [{ method: 'hmac_sha1', prefix: null, encoding: null }, 'sha1', 'sha1=', 'hex'],
  ] as const)('has the header, prefix and encoding of %j', async (signature, algorithm, prefix, encoding) => {
    const { id, ...webhook } = await createWebhook({ secret, signature });
    const asked: { method: string; header?: string; prefix?: string | null } = signature;
    const header = asked.header ?? 'X-Webhook-Signature';
    expect(webhook.signature).toMatchObject({ header, prefix: asked.prefix ?? null, encoding });
    const { body } = await post(`/webhooks/${id}/test`, { payload: { n: 1 } });
    expect(body.is_success).toBe(true);
    const request = receiver.requests[received];
    const digest = createHmac(algorithm, secret).update(request?.body ?? '');
    expect(request?.headers[header.toLowerCase()]).toBe(prefix + digest.digest(encoding));
  });

  test('has no prefix that a header cannot carry, and no other encoding', async () => {
    const { id } = await createWebhook();
    for (const signature of [{ prefix: ' x' }, { prefix: 'a\r\nb' }, { prefix: 'ü' }, { prefix: 'x'.repeat(33) }]) {
      const answer = await posthorn.call('PATCH', `/api/v1/webhooks/${id}`, { signature });
      expect([answer.status, fieldsOf(answer)[0].path]).toEqual([422, 'signature.prefix']);
    }
    const answer = await posthorn.call('PATCH', `/api/v1/webhooks/${id}`, { signature: { encoding: 'base32' } });
    expect([answer.status, fieldsOf(answer)[0].path]).toEqual([422, 'signature.encoding']);
  });
});

test.each([
  [{ enabled: false }, 1],
  [{ max_attempts: 2, schedule_seconds: [0] }, 2],
] as const)('with the retry policy %j a template that fails is tried no more often', async (retry_policy, attempts) => {
  const transformation = { language: 'javascript', template: '() => { throw new Error("mine"); }' };
  const { id } = await createWebhook({ events: ['failing.template'], transformation, retry_policy });
  await post('/events', { event_type: 'failing.template', data: {} });
  const [delivery] = await eventually(
    async () => (await get(`/webhooks/${id}/deliveries`)).body.data,
    ([first]) => first?.status === 'dead',
  );
  expect(delivery).toMatchObject({ attempt_count: attempts, status_reason: 'template_fault' });
  await posthorn.call('DELETE', `/api/v1/webhooks/${id}`);
});

test("a webhook's deliveries have the filters of all deliveries", async () => {
  const { id } = await createWebhook({ events: ['listed.*'] });
  const publish = async (type: string, event_id: string) =>
    (await post('/events', { event_type: type, data: {}, event_id })).body;
  const first = await publish('listed.one', 'listed-1');
  await publish('listed.two', 'listed-2');
  const list = async (query: string) =>
    (await get(`/webhooks/${id}/deliveries?${query}`)).body.data.map((row: { event_type: string }) => row.event_type);
  await eventually(
    () => list('status=delivered'),
    (types) => types.length === 2,
  );
  expect(await list('event_type=listed.one')).toEqual(['listed.one']);
  expect(await list('event_id=listed-2')).toEqual(['listed.two']);
  expect(await list(`event_id=${first.id}`)).toEqual(['listed.one']);
  expect(await list('event_id=listed-3')).toEqual([]);
  expect(await list('response_status=200')).toHaveLength(2);
  expect(await list('response_status=500')).toEqual([]);
  expect(await list('q=two')).toEqual(['listed.two']);
  expect(await list('until=2026-01-01T00:00:00Z')).toEqual([]);
  expect(await list('since=2026-01-01T00:00:00Z&limit=1')).toEqual(['listed.two']);
});

describe('an error', () => {
  const shape = { code: expect.any(String), message: expect.any(String), request_id: expect.stringMatching(/^req_/) };

  test('has details, and for a 422 the fields, whatever it is', async () => {
    const deep = `${'{"a":'.repeat(100)}1${'}'.repeat(100)}`;
    for (const [answer, status, details] of [
      [await get('/webhooks/whk_00000000000000000000000000'), 404, {}],
      [await get('/nowhere'), 404, {}],
      [await get('/webhooks?cursor=x'), 400, {}],
      [await post('/webhooks', '{'), 400, {}],
      [await posthorn.call('GET', '/api/v1/webhooks', undefined, { authorization: 'Bearer x' }), 401, {}],
      [
        await post('/webhooks', deep),
        422,
        { max_depth: 64, fields: [{ path: 'body', message: 'must be nested at most 64 levels deep' }] },
      ],
    ] as const) {
      expect([answer.status, answer.body.error]).toEqual([status, { ...shape, details }]);
    }
  });

  const rule = { name: 'R', metric: 'queue_backlog', threshold: 5, period: '5m', action: 'alert_operations_team' };
  test.each([
    ['/alerts/rules', { ...rule, threshold: '10%' }, [['threshold', 'must be number']]],
    ['/alerts/rules', { ...rule, nope: 1 }, [['nope', 'is not a known field']]],
    [
      '/alerts/rules',
      { queue_backlog: { threshold: 'x', action: 5 } },
      ['threshold', 'action'].map((name) => [`queue_backlog.${name}`, expect.any(String)]),
    ],
    ['/alerts/rules', { ...rule, period: [] }, [['period', 'must be string or integer']]],
    ['/alerts/rules', { name: 'R', nope: 1 }, [['nope', 'is not a known field']]],
    ['/alerts/rules', { queue_backlog: 5 }, [['queue_backlog', 'must be object']]],
    ['/alerts/rules', [], [['body', 'must be object']]],
    [
      '/replays',
      { since: '2026-01-01T00:00:00Z', until: '2026-01-02T00:00:00Z', status: 'pending' },
      [['status', 'must be one of ["delivered","dead","cancelled"]']],
    ],
    [
      '/webhooks',
      { name: 'W', url: 'https://example.com', events: ['*'], timeout_seconds: 'x' },
      [['timeout_seconds', 'must be integer or null']],
    ],
  ])('says of POST %s with %j what is wrong with it, and no more', async (path, body, problems) => {
    const answer = await post(path, body);
    expect(answer.status).toBe(422);
    expect(fieldsOf(answer)).toEqual(problems.map(([path, message]) => ({ path, message })));
    expect(answer.body.error.message).toBe(`${fieldsOf(answer)[0].path}: ${fieldsOf(answer)[0].message}`);
  });
});

test('lists without pages have the form of those with pages', async () => {
  const { body } = await get('/event-types/presets');
  expect(body).toEqual({ data: expect.any(Array), next_cursor: null, has_more: false });
  expect(body.data).toHaveLength(6);
  expect((await get('/removals')).body).toEqual({ data: [], next_cursor: null, has_more: false });
});
