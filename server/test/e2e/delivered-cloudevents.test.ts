import { CloudEvent, HTTP } from 'cloudevents';
import type pg from 'pg';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type ProgramFixture, startProgram } from '../../src/delivery/recovery/program-fixture.ts';
import { eventually } from '../../src/testing/eventually.ts';
import type { ReceivedRequest } from '../../src/testing/receiver.ts';

let program: ProgramFixture;
let pool: pg.Pool;
beforeAll(async () => {
  program = await startProgram();
  pool = program.posthorn.database.openPool();
});
afterAll(async () => {
  await pool.end();
  await program.stop();
});

let headers: Record<string, string>;
let tenants = 0;
beforeEach(async () => {
  program.receiver.requests.length = 0;
  program.receiver.onRequest = (request) => request.respond(200);
  tenants += 1;
  headers = await program.addTenant(`delivered-${tenants}`);
});

const STRUCTURED = 'application/cloudevents+json';
const MODES = [['cloudevents'], ['cloudevents_binary']] as const;
const DATA = '{"total":12.50,"id":9007199254740993,"note":"Gr\\u00fc\\u00dfe"}';
const PUBLISHED = {
  specversion: '1.0',
  id: 'order-4711/"a%b',
  source: 'https://shop.example.com/orders?day=31#4711',
  type: 'order.paid',
  subject: 'Müller & Co\u{1f600} 100% "paid"',
  time: '2026-01-31T13:00:00.123456+01:00',
  datacontenttype: 'application/vnd.order+json; v=1',
  dataschema: 'https://shop.example.com/order.json',
  tenant: 'acme',
  attempt: -2,
  urgent: true,
};

/** As it stands, with the data as it is spelled. */
const bodyOf = (attributes: object, data = DATA) => `{"data":${data},${JSON.stringify(attributes).slice(1)}`;
const send = async (body: string, contentType = STRUCTURED, more: object = {}) => {
  const answer = await program.post('/events', body, { ...headers, 'content-type': contentType, ...more });
  expect([answer.status, answer.text]).toEqual([202, answer.text]);
  return answer.body;
};
const arrived = async (count = 1) => (await program.receiver.received(count))[count - 1] as ReceivedRequest;
const ceHeaders = (request: ReceivedRequest) =>
  Object.fromEntries(Object.entries(request.headers).filter(([name]) => name.startsWith('ce-')));
/** The attempts of the event's only delivery, once it is delivered. */
const attemptsOf = async (eventId: string, as = headers) => {
  const [delivery] = await eventually(
    async () => (await program.get(`/deliveries?event_id=${eventId}`, headers)).data,
    ([found]) => found?.status === 'delivered',
  );
  return (await program.get(`/deliveries/${delivery.id}`, as)).attempts;
};

describe('an event that was published as a CloudEvent', () => {
  test('is delivered as that in the structured mode, its data to the byte', async () => {
    await program.createWebhook({ envelope: 'cloudevents' }, headers);
    const { id } = await send(bodyOf(PUBLISHED));
    const request = await arrived();
    expect(request.headers).toMatchObject({ 'content-type': STRUCTURED, 'webhook-id': id });
    const event = HTTP.toEvent({ headers: request.headers, body: request.body.toString() }) as CloudEvent;
    expect(event.validate()).toBe(true);
    const { data, ...attributes } = JSON.parse(request.body.toString());
    expect(attributes).toEqual(PUBLISHED);
    expect(request.body.toString()).toContain(`"data":${DATA}}`);
    const [attempt] = await attemptsOf(id);
    expect(attempt.request_body).toBe(request.body.toString());
  });

  test('is delivered as that in the binary mode, percent-encoded as the HTTP binding says', async () => {
    await program.createWebhook({ envelope: 'cloudevents_binary', compression: 'gzip' }, headers);
    const { id } = await send(bodyOf(PUBLISHED));
    const request = await arrived();
    expect(ceHeaders(request)).toEqual({
      'ce-specversion': '1.0',
      'ce-id': 'order-4711/%22a%25b',
      'ce-source': 'https://shop.example.com/orders?day=31#4711',
      'ce-type': 'order.paid',
      'ce-subject': 'M%C3%BCller%20&%20Co%F0%9F%98%80%20100%25%20%22paid%22',
      'ce-time': '2026-01-31T13:00:00.123456+01:00',
      'ce-dataschema': 'https://shop.example.com/order.json',
      'ce-tenant': 'acme',
      'ce-attempt': '-2',
      'ce-urgent': 'true',
    });
    expect(request.headers['content-type']).toBe('application/vnd.order+json; v=1');
    const [attempt] = await attemptsOf(id);
    expect(attempt.request_headers).toMatchObject({
      ...ceHeaders(request),
      'content-type': 'application/vnd.order+json; v=1',
      'webhook-id': id,
    });
    expect(attempt.request_body).toBe(DATA);
  });

  test('is read by CloudEvents software in the binary mode', async () => {
    await program.createWebhook({ envelope: 'cloudevents_binary' }, headers);
    const { subject: _, datacontenttype, ...plain } = PUBLISHED;
    await send(bodyOf({ ...plain, id: 'order-4711', time: '2026-01-31T12:00:00.123Z' }));
    const { headers: sent, body } = await arrived();
    const event = HTTP.toEvent({ headers: sent, body: body.toString() }) as CloudEvent;
    expect(event.validate()).toBe(true);
    expect(event).toMatchObject({
      id: 'order-4711',
      source: PUBLISHED.source,
      time: '2026-01-31T12:00:00.123Z',
      dataschema: PUBLISHED.dataschema,
      tenant: 'acme',
      data: { total: 12.5, note: 'Grüße' },
    });
  });

  test.each(MODES)('can be published again as it was received as %s, and is the same event', async (envelope) => {
    await program.createWebhook({ envelope }, headers);
    const { id } = await send(bodyOf(PUBLISHED));
    const request = await arrived();
    const contentType = String(request.headers['content-type']);
    const again = await send(request.body.toString(), contentType, ceHeaders(request));
    expect(again).toMatchObject({ id, event_id: PUBLISHED.id, duplicate: true });
    headers = await program.addTenant(`again-${tenants}`);
    await program.createWebhook({ envelope }, headers);
    await send(request.body.toString(), contentType, ceHeaders(request));
    const other = await arrived(2);
    expect(other.body).toEqual(request.body);
    expect([ceHeaders(other), other.headers['content-type']]).toEqual([ceHeaders(request), contentType]);
  });

  test('from the binary mode is delivered with its headers', async () => {
    await program.createWebhook({ envelope: 'cloudevents' }, headers);
    const event = new CloudEvent({ id: 'B-1', source: '/orders', type: 'order.paid', tenant: 'acme', data: { n: 1 } });
    const message = HTTP.binary(event);
    await send(String(message.body), String(message.headers['content-type']), message.headers);
    expect(JSON.parse((await arrived()).body.toString())).toEqual({
      ...{ specversion: '1.0', id: 'B-1', source: '/orders', type: 'order.paid', tenant: 'acme', time: event.time },
      ...{ datacontenttype: 'application/json', data: { n: 1 } },
    });
  });

  test('stands in a batch beside others as it was published', async () => {
    const batching = { enabled: true, max_events: 3, max_wait_ms: 5_000 };
    await program.createWebhook({ envelope: 'cloudevents_binary', batching }, headers);
    const { id } = await send(bodyOf(PUBLISHED));
    const plain = await program.publish({ event_id: 'mine', metadata: { source: '/plain' } }, headers);
    await send(bodyOf({ ...PUBLISHED, id: 'A-2', source: '/other' }));
    const request = await arrived();
    expect(request.headers['content-type']).toBe('application/cloudevents-batch+json');
    const events = HTTP.toEvent({ headers: request.headers, body: request.body.toString() }) as CloudEvent[];
    expect(events.map((event) => event.validate())).toEqual([true, true, true]);
    const batch = JSON.parse(request.body.toString());
    expect(batch[0]).toMatchObject(PUBLISHED);
    expect([batch[1].id, batch[1].source, batch[1].subject]).toEqual([plain, 'posthorn', undefined]);
    expect(batch[2]).toMatchObject({ ...PUBLISHED, id: 'A-2', source: '/other' });
    const [attempt] = await attemptsOf(id);
    expect(JSON.parse(attempt.request_body)).toEqual(batch[0]);
    expect(ceHeaders({ headers: attempt.request_headers } as ReceivedRequest)).toEqual({});
  });

  test.each(MODES)('is the same on each attempt and replay as %s', async (envelope) => {
    program.receiver.onRequest = (request) => request.respond(program.receiver.requests.length === 1 ? 500 : 200);
    const retry_policy = { max_attempts: 2, schedule_seconds: [0] };
    await program.createWebhook({ envelope, retry_count: undefined, retry_policy }, headers);
    const { id } = await send(bodyOf(PUBLISHED));
    await attemptsOf(id);
    expect((await program.post(`/events/${id}/replay`, {}, headers)).status).toBe(202);
    await program.receiver.received(3);
    const { requests } = program.receiver;
    expect(requests.map(({ body }) => body.toString())).toEqual(Array(3).fill(requests[0]?.body.toString()));
    expect(requests.map(ceHeaders)).toEqual(Array(3).fill(ceHeaders(requests[0] as ReceivedRequest)));
    expect(requests.map((each) => each.headers['content-type'])).toEqual(
      Array(3).fill(envelope === 'cloudevents' ? STRUCTURED : PUBLISHED.datacontenttype),
    );
  });

  test.each(MODES)('without a time has that of its publishing as %s, and application/json', async (envelope) => {
    await program.createWebhook({ envelope }, headers);
    const { id } = await send('{"specversion":"1.0","id":"A-1","source":"/orders","type":"order.paid"}');
    const { timestamp } = await program.get(`/events/${id}`, headers);
    const { headers: sent, body } = await arrived();
    const { time, source } = HTTP.toEvent({ headers: sent, body: body.toString() }) as CloudEvent;
    expect([time, source]).toEqual([timestamp, '/orders']);
    expect(body.toString()).toMatch(envelope === 'cloudevents' ? /,"data":null}$/ : /^null$/);
    expect(sent['content-type']).toBe(envelope === 'cloudevents' ? STRUCTURED : 'application/json');
  });
});

describe('a plain publish', () => {
  test.each(MODES)('whose metadata is that of a CloudEvent is delivered as one as %s', async (envelope) => {
    await program.createWebhook({ envelope }, headers);
    const metadata = { tenant: 'acme', source: '/orders', specversion: '1.0' };
    const fields = { event_id: 'A-1', ordering_key: 'k', timestamp: '2026-01-31T12:00:00Z', metadata };
    await program.publish(fields, headers);
    const { headers: sent, body } = await arrived();
    const event = HTTP.toEvent({ headers: sent, body: body.toString() }) as CloudEvent;
    expect(event.validate()).toBe(true);
    const time = '2026-01-31T12:00:00.000Z';
    expect(event).toMatchObject({ id: 'A-1', source: '/orders', tenant: 'acme', time, data: { n: 1 } });
  });

  test.each<[string, object]>([
    ['no specversion', { source: '/orders', subject: 'x' }],
    ['another version', { specversion: '0.3', source: '/orders' }],
    ['no source', { specversion: '1.0', subject: 'x' }],
    ['a source that is no URI', { specversion: '1.0', source: 'of mine' }],
    ['a line break', { specversion: '1.0', source: '/orders', subject: 'x\r\nwebhook-signature: v1,forged' }],
    ['a media type with a line break', { specversion: '1.0', source: '/o', datacontenttype: 'a/json;a="\r\nx: y"' }],
    ['a media type that is not JSON', { specversion: '1.0', source: '/orders', datacontenttype: 'text/html' }],
    ['half a character', { specversion: '1.0', source: '/orders', subject: '\ud83d' }],
    ['a name with a dash', { specversion: '1.0', source: '/orders', 'x-webhook-attempt': '7' }],
    ['an id of its own', { specversion: '1.0', source: '/orders', id: 'other' }],
    ['a type of its own', { specversion: '1.0', source: '/orders', type: 'other.type' }],
    ['data of its own', { specversion: '1.0', source: '/orders', data: 'other' }],
    ['an object', { specversion: '1.0', source: '/orders', trace: {} }],
  ])('whose metadata has %s is one of posthorn', async (_name, metadata) => {
    await program.createWebhook({ envelope: 'cloudevents_binary' }, headers);
    await program.createWebhook({ envelope: 'cloudevents' }, headers);
    const id = await program.publish({ event_id: 'A-1', metadata }, headers);
    const requests = await program.receiver.received(2);
    const binary = requests.find((request) => request.headers['ce-id'] !== undefined) as ReceivedRequest;
    const structured = requests.find((request) => request !== binary) as ReceivedRequest;
    const { timestamp: time } = await program.get(`/events/${id}`, headers);
    const own = { specversion: '1.0', id, source: 'posthorn', type: 'order.paid', time };
    expect(ceHeaders(binary)).toEqual(
      Object.fromEntries(Object.entries(own).map(([name, value]) => [`ce-${name}`, value])),
    );
    expect(binary.headers).toMatchObject({ 'content-type': 'application/json', 'x-webhook-attempt': '1' });
    expect(JSON.parse(structured.body.toString())).toEqual({
      ...own,
      datacontenttype: 'application/json',
      data: { n: 1 },
    });
  });

  test('has its own time where the metadata has another', async () => {
    await program.createWebhook({ envelope: 'cloudevents' }, headers);
    for (const time of ['2026-01-31T12:00:00.0000001Z', '2026-01-31T12:00:01Z', 'Jan 31 2026 12:00:00 UTC', 7]) {
      const metadata = { specversion: '1.0', source: '/orders', time };
      await program.publish({ timestamp: '2026-01-31T12:00:00Z', metadata }, headers);
    }
    const requests = await program.receiver.received(4);
    const times = requests.map(({ body }) => JSON.parse(body.toString()).time).sort();
    expect(times).toEqual([...Array(3).fill('2026-01-31T12:00:00.000Z'), '2026-01-31T12:00:00.0000001Z'].sort());
  });
});

describe('what a webhook has of its own', () => {
  test('is not sent where the event has an attribute of that name, and its delivery goes on', async () => {
    const template = "(event) => ({ headers: { 'CE-Tenant': 'forged', 'ce-id': 'forged', 'ce-own': 'made' } })";
    await program.createWebhook(
      {
        envelope: 'cloudevents_binary',
        headers: { 'Ce-Urgent': 'no' },
        transformation: { template, language: 'javascript' },
      },
      headers,
    );
    await send(bodyOf(PUBLISHED));
    expect((await arrived()).headers).toMatchObject({
      'ce-tenant': 'acme',
      'ce-id': 'order-4711/%22a%25b',
      'ce-urgent': 'true',
      'ce-own': 'made',
    });
  });

  test('cannot be a credential in a header that publishers fill', async () => {
    const auth = { type: 'api_key', header: 'CE-Key', value: 'secret-value' };
    const fields = { name: 'W', url: program.receiver.url, events: ['*'], auth };
    const refused = await program.post('/webhooks', { ...fields, envelope: 'cloudevents_binary' }, headers);
    expect([refused.status, refused.body.error.details.fields[0].path]).toEqual([422, 'auth.header']);
    const { id } = await program.createWebhook({ auth }, headers);
    const later = await program.posthorn.call(
      'PATCH',
      `/api/v1/webhooks/${id}`,
      { envelope: 'cloudevents_binary' },
      headers,
    );
    expect([later.status, later.body.error.details.fields[0].path]).toEqual([422, 'auth.header']);
  });
});

describe('what an attribute says of a person', () => {
  const personal = {
    ...{ specversion: '1.0', id: 'A-1', source: '/orders', type: 'order.paid' },
    ...{ subject: 'Möhring, Grace', contact: 'call +49 170 1234567', iban: 'DE02 1203 0000' },
  };

  test.each(MODES)('is masked where an attempt is shown as %s', async (envelope) => {
    const masking = { paths: ['subject'], detectors: ['phone'], names: ['iban'] };
    await program.posthorn.call('PATCH', `/api/v1/tenants/delivered-${tenants}`, { settings: { masking } });
    await program.createWebhook({ envelope }, headers);
    const { id } = await send(bodyOf(personal));
    await arrived();
    const viewer = await program.keyOf('viewer', headers);
    const [attempt] = await attemptsOf(id, viewer);
    const shown = JSON.stringify(attempt);
    for (const secret of ['hring', '1234567', '1203']) expect(shown).not.toContain(secret);
    const attributes =
      envelope === 'cloudevents'
        ? JSON.parse(attempt.request_body)
        : Object.fromEntries(
            Object.entries<string>(attempt.request_headers)
              .filter(([name]) => name.startsWith('ce-'))
              .map(([name, value]) => [name.slice('ce-'.length), decodeURIComponent(value)]),
          );
    const contact = 'call +49 *** *****67';
    expect(attributes).toMatchObject({ id: 'A-1', source: '/orders', subject: '***', contact, iban: '***' });
    const [open] = await attemptsOf(id);
    expect(JSON.stringify(open)).toContain(envelope === 'cloudevents' ? 'Möhring, Grace' : 'M%C3%B6hring,%20Grace');
    await program.posthorn.call('PATCH', `/api/v1/tenants/delivered-${tenants}`, {
      settings: { masking: { paths: ['$'] } },
    });
    const [whole] = await attemptsOf(id, viewer);
    expect(JSON.stringify(whole)).not.toMatch(/hring|1234567|1203|orders/);
  });

  test.each(MODES)('is gone with the payload as %s', async (envelope) => {
    await program.createWebhook({ envelope }, headers);
    const { id } = await send(bodyOf(personal));
    await arrived();
    await attemptsOf(id);
    const erased = await program.posthorn.call('DELETE', `/api/v1/events/${id}/payload`, undefined, headers);
    expect(erased.status).toBe(204);
    const [attempt] = await attemptsOf(id);
    expect(attempt.request_body).toBeNull();
    expect(JSON.stringify(attempt)).not.toMatch(/hring|1234567|1203|orders/);
    const rows = await eventually(
      () => pool.query('SELECT a::text AS text FROM attempts a WHERE strpos(a::text, $1) > 0', [id]),
      ({ rowCount }) => (rowCount ?? 0) > 0,
    );
    expect(rows.rows.map(({ text }) => text).join('\n')).not.toMatch(/hring|1234567|1203|orders/);
  });
});
