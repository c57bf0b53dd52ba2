import { CloudEvent, HTTP, type Message } from 'cloudevents';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type ProgramFixture, startProgram } from '../../src/delivery/recovery/program-fixture.ts';
import { publishPlainly } from './plain-publish.ts';

let program: ProgramFixture;
beforeAll(async () => {
  program = await startProgram();
});
afterAll(() => program.stop());

let headers: Record<string, string>;
let tenants = 0;
beforeEach(async () => {
  program.receiver.requests.length = 0;
  tenants += 1;
  headers = await program.addTenant(`cloudevents-${tenants}`);
});

const STRUCTURED = 'application/cloudevents+json';
const BATCH = 'application/cloudevents-batch+json';
const minimal = { specversion: '1.0', id: 'A-1', source: '/orders', type: 'order.paid' };

const send = (body: unknown, contentType = STRUCTURED, more: Record<string, string> = {}, path = '/events') =>
  program.post(path, typeof body === 'string' ? body : JSON.stringify(body), {
    ...headers,
    'content-type': contentType,
    ...more,
  });
/** As the public package sends it. */
const emit = ({ headers: own, body }: Message, path = '/events') =>
  program.post(path, body === undefined ? '' : String(body), { ...headers, ...(own as Record<string, string>) });
const ceHeaders = { 'ce-specversion': '1.0', 'ce-id': 'B-1', 'ce-source': '/orders', 'ce-type': 'order.paid' };
const eventOf = (id: string) => program.get(`/events/${id}`, headers);
const pathsOf = (answer: { body: { error: { details: { fields: { path: string }[] } } } }) =>
  answer.body.error.details.fields.map(({ path }) => path);

describe('an event that CloudEvents software publishes', () => {
  const event = new CloudEvent({
    id: 'order-4711',
    source: 'https://shop.example.com/orders',
    type: 'order.paid',
    time: '2026-01-31T12:00:00.123Z',
    subject: '100% of 4711',
    dataschema: 'https://shop.example.com/order.json',
    tenant: 'acme',
    attempt: 2,
    data: { total: 12.5, note: 'Grüße' },
  });
  test.each([
    ['structured', HTTP.structured(event), 2],
    ['binary', HTTP.binary(event), '2'],
  ])(
    'in the %s mode becomes an event with its id, type, time, data and attributes',
    async (_mode, message, attempt) => {
      await program.createWebhook({ envelope: 'event_type' }, headers);
      const { status, body } = await emit(message);
      expect([status, body]).toEqual([
        202,
        {
          event_id: 'order-4711',
          id: expect.stringMatching(/^evt_/),
          event_type: 'order.paid',
          status: 'accepted',
          deliveries: 1,
          duplicate: false,
        },
      ]);
      const metadata = {
        specversion: '1.0',
        time: '2026-01-31T12:00:00.123Z',
        source: 'https://shop.example.com/orders',
        subject: '100% of 4711',
        dataschema: 'https://shop.example.com/order.json',
        tenant: 'acme',
        attempt,
      };
      expect(await eventOf(body.id)).toMatchObject({ event_id: 'order-4711', timestamp: '2026-01-31T12:00:00.123Z' });
      const [request] = await program.receiver.received(1);
      expect(JSON.parse(String(request?.body))).toEqual({
        event_type: 'order.paid',
        event_id: 'order-4711',
        timestamp: '2026-01-31T12:00:00.123Z',
        data: { total: 12.5, note: 'Grüße' },
        metadata: { ...metadata, retry_count: 0 },
      });
      expect((await emit(message)).body).toMatchObject({ id: body.id, duplicate: true });
    },
  );

  test('of the binary mode is one on a connection that is read straight from its socket', async () => {
    const { authorization = '' } = await program.keyOf('publisher', headers);
    const key = authorization.slice('Bearer '.length);
    // Would be a publish of its own without the headers, and is one the first time: then the key is known.
    const event = { event_type: 'other.type', data: 1 };
    expect((await publishPlainly(program.posthorn.url, key, event)).body).toMatchObject({ event_type: 'other.type' });
    const answer = await publishPlainly(program.posthorn.url, key, event, { headers: ceHeaders });
    expect([answer.status, answer.body]).toMatchObject([202, { event_id: 'B-1', event_type: 'order.paid' }]);
    expect((await eventOf(answer.body.id)).data).toEqual({ event_type: 'other.type', data: 1 });
  });

  test('is taken at call-center.md’s path too', async () => {
    const answer = await program.posthorn.call('POST', '/events/publish/', JSON.stringify(minimal), {
      ...headers,
      'content-type': 'Application/CloudEvents+JSON; charset=utf-8',
    });
    expect([answer.status, answer.body]).toMatchObject([202, { event_id: 'A-1' }]);
  });

  test('keeps the spelling of its data', async () => {
    await program.createWebhook({ envelope: 'raw' }, headers);
    const data = '{"b":1.0,"a":9007199254740993,"a":"\\u00fc"}';
    await send(`{"data": ${data}, ${JSON.stringify(minimal).slice(1)}`);
    await send(data, 'application/json', ceHeaders);
    const base64 = Buffer.from(data).toString('base64');
    await send({ ...minimal, id: 'A-2', data_base64: base64, data: undefined });
    const requests = await program.receiver.received(3);
    expect(requests.map(({ body }) => String(body))).toEqual([data, data, data]);
  });

  test('without data has null', async () => {
    await program.createWebhook({ envelope: 'raw' }, headers);
    await send({ ...minimal, subject: null, datacontenttype: 'application/vnd.order+json; v=1' });
    await program.post('/events', undefined, { ...headers, ...ceHeaders });
    const requests = await program.receiver.received(2);
    expect(requests.map(({ body }) => String(body))).toEqual(['null', 'null']);
    expect((await program.get('/events?q=A-1', headers)).data[0]).toMatchObject({ event_id: 'A-1' });
  });

  test('is filtered by its attributes', async () => {
    const filters = { field_path: 'metadata.source', operator: 'starts_with', value: '/orders' };
    await program.createWebhook({ filters }, headers);
    expect((await send(minimal)).body).toMatchObject({ deliveries: 1 });
    expect((await send({ ...minimal, id: 'A-2', source: '/other' })).body).toMatchObject({
      deliveries: 0,
      filtered: 1,
    });
  });
});

describe('a batch of CloudEvents', () => {
  test('is published together, in order', async () => {
    const events = [1, 2, 3].map((n) => ({ ...minimal, id: `N-${n}`, data: { n } }));
    const { status, body } = await send([...events, events[0]], BATCH, {}, '/events/batch');
    expect(status).toBe(202);
    const told = body.data.map((each: { event_id: string; duplicate: boolean }) => [each.event_id, each.duplicate]);
    expect(told).toEqual([
      ['N-1', false],
      ['N-2', false],
      ['N-3', false],
      ['N-1', true],
    ]);
    expect((await eventOf(body.data[2].id)).data).toEqual({ n: 3 });
  });

  test.each<[string, unknown, number, string[]?]>([
    ['one that is wrong', [minimal, { ...minimal, id: '', source: 3 }], 422, ['events.1.id', 'events.1.source']],
    ['one that is none', [minimal, 7], 422, ['events.1']],
    ['none', [], 422, ['events']],
    ['no list', minimal, 422, ['body']],
    ['1,001', Array(1_001).fill(minimal), 422, ['events']],
    // Counted before any of them is read: a body has room for millions.
    ['1,001 that are none', Array(1_001).fill(0), 422, ['events']],
    ['one that is too deep', [{ ...minimal, data: JSON.parse('['.repeat(65) + ']'.repeat(65)) }], 422],
    ['nothing at all', '', 400],
  ])('with %s is refused as a whole', async (_name, body, status, paths) => {
    const answer = await send(body, BATCH, {}, '/events/batch');
    expect(answer.status).toBe(status);
    if (paths !== undefined) expect(pathsOf(answer)).toEqual(paths);
    expect((await program.get('/events', headers)).data).toEqual([]);
  });

  test('may nest as deep as a single one', async () => {
    const data = JSON.parse('['.repeat(64) + ']'.repeat(64));
    expect((await send([{ ...minimal, data }], BATCH, {}, '/events/batch')).status).toBe(202);
    expect((await send({ ...minimal, id: 'A-2', data })).status).toBe(202);
    expect((await send(JSON.stringify(data), 'application/json', ceHeaders)).status).toBe(202);
    expect((await send(JSON.stringify([data]), 'application/json', { ...ceHeaders, 'ce-id': 'B-2' })).status).toBe(422);
  });

  test('and a single one each have their path', async () => {
    const single = await send(minimal, STRUCTURED, {}, '/events/batch');
    const batch = await send([minimal], BATCH);
    expect([single, batch].map(({ status, body }) => [status, body.error.code])).toEqual(
      Array(2).fill([415, 'unsupported_media_type']),
    );
    expect([single.body.error.message, batch.body.error.message]).toEqual([
      expect.stringContaining('POST /api/v1/events.'),
      expect.stringContaining('POST /api/v1/events/batch.'),
    ]);
  });
});

describe('what is refused', () => {
  test.each<[string, object, string[]]>([
    ['another version', { specversion: '0.3' }, ['specversion']],
    ['no id, no source, no type', { id: undefined, source: null, type: undefined }, ['id', 'source', 'type']],
    ['an id with a space', { id: 'a b' }, ['id']],
    ['an id that is too long', { id: 'x'.repeat(257) }, ['id']],
    ['an empty source', { source: '' }, ['source']],
    ['a type outside the grammar', { type: 'order/paid' }, ['type']],
    ['a time that is none', { time: '31.1.2026' }, ['time']],
    ['a leap second', { time: '2016-12-31T23:59:60Z' }, ['time']],
    ['a subject that is a number', { subject: 7 }, ['subject']],
    ['data that is no JSON', { datacontenttype: 'text/xml', data: '<a/>' }, ['datacontenttype']],
    ['bytes', { data_base64: Buffer.from([0xff, 0xd8]).toString('base64') }, ['data_base64']],
    ['bytes that are no Base64', { data_base64: '{}' }, ['data_base64']],
    ['data twice', { data: null, data_base64: 'e30=' }, ['data_base64']],
    ['a name in capitals', { orderId: '1' }, ['orderId']],
    ['a name that is a prototype', JSON.parse('{"__proto__": "x"}'), ['__proto__']],
    ['an extension that is an object', { trace: {} }, ['trace']],
    ['an extension beyond 32 bits', { trace: 2 ** 31 }, ['trace']],
    ['attributes that are too much', { trace: 'x'.repeat(16_384) }, ['metadata']],
  ])('%s', async (_name, changes, paths) => {
    const body = { ...minimal, ...changes };
    if (Object.hasOwn(changes, '__proto__')) Object.defineProperty(body, '__proto__', { value: 'x', enumerable: true });
    const answer = await send(body);
    expect([answer.status, answer.body.error.code]).toEqual([422, 'validation_failed']);
    expect(pathsOf(answer)).toEqual(paths);
  });

  test.each<[string, Record<string, string>, string[]]>([
    ['without an id', { 'ce-id': '' }, ['ce-id']],
    ['of a version that is none', { 'ce-specversion': '1' }, ['ce-specversion']],
    ['with an attribute called data', { 'ce-data': '{}' }, ['ce-data']],
    ['with a name that is none', { 'ce-my-own': 'x' }, ['ce-my-own']],
    ['with letters as they are', { 'ce-subject': 'Müller' }, ['ce-subject']],
    ['with half a letter', { 'ce-subject': 'M%C3ller' }, ['ce-subject']],
  ])('one of the binary mode %s', async (_name, changes, paths) => {
    const answer = await send('{}', 'application/json', { ...ceHeaders, ...changes });
    expect([answer.status, pathsOf(answer)]).toEqual([422, paths]);
  });

  test('reads quotes and escapes of headers as the binding says', async () => {
    const more = { 'ce-subject': '"M%C3%BCller \\"Co\\" 100%"', 'ce-time': '2026-01-31T13:00:00+01:00' };
    const { body } = await send('{}', 'application/json', { ...ceHeaders, ...more });
    const event = await eventOf(body.id);
    expect(event).toMatchObject({ timestamp: '2026-01-31T12:00:00.000Z', metadata: { subject: 'Müller "Co" 100%' } });
  });

  test('other formats of CloudEvents, data that is no JSON, and no CloudEvent', async () => {
    expect((await send('<event/>', 'application/cloudevents+xml')).status).toBe(415);
    expect((await send('<a/>', 'text/xml', ceHeaders)).status).toBe(415);
    expect((await send('')).status).toBe(400);
    for (const body of ['7', 'null', '[]']) expect(pathsOf(await send(body))).toEqual(['body']);
    expect((await send('{')).status).toBe(400);
    expect((await send({ ...minimal, data: 'x'.repeat(1_048_577) })).status).toBe(413);
  });

  test('with the same errors as a plain publish', async () => {
    await send({ ...minimal, data: 1 });
    const reused = await send({ ...minimal, data: 2 });
    const plain = await program.post('/events', { event_type: 'order.paid', event_id: 'A-1', data: 2 }, headers);
    expect([reused.status, reused.body.error.code]).toEqual([plain.status, plain.body.error.code]);
    expect(reused.status).toBe(409);
    const viewer = await program.keyOf('viewer', headers);
    expect((await send(minimal, STRUCTURED, viewer)).status).toBe(403);
    expect((await send(minimal, STRUCTURED, { authorization: 'Bearer nobody' })).status).toBe(401);
  });

  test('an Idempotency-Key that another event had, and not the same event in another order', async () => {
    const key = { 'idempotency-key': 'once' };
    const first = await send({ ...minimal, subject: 'a', trace: 'b' }, STRUCTURED, key);
    const again = await send({ trace: 'b', ...minimal, subject: 'a' }, STRUCTURED, key);
    expect([again.status, again.body]).toMatchObject([202, { id: first.body.id, duplicate: true }]);
    expect((await send({ ...minimal, id: 'A-2' }, STRUCTURED, key)).status).toBe(409);
  });

  test('what is beyond a tenant’s limit of events', async () => {
    await program.posthorn.call('PATCH', `/api/v1/tenants/cloudevents-${tenants}`, { limits: { events_per_day: 1 } });
    const answers = [await send(minimal), await send({ ...minimal, id: 'A-2' })];
    expect(answers.map(({ status }) => status)).toEqual([202, 429]);
  });
});
