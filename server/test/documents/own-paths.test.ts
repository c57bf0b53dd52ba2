import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { signToken } from '../../src/access/jwt/token-fixture.ts';
import { eventually } from '../../src/testing/eventually.ts';
import { type Answer, startTestPosthorn, type TestPosthorn } from '../../src/testing/posthorn.ts';
import { type Receiver, startReceiver } from '../../src/testing/receiver.ts';
import { type DocumentTenant, openTenant } from './document-tenant.ts';
import { hasCurl, hasPython, pythonClaims, pythonValue, pythonVerdicts, runCurl } from './printed-code.ts';

/** The paths that the requirement documents print, beside the canonical ones that answer there. */
let posthorn: TestPosthorn;
let receiver: Receiver;
beforeAll(async () => {
  posthorn = await startTestPosthorn();
});
afterAll(() => posthorn.stop());
let tenant: DocumentTenant;
let slug: string;
let count = 0;
beforeEach(async () => {
  receiver = await startReceiver();
  count += 1;
  slug = `paths-${count}`;
  return () => receiver.stop();
});

const COMMUNICATIONS = '/api/communications/webhooks';

async function succeed(answer: Promise<Answer>): Promise<Answer['body']> {
  const { status, text, body } = await answer;
  expect(status, text).toBeLessThan(300);
  return body;
}

/** Statistics are of a time that ends when they are asked for. */
const withoutNow = (text: string) => text.replace(/"(since|until)":"[^"]*"/g, '"$1":"now"');

const namesIn = ({ data }: Answer['body']) => data.map(({ name }: { name: string }) => name);

describe('isp-communications.md', () => {
  beforeEach(async () => {
    tenant = await openTenant(posthorn, slug, 'isp-communications');
  });

  const create = (fields: object = {}): Promise<Answer['body']> => {
    const all = { name: 'Hook', url: receiver.url, events: ['message.created'], ...fields };
    return succeed(tenant.call('POST', `${COMMUNICATIONS}/`, all));
  };

  test.runIf(hasCurl)('the printed curl command registers a webhook, which gets its events', async () => {
    const webhook = await runCurl('isp-communications.register.sh', COMMUNICATIONS, {
      'https://api.example.com': posthorn.url,
      YOUR_ACCESS_TOKEN: tenant.key,
      'https://portal.example.com/webhooks/isp': `${receiver.url}/webhooks/isp`,
    });
    expect(webhook).toMatchObject({
      id: expect.stringMatching(/^whk_/),
      name: 'Customer Portal Webhook',
      url: `${receiver.url}/webhooks/isp`,
      events: ['message.created', 'notification.created'],
      is_active: true,
      secret: 'your_webhook_secret',
      headers: { 'X-Custom-Header': 'Custom Value' },
      description: 'Webhook for the customer portal',
    });
    await tenant.publish({ event_type: 'notification.created', data: { title: 'Hello' } });
    const [request] = await receiver.received(1);
    expect(request?.path).toBe('/webhooks/isp');
    expect(request?.headers).toMatchObject({ 'x-custom-header': 'Custom Value' });
  });

  test('every printed path answers, with and without a slash at its end', async () => {
    const { id, name, url } = await create();
    for (const slash of ['', '/']) {
      const call = (method: string, path: string, body?: unknown) =>
        succeed(tenant.call(method, `${COMMUNICATIONS}${path}${slash}`, body));
      expect((await call('GET', '')).data).toMatchObject([{ id }]);
      expect(await call('GET', `/${id}`)).toMatchObject({ id, name, url });
      const change = { name: 'Updated Webhook Name', is_active: false };
      expect(await call('PUT', `/${id}`, change)).toMatchObject({ ...change, id, url });
      await call('PUT', `/${id}`, { name, is_active: true });
      expect(await call('POST', `/${id}/test`)).toMatchObject({ is_success: true });
      expect((await call('GET', `/${id}/logs`)).data[0]).toMatchObject({ is_success: true, response_status: 200 });
      const other = await create({ name: 'Other' });
      await call('DELETE', `/${other.id}`);
      expect((await tenant.call('GET', `${COMMUNICATIONS}/${other.id}${slash}`)).status).toBe(404);
    }
    expect(receiver.requests).toHaveLength(2);
  });

  test('answers are those of the canonical paths', async () => {
    const { id } = await create();
    await succeed(tenant.call('POST', `${COMMUNICATIONS}/${id}/test`));
    // A period that ends now would be another one each time.
    const stats = `/${id}/stats?since=2026-01-01T00:00:00Z&until=2026-01-02T00:00:00Z`;
    for (const path of ['', `/${id}`, `/${id}/logs`, stats, `/${id}/deliveries`, '/deliveries', '/events']) {
      const own = await tenant.call('GET', COMMUNICATIONS + path);
      expect(own.status, path).toBe(200);
      const canonical = await tenant.call('GET', `/api/v1/webhooks${path}`);
      expect(withoutNow(own.text), path).toEqual(withoutNow(canonical.text));
    }
  });

  test('the list is paged by `skip` and `limit`, 100 at once unless it is said, and by `cursor`', async () => {
    const names = Array.from({ length: 103 }, (_, at) => `Hook ${at}`);
    for (const name of names) await create({ name });
    const newestFirst = names.toReversed();
    const list = (query: string) => succeed(tenant.call('GET', `${COMMUNICATIONS}/?${query}`));
    const first = await list('');
    expect(namesIn(first)).toEqual(newestFirst.slice(0, 100));
    expect(first.has_more).toBe(true);
    expect(namesIn(await list('skip=100'))).toEqual(newestFirst.slice(100));
    expect(await list('skip=101&limit=2')).toMatchObject({ has_more: false, next_cursor: null });
    expect(namesIn(await list('skip=5&limit=3'))).toEqual(newestFirst.slice(5, 8));
    expect(namesIn(await list(`cursor=${first.next_cursor}&skip=1`))).toEqual(newestFirst.slice(101));
    expect(namesIn(await list('skip=103'))).toEqual([]);
    for (const query of ['skip=-1', 'skip=a', 'skip=10001', 'limit=0', 'limit=251']) {
      expect((await tenant.call('GET', `${COMMUNICATIONS}/?${query}`)).status, query).toBe(422);
    }
    // Elsewhere it is a parameter like any that is not known.
    const canonical = await succeed(tenant.call('GET', '/api/v1/webhooks?skip=5&limit=3'));
    expect(namesIn(canonical)).toEqual(newestFirst.slice(0, 3));
  });

  test('`event` and `active_only` filter the list', async () => {
    await create({ name: 'exact' });
    await create({ name: 'prefix', events: ['message.*'] });
    await create({ name: 'other', events: ['ticket.created'] });
    await create({ name: 'off', is_active: false });
    const list = async (query: string) => namesIn(await succeed(tenant.call('GET', `${COMMUNICATIONS}/?${query}`)));
    expect(await list('event=message.created')).toEqual(['off', 'prefix', 'exact']);
    expect(await list('event=message.created&active_only=true')).toEqual(['prefix', 'exact']);
    expect(await list('active_only=true&skip=1')).toEqual(['prefix', 'exact']);
    // As clients of the document's system may write it, and nothing else.
    for (const yes of ['True', 'TRUE', '1', 'yes', 'on', 't', 'Y']) {
      expect(await list(`event=message.created&active_only=${yes}`), yes).toEqual(['prefix', 'exact']);
    }
    for (const no of ['False', 'FALSE', '0', 'no', 'Off', 'f', 'n']) {
      expect(await list(`event=message.created&active_only=${no}`), no).toEqual(['off', 'prefix', 'exact']);
    }
    for (const wrong of ['', '2', '01', 'maybe', 'true%20', 'True&active_only=False']) {
      expect((await tenant.call('GET', `${COMMUNICATIONS}/?active_only=${wrong}`)).status, wrong).toBe(422);
    }
  });

  test('logs are filtered by `success_only` and paged by `skip` and `limit`', async () => {
    const { id } = await create();
    for (const status of [200, 500, 201, 202]) {
      receiver.onRequest = (request) => request.respond(status);
      await succeed(tenant.call('POST', `${COMMUNICATIONS}/${id}/test`));
    }
    const logs = async (query: string) => {
      const { data } = await succeed(tenant.call('GET', `${COMMUNICATIONS}/${id}/logs?${query}`));
      return data.map(({ response_status }: { response_status: number }) => response_status);
    };
    expect(await logs('')).toEqual([202, 201, 500, 200]);
    expect(await logs('success_only=true')).toEqual([202, 201, 200]);
    expect(await logs('success_only=false')).toEqual([500]);
    expect(await logs('success_only=False')).toEqual([500]);
    expect(await logs('skip=1&limit=2')).toEqual([201, 500]);
    expect(await logs('skip=2&success_only=true')).toEqual([200]);
  });
});

describe('call-center.md', () => {
  beforeEach(async () => {
    tenant = await openTenant(posthorn, slug, 'call-center');
  });

  const create = (fields: object = {}): Promise<Answer['body']> => {
    const all = { name: 'Endpoint', url: receiver.url, events: ['lead.*'], ...fields };
    return succeed(tenant.call('POST', '/endpoints', all));
  };

  /** What the printed templates of the Python examples make of an event. */
  const TIME = '2025-08-05T18:00:00.000Z';
  const SHAPED: Record<string, object> = {
    'call-center.crm.py': { LastName: 'lead.converted' },
    'call-center.slack.py': {
      text: '🚨 Alert: system.error',
      attachments: [
        {
          color: 'danger',
          fields: [
            { title: 'Event', value: 'system.error', short: true },
            { title: 'Time', value: TIME, short: true },
          ],
        },
      ],
    },
    'call-center.analytics.py': {
      metric_type: 'call.ended',
      value: 1,
      timestamp: TIME,
      dimensions: { agent_id: 'agent_456', source: 'vocelio' },
    },
  };

  /** "Payload Transformation", as it is printed. */
  const PRINTED_TRANSFORMATION = {
    enabled: true,
    template: {
      crm_lead: {
        external_id: '{{ data.lead.id }}',
        contact_name: '{{ data.lead.name }}',
        email_address: '{{ data.lead.email }}',
        phone_number: '{{ data.lead.phone }}',
        lead_score: '{{ data.lead.score }}',
        assigned_rep: '{{ data.agent.name }}',
      },
      timestamp: '{{ timestamp }}',
      source: 'vocelio_ai_platform',
    },
  };

  const LEAD = { event_type: 'lead.created', payload: { lead: { id: 'test_123', name: 'Test Lead' } } };

  test.runIf(hasCurl)('the printed curl commands publish an event, and test the newest active endpoint', async () => {
    await create({ url: `${receiver.url}/older` });
    const { id } = await create({ url: `${receiver.url}/newest`, events: ['call.ended'] });
    await create({ url: `${receiver.url}/off`, events: ['agent.*'], is_active: false });
    const run = (about: string) =>
      runCurl('call-center.testing.sh', about, { 'http://localhost:8019': posthorn.url }, tenant.key);

    const published = await run('/events/publish');
    expect(published).toMatchObject({
      event_type: 'lead.created',
      status: 'accepted',
      deliveries: 1,
      duplicate: false,
    });
    const [delivered] = await receiver.received(1);
    expect(delivered?.path).toBe('/older');
    expect(JSON.parse(delivered?.body.toString() ?? '')).toMatchObject({
      event_type: 'lead.created',
      event_id: published.event_id,
      data: LEAD.payload,
    });

    const attempt = await run('/endpoints/test');
    expect(attempt).toMatchObject({ endpoint_id: id, trigger: 'test', is_success: true, event_type: 'call.ended' });
    const tested = receiver.requests.at(-1);
    expect(tested?.path).toBe('/newest');
    expect(JSON.parse(tested?.body.toString() ?? '').data).toEqual({ test: true, timestamp: '2025-08-05T18:00:00Z' });
  });

  test('endpoints are filtered by the event type that they get, under the name that the document has for it', async () => {
    await create({ name: 'leads' });
    await create({ name: 'calls', events: ['call.ended'] });
    const list = async (query: string) => namesIn(await succeed(tenant.call('GET', `/endpoints?${query}`)));
    for (const name of ['event_type', 'event']) expect(await list(`${name}=lead.created`)).toEqual(['leads']);
    expect((await tenant.call('GET', '/endpoints?event_type=lead.created&event=call.ended')).status).toBe(422);
  });

  test('POST /endpoints/test without a body sends a sample, and is 404 where no endpoint is active', async () => {
    expect((await tenant.call('POST', '/endpoints/test', {})).status).toBe(404);
    await create({ is_active: false });
    expect((await tenant.call('POST', '/endpoints/test')).status).toBe(404);
    await create({ events: ['call.ended'] });
    expect(await succeed(tenant.call('POST', '/endpoints/test'))).toMatchObject({ event_type: 'call.ended' });
    const { sample } = await succeed(tenant.call('GET', '/api/v1/webhooks/events/call.ended'));
    expect(JSON.parse(receiver.requests[0]?.body.toString() ?? '').data).toEqual(sample);
    for (const [body, status] of [
      ['[]', 422],
      ['{"a":', 400],
      [`{"a":${'['.repeat(64)}${']'.repeat(64)}}`, 422],
    ] as const) {
      expect((await tenant.call('POST', '/endpoints/test', body)).status, body).toBe(status);
    }
  });

  test('every printed path of endpoints answers in its words', async () => {
    const headers = { Authorization: 'Bearer sf_token_123', 'X-Source': 'Vocelio' };
    const created = await create({ custom_headers: headers, rate_limit_per_minute: 100 });
    const masked = { Authorization: '***', 'X-Source': 'Vocelio' };
    expect(created).toMatchObject({ custom_headers: masked, headers: masked, rate_limit_per_minute: 100 });
    const { id, secret: _, ...webhook } = created;
    expect(await succeed(tenant.call('GET', `/endpoints/${id}`))).toEqual({ id, ...webhook });
    expect((await succeed(tenant.call('GET', '/endpoints/'))).data).toEqual([{ id, ...webhook }]);
    const changed = await succeed(tenant.call('PUT', `/endpoints/${id}`, { custom_headers: { 'X-Source': null } }));
    expect(changed.custom_headers).toEqual({ Authorization: '***' });
    expect(await succeed(tenant.call('POST', `/endpoints/${id}/test`))).toMatchObject({ endpoint_id: id });
    expect((await succeed(tenant.call('GET', `/endpoints/${id}/logs`))).data).toMatchObject([{ endpoint_id: id }]);
    expect(await succeed(tenant.call('GET', `/endpoints/${id}/stats`))).toMatchObject({ endpoint_id: id });
    expect((await tenant.call('DELETE', `/endpoints/${id}`)).status).toBe(204);
    expect((await tenant.call('GET', `/endpoints/${id}`)).status).toBe(404);
    // The canonical paths keep to their own words.
    const { id: other } = await create({ custom_headers: headers });
    const canonical = await succeed(tenant.call('GET', `/api/v1/webhooks/${other}`));
    expect(canonical).toMatchObject({ headers: masked });
    expect(canonical).not.toHaveProperty('custom_headers');
  });

  test('PUT /endpoints/{id}/status stops an endpoint and lets it go on, and changes nothing else', async () => {
    const { id, secret: _, ...created } = await create();
    for (const [body, status] of [
      [{ status: 'paused' }, 'paused'],
      [{ status: 'inactive' }, 'disabled'],
      [{ status: 'active' }, 'active'],
      [{ is_active: false }, 'disabled'],
      [{ is_active: true }, 'active'],
      [{ status: 'disabled' }, 'disabled'],
    ] as const) {
      const shown = await succeed(tenant.call('PUT', `/endpoints/${id}/status`, body));
      expect(shown, JSON.stringify(body)).toMatchObject({ id, status, is_active: status === 'active' });
    }
    const shown = await succeed(tenant.call('GET', `/endpoints/${id}`));
    const status = { is_active: false, status: 'disabled', status_reason: 'manual' };
    expect(shown).toEqual({ ...created, id, ...status, updated_at: expect.any(String) });
    for (const body of [{}, { status: 'gone' }, { status: null }, { name: 'Other' }, { status: 'active', name: 'a' }]) {
      expect((await tenant.call('PUT', `/endpoints/${id}/status`, body)).status, JSON.stringify(body)).toBe(422);
    }
    const conflicting = await tenant.call('PUT', `/endpoints/${id}/status`, { status: 'inactive', is_active: true });
    expect(conflicting.body.error.details.fields).toMatchObject([{ path: 'is_active' }]);
    const [entry] = (await posthorn.call('GET', '/api/v1/audit', undefined, { 'x-tenant-id': slug })).body.data;
    expect(entry).toMatchObject({ action: 'webhook.updated', resource_id: id });
  });

  test('deliveries are listed and shown with their endpoint, and filtered by it', async () => {
    const first = await create();
    const second = await create();
    const event = await succeed(tenant.call('POST', '/events/publish', LEAD));
    for (const { id } of [first, second]) await tenant.delivery(event.id, id, 'delivered');
    const listed = (await succeed(tenant.call('GET', '/deliveries'))).data;
    expect(listed.map((row: Answer['body']) => [row.endpoint_id, row.webhook_id]).sort()).toEqual(
      [first, second].map(({ id }) => [id, id]).sort(),
    );
    for (const name of ['endpoint_id', 'webhook_id']) {
      const { data } = await succeed(tenant.call('GET', `/deliveries?${name}=${first.id}&status=delivered`));
      expect(data).toMatchObject([{ endpoint_id: first.id, event_id: event.id }]);
    }
    expect((await tenant.call('GET', `/deliveries?endpoint_id=${first.id}&webhook_id=${second.id}`)).status).toBe(422);
    expect((await tenant.call('GET', '/deliveries?endpoint_id=webhook_123')).status).toBe(422);
    const own = (await succeed(tenant.call('GET', `/endpoints/${first.id}/deliveries`))).data;
    expect(own).toMatchObject([{ endpoint_id: first.id }]);
    expect(await succeed(tenant.call('GET', `/deliveries/${own[0].id}`))).toMatchObject({
      endpoint_id: first.id,
      error: null,
      attempts: [{ endpoint_id: first.id, is_success: true }],
    });
  });

  test('trends are of one endpoint where it is asked for by the name that the document has for it', async () => {
    const { id } = await create();
    const { id: other } = await create({ events: ['call.ended'] });
    const event = await succeed(tenant.call('POST', '/events/publish', LEAD));
    await tenant.delivery(event.id, id, 'delivered');
    const asked = (query: string) => tenant.call('GET', `/analytics/trends?interval=minute&${query}`);
    const total = async (query: string) => {
      const { points } = await succeed(asked(query));
      return points.reduce((sum: number, { total_deliveries: each }: { total_deliveries: number }) => sum + each, 0);
    };
    const counted = (query: string) =>
      eventually(
        () => total(query),
        (count) => count === 1,
      );
    for (const query of ['', `endpoint_id=${id}`, `webhook_id=${id}`]) expect(await counted(query), query).toBe(1);
    expect(await total(`endpoint_id=${other}`)).toBe(0);
    expect((await asked(`endpoint_id=${id}&webhook_id=${other}`)).status).toBe(422);
  });

  test('a delivery that failed shows the printed error, and POST /deliveries/retry/{id} tries it again', async () => {
    receiver.onRequest = (request) => request.respond(500, {}, 'Internal Server Error');
    const retry_policy = { max_attempts: 2, schedule_seconds: [3600], jitter: 0 };
    const { id } = await create({ retry_policy });
    const event = await succeed(tenant.call('POST', '/events/publish', LEAD));
    const failed = await tenant.delivery(event.id, id, 'failed');
    const error = async () => (await succeed(tenant.call('GET', `/deliveries/${failed.id}`))).error;
    expect(await error()).toEqual({
      code: 'DELIVERY_FAILED',
      message: 'Webhook delivery failed after 1 attempt',
      details: {
        endpoint_id: id,
        last_attempt: expect.stringMatching(/^\d{4}-.*Z$/),
        last_status_code: 500,
        last_error: expect.stringContaining('500'),
      },
      retry_after: failed.next_attempt_at,
    });
    const retried = await tenant.call('POST', `/deliveries/retry/${failed.id}`);
    expect(retried.status).toBe(202);
    expect(retried.body).toMatchObject({ id: failed.id, endpoint_id: id });
    await tenant.delivery(event.id, id, 'dead');
    expect(await error()).toMatchObject({ message: 'Webhook delivery failed after 2 attempts', retry_after: null });
    receiver.onRequest = (request) => request.respond(200);
    await succeed(tenant.call('POST', `/deliveries/${failed.id}/retry`));
    await tenant.delivery(event.id, id, 'delivered');
    expect(await error()).toBeNull();
    expect((await tenant.call('POST', `/deliveries/retry/${failed.id}`)).body.error.code).toBe('already_delivered');
  });

  test.runIf(hasPython).each([
    ['call-center.crm.py', 'webhook_endpoint', 'lead.converted'],
    ['call-center.slack.py', 'slack_webhook', 'system.error'],
    ['call-center.analytics.py', 'analytics_webhook', 'call.ended'],
  ])(
    'the endpoint of %s is made as printed, and gets its events as its template says',
    async (name, variable, type) => {
      const fields = pythonValue(name, variable);
      const url = receiver.url + new URL(String(fields.url)).pathname;
      const { template } = fields.transformation as { template: unknown };
      const make = () => tenant.call('POST', '/endpoints', { ...fields, url });
      if (typeof template === 'string') {
        // It names a template, which has to be there.
        expect((await make()).status).toBe(422);
        await succeed(
          tenant.call('POST', '/templates', { name: template, template: { LastName: '{{ event_type }}' } }),
        );
      }
      const endpoint = await succeed(make());
      const { custom_headers, ...others } = fields;
      expect(endpoint).toMatchObject({ ...others, url });
      expect(Object.keys(endpoint.custom_headers)).toEqual(Object.keys(custom_headers ?? {}));
      const event = { event_type: type, payload: { agent: { id: 'agent_456' } }, timestamp: '2025-08-05T18:00:00Z' };
      await succeed(tenant.call('POST', '/events/publish', event));
      const [request] = await receiver.received(1);
      expect([request?.path, request?.headers['x-webhook-event']]).toEqual([new URL(url).pathname, type]);
      const sent = Object.entries(custom_headers ?? {}).map(([header, value]) => [header.toLowerCase(), value]);
      expect(request?.headers).toMatchObject(Object.fromEntries(sent));
      expect(JSON.parse(request?.body.toString() ?? '')).toEqual(SHAPED[name]);
      if (request !== undefined) expect(pythonVerdicts('call-center', endpoint.secret, [request])).toEqual([true]);
    },
  );

  test('every printed path of templates answers, and the printed template shapes what an endpoint gets', async () => {
    const made = await succeed(
      tenant.call('POST', '/templates', { name: 'crm', template: PRINTED_TRANSFORMATION.template }),
    );
    expect((await succeed(tenant.call('GET', '/templates'))).data).toMatchObject([{ id: made.id, name: 'crm' }]);
    expect(await succeed(tenant.call('GET', `/templates/${made.id}`))).toEqual(made);
    const { id } = await create({ transformation: PRINTED_TRANSFORMATION });
    const timestamp = '2025-08-05T17:30:00Z';
    const lead = { id: 'lead_123', name: 'John Doe', email: 'john.doe@example.com', phone: '+1-555-0123', score: 85 };
    const data = { lead, agent: { name: 'Sarah Johnson' } };
    const event = await succeed(
      tenant.call('POST', '/events/publish', { event_type: 'lead.created', payload: data, timestamp }),
    );
    await tenant.delivery(event.id, id, 'delivered');
    const shaped = {
      crm_lead: {
        external_id: 'lead_123',
        contact_name: 'John Doe',
        email_address: 'john.doe@example.com',
        phone_number: '+1-555-0123',
        lead_score: '85',
        assigned_rep: 'Sarah Johnson',
      },
      timestamp: '2025-08-05T17:30:00.000Z',
      source: 'vocelio_ai_platform',
    };
    expect(JSON.parse(receiver.requests[0]?.body.toString() ?? '')).toEqual(shaped);
    const trial = await succeed(tenant.call('POST', `/templates/${made.id}/test`, { sample: data }));
    expect(JSON.parse(trial.body)).toMatchObject({ crm_lead: shaped.crm_lead, source: shaped.source });
  });

  test('a template is tried on the printed payload, whole or its data, and says what it has to be tried on', async () => {
    const template = {
      id: '{{ data.lead.id }}',
      type: '{{ event_type }}',
      event: '{{ event_id }}',
      at: '{{ timestamp }}',
    };
    const { id } = await succeed(tenant.call('POST', '/templates', { name: 'tried', template }));
    const tried = async (body?: object) => tenant.call('POST', `/templates/${id}/test`, body);
    const bodyOf = async (body: object) => JSON.parse((await succeed(tried(body))).body);
    const data = { lead: { id: 'lead_123' } };
    const printed = {
      event_type: 'lead.created',
      event_id: 'evt_123456789',
      timestamp: '2025-08-05T17:30:00Z',
      data,
      metadata: { source_service: 'lead_management', version: '1.0', retry_count: 0 },
    };
    const at = '2025-08-05T17:30:00.000Z';
    const whole = { id: 'lead_123', type: 'lead.created', event: 'evt_123456789', at };
    expect(await bodyOf({ sample: printed })).toEqual(whole);
    expect(await bodyOf({ sample: printed, event_type: 'lead.lost' })).toEqual({ ...whole, type: 'lead.lost' });
    expect(await bodyOf({ sample: data })).toMatchObject({ id: 'lead_123', type: 'template.test', event: 'evt_test' });
    // With a member that no event has it is data that happens to have these names.
    for (const other of [
      { ...printed, lead: 1 },
      { ...printed, timestamp: 'now' },
      { ...printed, event_type: 1 },
    ]) {
      expect(await bodyOf({ sample: other })).toMatchObject({ id: '', event: 'evt_test' });
    }
    for (const body of [undefined, {}]) {
      const { fields } = (await tried(body)).body.error.details;
      expect(fields).toEqual([{ path: 'sample', message: 'must be given, or an event_type that has one' }]);
    }
  });

  test.runIf(hasPython)('the printed code reads an HS256 token with its secret and nothing else', () => {
    const claims = { sub: 'endpoint', exp: Math.floor(Date.now() / 1000) + 60 };
    const secret = 'a secret of the endpoint and Posthorn';
    expect(pythonClaims(signToken(claims, secret), secret)).toEqual(claims);
    expect(pythonClaims(signToken(claims, secret), `${secret}!`)).toBeNull();
    expect(pythonClaims('not.a.token', secret)).toBeNull();
  });

  test.runIf(hasPython)('the printed code reads the token of a delivery', async () => {
    const secret = 'a secret of the endpoint and Posthorn';
    const { id } = await create({ auth: { type: 'jwt', secret, claims: { iss: 'vocelio', team: 'Köln' } } });
    const event = await succeed(tenant.call('POST', '/events/publish', { event_type: 'lead.created', payload: {} }));
    await tenant.delivery(event.id, id, 'delivered');
    const token = String(receiver.requests[0]?.headers.authorization).replace('Bearer ', '');
    const claims = { iss: 'vocelio', team: 'Köln', iat: expect.any(Number), exp: expect.any(Number) };
    const read = pythonClaims(token, secret);
    expect(read).toMatchObject(claims);
    // The clock of a receiver may be half a minute behind: PyJWT refuses what was issued in the future.
    const { iat, exp } = read as { iat: number; exp: number };
    expect(iat).toBeLessThanOrEqual(Date.now() / 1000 - 30);
    expect(exp - iat).toBe(300);
    expect(pythonClaims(token, `${secret}!`)).toBeNull();
  });
});

test.each([
  ['/api/communications/webhooks', 'get post'],
  ['/api/communications/webhooks/{id}', 'get put delete'],
  ['/api/communications/webhooks/{id}/logs', 'get'],
  ['/api/communications/webhooks/{id}/test', 'post'],
  ['/api/v1/webhooks', 'get post'],
  ['/api/v1/webhooks/{id}', 'get put patch delete'],
  ['/api/v1/webhooks/{id}/test', 'post'],
  ['/api/v1/webhooks/{id}/deliveries', 'get'],
  ['/api/v1/webhooks/{id}/logs', 'get'],
  ['/api/v1/webhooks/{id}/stats', 'get'],
  ['/api/v1/webhooks/events', 'get'],
  ['/api/v1/webhooks/events/{type}', 'get'],
  ['/api/v1/webhooks/deliveries', 'get'],
  ['/endpoints', 'get post'],
  ['/endpoints/{id}', 'get put delete'],
  ['/endpoints/{id}/status', 'put'],
  ['/endpoints/{id}/test', 'post'],
  ['/deliveries', 'get'],
  ['/deliveries/{id}', 'get'],
  ['/deliveries/retry/{id}', 'post'],
  ['/events/publish', 'post'],
  ['/templates', 'get post'],
  ['/templates/{id}', 'get'],
  ['/templates/{id}/test', 'post'],
  ['/analytics/overview', 'get'],
  ['/analytics/trends', 'get'],
])('the reference that the program shows has %s with what it takes and answers', async (path, methods) => {
  const { body } = await posthorn.call('GET', '/openapi.json');
  for (const method of methods.split(' ')) {
    const operation = body.paths[path]?.[method];
    expect(operation?.summary, method).toMatch(/^[A-Z]/);
    expect(
      Object.keys(operation.responses).some((status) => status.startsWith('2')),
      method,
    ).toBe(true);
    const parameters = (operation.parameters ?? []).map(({ name }: { name: string }) => name);
    for (const [, name] of path.matchAll(/\{(\w+)\}/g)) expect(parameters).toContain(name);
  }
});

describe('the rules of the canonical paths hold', () => {
  beforeEach(async () => {
    tenant = await openTenant(posthorn, slug, 'call-center');
  });

  test('an Idempotency-Key is one request, on whichever path it comes first', async () => {
    const body = { name: 'Once', url: receiver.url, events: ['lead.*'] };
    const key = { 'idempotency-key': 'webhook-1' };
    const first = await tenant.call('POST', '/endpoints', body, key);
    const again = await tenant.call('POST', '/endpoints', body, key);
    expect([again.status, again.text]).toEqual([201, first.text]);
    expect(again.headers.get('idempotent-replayed')).toBe('true');
    expect((await tenant.call('POST', '/api/v1/webhooks', body, key)).body.error.code).toBe('idempotency_key_reused');
    expect((await succeed(tenant.call('GET', '/endpoints'))).data).toHaveLength(1);

    const event = { event_type: 'lead.created', payload: {} };
    const published = { 'idempotency-key': 'event-1' };
    const one = await succeed(tenant.call('POST', '/events/publish', event, published));
    const two = await succeed(tenant.call('POST', '/api/v1/events', event, published));
    expect(two).toEqual({ ...one, duplicate: true });
    await tenant.delivery(one.id, first.body.id, 'delivered');
    expect(receiver.requests).toHaveLength(1);
  });

  test('requests and events count against the limits of the tenant', async () => {
    const limits = { events_per_day: 1 };
    const limited = await posthorn.call('PATCH', `/api/v1/tenants/${slug}`, { limits });
    expect(limited.status, limited.text).toBe(200);
    const event = { event_type: 'lead.created', payload: {} };
    const answers = [
      await tenant.call('POST', '/events/publish', event),
      await tenant.call('POST', '/api/v1/events', event),
    ];
    expect(answers.map(({ status }) => status)).toEqual([202, 429]);
    expect(answers[1]?.headers.get('retry-after')).toMatch(/^\d+$/);
  });

  test('a suspended tenant is refused', async () => {
    const { id } = await succeed(tenant.call('POST', '/endpoints', { name: 'E', url: receiver.url, events: ['*'] }));
    await succeed(posthorn.call('POST', `/api/v1/tenants/${slug}/suspend`, { reason: 'unpaid' }));
    for (const [method, path, body] of [
      ['POST', '/events/publish', { event_type: 'lead.created', payload: {} }],
      ['POST', `/endpoints/${id}/test`, {}],
      ['POST', '/endpoints/test', {}],
      ['POST', `${COMMUNICATIONS}/${id}/test`, {}],
    ] as const) {
      const { status, body: answer } = await tenant.call(method, path, body);
      expect([path, status, answer.error.code]).toEqual([path, 403, 'tenant_suspended']);
    }
  });
});
