import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Scope } from '../http/caller.ts';
import { formatId, parseId } from '../kernel/ids.ts';
import { openWebhookFixture, type WebhookFixture } from './webhook-fixture.ts';

let api: WebhookFixture;
let scope: Scope;

beforeAll(async () => {
  api = await openWebhookFixture();
  scope = await api.addEnvironment();
});
afterAll(() => api.close());

const minimal = { name: 'CRM', url: 'https://hooks.example.com/crm', events: ['lead.*'] };

async function create(fields: Record<string, unknown> = {}, where = scope) {
  const answer = await api.call(where, 'POST', '', { ...minimal, ...fields });
  expect(answer.body).toMatchObject({ id: expect.stringMatching(/^whk_/) });
  return answer.body;
}

describe('creating a webhook', () => {
  it('answers 201 with every field in force, the preset’s included, and the generated secret', async () => {
    const answer = await api.call(scope, 'POST', '', minimal);
    expect(answer.status).toBe(201);
    expect(answer.body).toEqual({
      id: expect.stringMatching(/^whk_[0-9a-z]{26}$/),
      tenant_id: formatId('tenant', scope.tenantId),
      environment: 'production',
      ...minimal,
      description: null,
      owner: null,
      metadata: {},
      is_active: true,
      status: 'active',
      status_reason: null,
      http_method: 'POST',
      headers: {},
      auth: { type: 'none' },
      compression: 'none',
      preset: 'standard',
      envelope: 'standard',
      transformation: null,
      signature: {
        standard: true,
        asymmetric: false,
        method: 'none',
        header: 'X-Webhook-Signature',
        prefix: null,
        encoding: 'hex',
        body_spelling: 'published',
      },
      signature_method: 'none',
      retry_policy: expect.objectContaining({ enabled: true, max_attempts: 8 }),
      retry_count: 7,
      timeout_seconds: 15,
      max_concurrency: null,
      rate_limit_per_minute: null,
      ordering: { enabled: false, key_path: null, on_dead: 'skip' },
      batching: { enabled: false, max_events: 50, max_wait_ms: 1_000, max_bytes: 262_144 },
      circuit_breaker: {
        enabled: true,
        failure_rate: 0.5,
        minimum_requests: 20,
        window_seconds: 60,
        open_seconds: 30,
      },
      circuit_state: 'closed',
      circuit_reopens_at: null,
      failover_url: null,
      ip_whitelist: null,
      priority: 0,
      verify_tls: true,
      total_deliveries: 0,
      successful_deliveries: 0,
      failed_deliveries: 0,
      filters: [],
      filter_mode: 'all',
      filtered_deliveries: 0,
      last_triggered_at: null,
      created_at: '2030-01-15T12:00:00.000Z',
      updated_at: '2030-01-15T12:00:00.000Z',
      secret: expect.stringMatching(/^whsec_/),
    });
    const { secret, ...shown } = answer.body;
    expect((await api.call(scope, 'GET', `/${shown.id}`)).body).toEqual(shown);
  });

  it('takes the requests of the requirement documents, as far as their fields exist', async () => {
    const isp = await create({ secret: 'your_webhook_secret', headers: { 'X-Custom-Header': 'Custom Value' } });
    expect(isp).toMatchObject({ secret: 'your_webhook_secret', headers: { 'X-Custom-Header': 'Custom Value' } });
    const callCenter = await create({
      http_method: 'POST',
      secret: 'salesforce_webhook_secret',
      signature_method: 'hmac_sha256',
      custom_headers: { Authorization: 'Bearer sf_token_123', 'X-Source': 'Vocelio' },
      retry_policy: {
        enabled: true,
        max_attempts: 5,
        initial_delay_seconds: 1,
        max_delay_seconds: 300,
        backoff_multiplier: 2.0,
        retry_on_status_codes: [408, 429, 500, 502, 503, 504],
      },
    });
    expect(callCenter).toMatchObject({
      signature: { standard: true, method: 'hmac_sha256', header: 'X-Webhook-Signature' },
      headers: { Authorization: '***', 'X-Source': 'Vocelio' },
      retry_policy: { max_attempts: 5, max_delay_seconds: 300, schedule_seconds: null },
    });
    expect(await create({ retry_count: 3, timeout_seconds: 30, is_active: false })).toMatchObject({
      retry_policy: { max_attempts: 4 },
      retry_count: 3,
      timeout_seconds: 30,
      is_active: false,
      status: 'disabled',
      status_reason: 'manual',
    });
  });

  it('takes its defaults from the environment’s preset, or from its own', async () => {
    const callCenter = await api.addEnvironment({ preset: 'call-center' });
    expect(await create({}, callCenter)).toMatchObject({
      preset: 'call-center',
      envelope: 'event_type',
      signature_method: 'hmac_sha256',
      retry_count: 4,
    });
    expect(await create({ preset: 'whatsapp-crm' }, callCenter)).toMatchObject({
      preset: 'whatsapp-crm',
      envelope: 'event',
      timeout_seconds: 30,
    });
  });

  it.each([
    [{ name: undefined }, 'name'],
    [{ name: '' }, 'name'],
    [{ name: 'x'.repeat(201) }, 'name'],
    [{ name: 'a\u0000b' }, 'name'],
    [{ name: 'a\r\nb' }, 'name'],
    [{ url: undefined }, 'url'],
    [{ url: 'http://hooks.example.com/' }, 'url'],
    [{ url: 'https://10.0.0.1/' }, 'url'],
    [{ url: 'https://[::ffff:169.254.169.254]/' }, 'url'],
    [{ url: `https://hooks.example.com/${'a'.repeat(2_048)}` }, 'url'],
    [{ events: undefined }, 'events'],
    [{ events: [] }, 'events'],
    [{ events: 'lead.*' }, 'events'],
    [{ events: [''] }, 'events.0'],
    [{ events: ['a\u0000'] }, 'events.0'],
    [{ events: Array.from({ length: 201 }, (_, n) => `e.${n}`) }, 'events'],
    [{ description: 'a\u0000' }, 'description'],
    [{ owner: 7 }, 'owner'],
    [{ metadata: [] }, 'metadata'],
    [{ metadata: { a: 'x'.repeat(16_384) } }, 'metadata'],
    [{ metadata: { a: 'a\u0000' } }, 'metadata'],
    [{ metadata: { a: ['\ud800'] } }, 'metadata'],
    [{ is_active: 'yes' }, 'is_active'],
    [{ is_active: true, status: 'paused' }, 'is_active'],
    [{ status: 'gone' }, 'status'],
    [{ status_reason: 'x' }, 'status_reason'],
    [{ http_method: 'TRACE' }, 'http_method'],
    [{ http_method: 'post' }, 'http_method'],
    [{ secret: 'short' }, 'secret'],
    [{ secret: 'whsec_notbase64!' }, 'secret'],
    [{ signature_method: 'md5' }, 'signature_method'],
    [{ signature_method: 'hmac_sha1', signature: { method: 'none' } }, 'signature_method'],
    [{ signature: { header: 'Host' } }, 'signature.header'],
    [{ signature: { header: 'webhook-id' } }, 'signature.header'],
    [{ signature: { header: 'a\r\nb' } }, 'signature.header'],
    [{ signature: { colour: 'red' } }, 'signature.colour'],
    [{ preset: 'nobody' }, 'preset'],
    [{ envelope: 'xml' }, 'envelope'],
    [{ retry_count: 50 }, 'retry_count'],
    [{ retry_count: 3, retry_policy: { max_attempts: 3 } }, 'retry_count'],
    [{ retry_policy: { max_attempts: 51 } }, 'retry_policy.max_attempts'],
    [{ retry_policy: { max_attempts: 0 } }, 'retry_policy.max_attempts'],
    [{ retry_policy: { initial_delay_seconds: 86_401 } }, 'retry_policy.initial_delay_seconds'],
    [{ retry_policy: { initial_delay_seconds: 10, max_delay_seconds: 5 } }, 'retry_policy.max_delay_seconds'],
    [{ retry_policy: { backoff_multiplier: 0.5 } }, 'retry_policy.backoff_multiplier'],
    [{ retry_policy: { jitter: 1.1 } }, 'retry_policy.jitter'],
    [{ retry_policy: { strategy: 'random' } }, 'retry_policy.strategy'],
    [{ retry_policy: { schedule_seconds: [] } }, 'retry_policy.schedule_seconds'],
    [{ retry_policy: { schedule_seconds: [-1] } }, 'retry_policy.schedule_seconds.0'],
    [{ retry_policy: { retry_on_status_codes: [99] } }, 'retry_policy.retry_on_status_codes.0'],
    [{ retry_policy: { max_atempts: 5 } }, 'retry_policy.max_atempts'],
    [{ timeout_seconds: 0 }, 'timeout_seconds'],
    [{ timeout_seconds: 61 }, 'timeout_seconds'],
    [{ timeout_seconds: '5' }, 'timeout_seconds'],
    [{ max_concurrency: 1_001 }, 'max_concurrency'],
    [{ rate_limit_per_minute: 0 }, 'rate_limit_per_minute'],
    [{ rate_limit_per_minute: 600_001 }, 'rate_limit_per_minute'],
    [{ rate_limit_per_minute: 1.5 }, 'rate_limit_per_minute'],
    [{ ordering: true }, 'ordering'],
    [{ ordering: { enabled: 'yes' } }, 'ordering.enabled'],
    [{ ordering: { key_path: '' } }, 'ordering.key_path'],
    [{ ordering: { key_path: '.a' } }, 'ordering.key_path'],
    [{ ordering: { key_path: 'a..b' } }, 'ordering.key_path'],
    [{ ordering: { key_path: 'a.' } }, 'ordering.key_path'],
    [{ ordering: { key_path: 'a\u0000' } }, 'ordering.key_path'],
    [{ ordering: { key_path: 'a\ud800' } }, 'ordering.key_path'],
    [{ ordering: { key_path: 'a'.repeat(201) } }, 'ordering.key_path'],
    [{ ordering: { on_dead: 'stop' } }, 'ordering.on_dead'],
    [{ ordering: { key: 'a' } }, 'ordering.key'],
    [{ compression: 'br' }, 'compression'],
    [{ batching: { max_events: 0 } }, 'batching.max_events'],
    [{ batching: { max_events: 101 } }, 'batching.max_events'],
    [{ batching: { max_wait_ms: -1 } }, 'batching.max_wait_ms'],
    [{ batching: { max_wait_ms: 60_001 } }, 'batching.max_wait_ms'],
    [{ batching: { max_bytes: 1_023 } }, 'batching.max_bytes'],
    [{ batching: { size: 1 } }, 'batching.size'],
    [{ batching: { enabled: true }, http_method: 'GET' }, 'batching.enabled'],
    [{ circuit_breaker: { failure_rate: 0 } }, 'circuit_breaker.failure_rate'],
    [{ circuit_breaker: { failure_rate: 1.01 } }, 'circuit_breaker.failure_rate'],
    [{ circuit_breaker: { minimum_requests: 0 } }, 'circuit_breaker.minimum_requests'],
    [{ circuit_breaker: { minimum_requests: 10_001 } }, 'circuit_breaker.minimum_requests'],
    [{ circuit_breaker: { window_seconds: 4 } }, 'circuit_breaker.window_seconds'],
    [{ circuit_breaker: { window_seconds: 3_601 } }, 'circuit_breaker.window_seconds'],
    [{ circuit_breaker: { open_seconds: 0 } }, 'circuit_breaker.open_seconds'],
    [{ circuit_breaker: { threshold: 1 } }, 'circuit_breaker.threshold'],
    [{ failover_url: '' }, 'failover_url'],
    [{ failover_url: 'http://hooks.example.com/' }, 'failover_url'],
    [{ failover_url: 'https://169.254.169.254/' }, 'failover_url'],
    [{ failover_url: 'https://HOOKS.example.com:443/crm' }, 'failover_url'],
    [{ ip_whitelist: '1.2.3.4' }, 'ip_whitelist'],
    [{ ip_whitelist: ['1.2.3.4', 'example.com'] }, 'ip_whitelist.1'],
    [{ ip_whitelist: ['1.2.3.4/33'] }, 'ip_whitelist.0'],
    [{ ip_whitelist: ['1.2.3'] }, 'ip_whitelist.0'],
    [{ ip_whitelist: ['fe80::1%eth0'] }, 'ip_whitelist.0'],
    [{ ip_whitelist: [''] }, 'ip_whitelist.0'],
    [{ ip_whitelist: Array.from({ length: 101 }, () => '1.2.3.4') }, 'ip_whitelist'],
    [{ url: 'https://8.8.8.8/', ip_whitelist: ['8.8.4.0/24'] }, 'ip_whitelist'],
    [{ failover_url: 'https://[2606:4700::1]/', ip_whitelist: ['2606:4701::/32'] }, 'ip_whitelist'],
    [{ circuit_state: 'closed' }, 'circuit_state'],
    [{ priority: 101 }, 'priority'],
    [{ verify_tls: 'no' }, 'verify_tls'],
    [{ id: 'whk_1' }, 'id'],
    [{ surprise: 1 }, 'surprise'],
    [{ constructor: 1 }, 'constructor'],
  ])('refuses %j with 422 and names the field', async (fields, path) => {
    const answer = await api.call(scope, 'POST', '', { ...minimal, ...fields });
    expect(answer.status, JSON.stringify(answer.body)).toBe(422);
    const paths = answer.body.error.details.fields.map((field: { path: string }) => field.path);
    expect(paths).toContain(path);
  });

  it('refuses events that the environment does not know, with the near ones, and takes patterns that match', async () => {
    const strict = await api.addEnvironment({ preset: 'call-center', allowUnknown: false });
    const answer = await api.call(strict, 'POST', '', {
      ...minimal,
      events: ['lead.created', 'lead.craeted', 'leed.*'],
    });
    expect(answer.status).toBe(422);
    expect(answer.body.error.details.fields).toEqual([
      { path: 'events.1', message: expect.stringContaining('lead.created') },
      { path: 'events.2', message: expect.stringContaining('matches no event type') },
    ]);
    const { id } = await create({ events: ['lead.*', '*', 'call.ended', 'lead.*'] }, strict);
    expect((await api.call(strict, 'GET', `/${id}`)).body.events).toEqual(['lead.*', '*', 'call.ended']);
    expect((await api.call(strict, 'PATCH', `/${id}`, { events: ['call.endet'] })).status).toBe(422);
    for (const bad of ['**', 'lead.*.x', '.', 'lead.', '*.created', 'a b', 'lead.created\r\n']) {
      expect((await api.call(scope, 'POST', '', { ...minimal, events: [bad] })).status, bad).toBe(422);
    }
  });

  it('keeps members of metadata that are called like prototype properties', async () => {
    const metadata = JSON.parse('{"__proto__": {"a": 1}, "constructor": "x", "toString": [1]}');
    const { id } = await create({ metadata });
    const shown = (await api.call(scope, 'GET', `/${id}`)).body.metadata;
    const sorted = (value: object) => JSON.stringify(Object.entries(value).sort());
    expect(sorted(shown)).toBe(sorted(metadata));
  });

  it('refuses the one beyond 10,000 in an environment, and counts environments apart', async () => {
    const full = await api.addEnvironment();
    await api.handle.pool.query(
      `INSERT INTO webhooks (tenant_id, id, environment_id, name, url, events, status, http_method, created_at, updated_at)
       SELECT $1, gen_random_uuid(), $2, 'n', 'https://e.example', '{*}', 'active', 'POST', now(), now()
       FROM generate_series(1, 9999)`,
      [full.tenantId, full.environmentId],
    );
    const answers = await Promise.all([1, 2, 3].map(() => api.call(full, 'POST', '', minimal)));
    expect(answers.map((answer) => answer.status).sort()).toEqual([201, 409, 409]);
    expect(answers.find((answer) => answer.status === 409)?.body.error.code).toBe('too_many_webhooks');
    expect((await api.call(scope, 'POST', '', minimal)).status).toBe(201);
  });
});

describe('changing a webhook', () => {
  it.each(['PUT', 'PATCH'] as const)('merges on %s: absent leaves, null brings the default back', async (method) => {
    const { id } = await create({
      description: 'd',
      owner: 'o',
      metadata: { a: 1, b: 2 },
      http_method: 'PUT',
      headers: { 'X-A': '1', 'X-B': '2' },
      signature: { method: 'hmac_sha1', header: 'X-Sig' },
      retry_policy: { max_attempts: 3, initial_delay_seconds: 7 },
      timeout_seconds: 5,
      max_concurrency: 2,
      rate_limit_per_minute: 90,
      ordering: { enabled: true, key_path: 'customer.id' },
      circuit_breaker: { failure_rate: 0.25, open_seconds: 5 },
      failover_url: 'https://standby.example.com/crm',
      ip_whitelist: ['203.0.113.9', '203.0.113.77/24'],
      priority: 3,
      verify_tls: false,
      envelope: 'raw',
      preset: 'call-center',
    });
    api.clock.advance(1000);
    const first = await api.call(scope, method, `/${id}`, {
      metadata: { b: null, c: 3 },
      headers: { 'x-b': 'new', 'X-C': '3', 'X-A': null },
      signature: { method: 'hmac_sha256' },
      retry_policy: { initial_delay_seconds: null, jitter: 0.5 },
      ordering: { key_path: null, on_dead: 'park' },
      circuit_breaker: { failure_rate: null, window_seconds: 10 },
    });
    expect(first.status).toBe(200);
    expect(first.body).toMatchObject({
      name: 'CRM',
      description: 'd',
      metadata: { a: 1, c: 3 },
      headers: { 'x-b': 'new', 'X-C': '3' },
      signature: { method: 'hmac_sha256', header: 'X-Sig' },
      retry_policy: { max_attempts: 3, initial_delay_seconds: 1, jitter: 0.5 },
      timeout_seconds: 5,
      rate_limit_per_minute: 90,
      ordering: { enabled: true, key_path: null, on_dead: 'park' },
      circuit_breaker: { enabled: true, failure_rate: 0.5, window_seconds: 10, open_seconds: 5 },
      failover_url: 'https://standby.example.com/crm',
      ip_whitelist: ['203.0.113.9/32', '203.0.113.0/24'],
      priority: 3,
    });
    expect(Object.keys(first.body.metadata)).toEqual(['a', 'c']);
    expect(Object.keys(first.body.headers)).toEqual(['x-b', 'X-C']);
    expect(Date.parse(first.body.updated_at)).toBe(Date.parse(first.body.created_at) + 1000);

    const cleared = await api.call(scope, method, `/${id}`, {
      description: null,
      owner: null,
      metadata: null,
      http_method: null,
      headers: null,
      signature: null,
      retry_policy: null,
      timeout_seconds: null,
      max_concurrency: null,
      rate_limit_per_minute: null,
      ordering: null,
      circuit_breaker: null,
      failover_url: null,
      ip_whitelist: null,
      priority: null,
      verify_tls: null,
      envelope: null,
      preset: null,
    });
    const { secret, ...blank } = await create();
    const unchanged = { id, created_at: first.body.created_at };
    expect(cleared.body).toEqual({ ...blank, ...unchanged, updated_at: cleared.body.updated_at });
  });

  it('refuses null for what a webhook cannot be without', async () => {
    const { id } = await create();
    for (const field of ['name', 'url', 'events', 'secret']) {
      const answer = await api.call(scope, 'PATCH', `/${id}`, { [field]: null });
      expect([field, answer.status]).toEqual([field, 422]);
    }
  });

  it('changes nothing when one of the fields is wrong', async () => {
    const { id, secret, ...before } = await create({ headers: { 'X-A': '1' } });
    for (const wrong of [{ url: 'https://127.1.1.1.:25/' }, { headers: { 'X-B': '2', Host: 'x' } }, { unknown: 1 }]) {
      const answer = await api.call(scope, 'PATCH', `/${id}`, { name: 'new', ...wrong });
      expect(answer.status).toBe(422);
    }
    expect((await api.call(scope, 'GET', `/${id}`)).body).toEqual({ id, ...before });
  });

  it('lets two changes of different fields at once both count', async () => {
    const { id } = await create();
    const changes = [{ metadata: { a: 1 } }, { metadata: { b: 2 } }, { priority: 5 }, { headers: { 'X-A': '1' } }];
    await Promise.all(changes.map((change) => api.call(scope, 'PATCH', `/${id}`, change)));
    const { body } = await api.call(scope, 'GET', `/${id}`);
    expect(body).toMatchObject({ metadata: { a: 1, b: 2 }, priority: 5, headers: { 'X-A': '1' } });
  });

  it('keeps the retry schedule of a preset until the webhook says how delays are computed', async () => {
    const { id, retry_policy } = await create({ retry_count: 2 });
    expect(retry_policy).toMatchObject({
      max_attempts: 3,
      schedule_seconds: [5, 300, 1800, 7200, 18000, 36000, 36000],
    });
    const computed = await api.call(scope, 'PATCH', `/${id}`, { retry_policy: { strategy: 'linear' } });
    expect(computed.body.retry_policy).toMatchObject({ strategy: 'linear', schedule_seconds: null, max_attempts: 3 });
    const own = await create({ retry_policy: { schedule_seconds: [1, 2] } });
    expect(own.retry_policy).toMatchObject({ schedule_seconds: [1, 2], max_attempts: 3 });
  });

  it('compares URLs and addresses with what stays of the webhook, not only with what the request says', async () => {
    const { id } = await create({ url: 'https://8.8.8.8/a', failover_url: 'https://standby.example.com/' });
    for (const [change, path] of [
      [{ failover_url: 'https://8.8.8.8/a' }, 'failover_url'],
      [{ url: 'https://standby.example.com' }, 'failover_url'],
      [{ ip_whitelist: ['8.8.4.4'] }, 'ip_whitelist'],
    ] as const) {
      const { status, body } = await api.call(scope, 'PATCH', `/${id}`, change);
      expect([status, body.error.details.fields[0].path]).toEqual([422, path]);
    }
    expect((await api.call(scope, 'PATCH', `/${id}`, { ip_whitelist: ['8.8.0.0/16'] })).status).toBe(200);
    expect((await api.call(scope, 'PATCH', `/${id}`, { url: 'https://9.9.9.9/' })).status).toBe(422);
    const opened = await api.call(scope, 'PATCH', `/${id}`, { url: 'https://9.9.9.9/', ip_whitelist: [] });
    expect(opened.body).toMatchObject({ url: 'https://9.9.9.9/', ip_whitelist: null });
  });
});

describe('the circuit of a webhook', () => {
  it('is shown while it is not closed, and closed once the breaker is off', async () => {
    const { id } = await create();
    const other = await create();
    await api.handle.pool.query(
      `INSERT INTO circuits (tenant_id, environment_id, webhook_id, state, opened_at, reopens_at, reason)
       VALUES ($1, $2, $3, 'open', '2030-01-15T12:00:00Z', '2030-01-15T12:00:30Z', 'failure_rate')`,
      [scope.tenantId, scope.environmentId, parseId('webhook', id)],
    );
    const circuit = async (webhook = id) => {
      const { body } = await api.call(scope, 'GET', `/${webhook}`);
      return [body.circuit_state, body.circuit_reopens_at];
    };
    expect(await circuit()).toEqual(['open', '2030-01-15T12:00:30.000Z']);
    expect(await circuit(other.id)).toEqual(['closed', null]);
    await api.handle.pool.query(`UPDATE circuits SET state = 'half_open'`);
    expect(await circuit()).toEqual(['half_open', null]);
    await api.call(scope, 'PATCH', `/${id}`, { circuit_breaker: { enabled: false } });
    expect(await circuit()).toEqual(['closed', null]);
  });
});
