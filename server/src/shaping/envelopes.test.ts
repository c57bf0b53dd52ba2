import { type CloudEvent, HTTP } from 'cloudevents';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { jsonTexts } from '../kernel/raw-json.arbitrary.ts';
import {
  ENVELOPES,
  type Envelope,
  isEnvelopeHeader,
  isReshapedPerAttempt,
  type ShapedEvent,
  shapeBody,
} from './envelopes.ts';

const EVENT: ShapedEvent = {
  id: 'evt_01h455vb4pex5vsknk084sn02q',
  publicId: 'call_789',
  type: 'call.ended',
  timestamp: '2025-08-05T18:00:00.000Z',
  data: Buffer.from('{"b":1.0,"a":12345678901234567890}'),
  metadata: null,
  source: '/tenants/acme/production',
};

const shape = (envelope: Envelope, changes: Partial<ShapedEvent> = {}, attempt = 1) =>
  shapeBody(envelope, { ...EVENT, ...changes }, attempt);
const text = (envelope: Envelope, changes?: Partial<ShapedEvent>, attempt?: number) =>
  shape(envelope, changes, attempt).body.toString();
const withData = (envelope: Envelope, data: string) => text(envelope, { data: Buffer.from(data) });
const withMetadata = (metadata: string, attempt = 1) =>
  text('event_type', { metadata: Buffer.from(metadata) }, attempt)
    .split('"metadata":')[1]
    ?.slice(0, -1);

const HEAD = '{"event":"call.ended","timestamp":"2025-08-05T18:00:00.000Z"';

test.each([
  [
    'standard',
    '{"type":"call.ended","timestamp":"2025-08-05T18:00:00.000Z","data":{"b":1.0,"a":12345678901234567890}}',
  ],
  ['event', `${HEAD},"data":{"b":1.0,"a":12345678901234567890}}`],
  [
    'event_type',
    '{"event_type":"call.ended","event_id":"call_789","timestamp":"2025-08-05T18:00:00.000Z",' +
      '"data":{"b":1.0,"a":12345678901234567890},"metadata":{"retry_count":0}}',
  ],
  ['flat', `${HEAD},"b":1.0,"a":12345678901234567890}`],
  [
    'cloudevents',
    '{"specversion":"1.0","id":"evt_01h455vb4pex5vsknk084sn02q","source":"/tenants/acme/production",' +
      '"type":"call.ended","time":"2025-08-05T18:00:00.000Z","datacontenttype":"application/json",' +
      '"data":{"b":1.0,"a":12345678901234567890}}',
  ],
  ['cloudevents_binary', '{"b":1.0,"a":12345678901234567890}'],
  ['raw', '{"b":1.0,"a":12345678901234567890}'],
] satisfies [Envelope, string][])('%s is its documented shape around the data as published', (envelope, expected) => {
  expect(text(envelope)).toBe(expected);
});

test('only cloudevents has a content type of its own', () => {
  for (const envelope of ENVELOPES) {
    const expected = envelope === 'cloudevents' ? 'application/cloudevents+json' : 'application/json';
    expect(shape(envelope).contentType).toBe(expected);
  }
});

describe('CloudEvents', () => {
  /** As the HTTP binding of the public package reads the request. */
  function received(envelope: Envelope, changes: Partial<ShapedEvent> = {}) {
    const { body, contentType, headers = [] } = shape(envelope, changes);
    const pairs = Array.from({ length: headers.length / 2 }, (_, at) => headers.slice(2 * at, 2 * at + 2));
    const event = HTTP.toEvent({
      headers: { ...Object.fromEntries(pairs), 'content-type': contentType },
      body: body.toString(),
    });
    if (Array.isArray(event)) throw new Error('One event was sent, and a batch arrived.');
    expect((event as CloudEvent).validate()).toBe(true);
    return event as CloudEvent<unknown>;
  }

  test.each(['cloudevents', 'cloudevents_binary'] as const)('%s is read by the public package', (envelope) => {
    const event = received(envelope, { data: Buffer.from('{"call":{"id":"c1","note":"é"}}') });
    expect(event).toMatchObject({
      specversion: '1.0',
      id: EVENT.id,
      source: EVENT.source,
      type: 'call.ended',
      time: EVENT.timestamp,
      datacontenttype: 'application/json',
      data: { call: { id: 'c1', note: 'é' } },
    });
  });

  test('only the binary mode has headers, and each is there once', () => {
    for (const envelope of ENVELOPES) {
      const names = (shape(envelope).headers ?? []).filter((_, at) => at % 2 === 0);
      expect(names).toEqual(
        envelope === 'cloudevents_binary' ? ['ce-specversion', 'ce-id', 'ce-source', 'ce-type', 'ce-time'] : [],
      );
      expect(names.every((name) => isEnvelopeHeader(envelope, name.toUpperCase()))).toBe(true);
    }
    expect(isEnvelopeHeader('cloudevents', 'ce-id')).toBe(false);
    expect(isEnvelopeHeader('cloudevents_binary', 'cert')).toBe(false);
  });
});

test('a body changes with the attempt exactly when the envelope says so', () => {
  for (const envelope of ENVELOPES) {
    expect(text(envelope, {}, 1) !== text(envelope, {}, 2)).toBe(isReshapedPerAttempt(envelope));
  }
});

test('texts of the event are escaped and cannot add members', () => {
  const hostile = '","data":{"admin":true},"x":"\\\u2028\0\ud800é';
  const changes = { type: hostile, publicId: hostile, id: hostile, timestamp: hostile, source: hostile };
  for (const envelope of ENVELOPES) {
    if (envelope === 'raw' || envelope === 'cloudevents_binary') continue;
    const parsed = JSON.parse(text(envelope, changes));
    expect(parsed.type ?? parsed.event ?? parsed.event_type).toBe(hostile);
    expect(parsed.timestamp ?? parsed.time).toBe(hostile);
    expect(parsed.admin ?? parsed.data?.admin).toBeUndefined();
  }
});

describe('data', () => {
  test('stands in every envelope with its bytes unchanged, and parses to itself', () => {
    fc.assert(
      fc.property(jsonTexts.value, jsonTexts.object, fc.string(), (data, metadata, type) => {
        const event = { data: Buffer.from(data), metadata: Buffer.from(metadata), type };
        for (const envelope of ['standard', 'event', 'event_type', 'cloudevents'] as const) {
          const { body } = shape(envelope, event);
          expect(body.includes(event.data)).toBe(true);
          const parsed = JSON.parse(body.toString());
          expect(parsed.data).toEqual(JSON.parse(data));
          expect(parsed.type ?? parsed.event ?? parsed.event_type).toBe(type);
        }
        expect(shape('raw', event).body.equals(event.data)).toBe(true);
      }),
    );
  });

  test('of a flat event are members beside the envelope, whose own two win', () => {
    fc.assert(
      fc.property(jsonTexts.object, (data) => {
        const { event, timestamp, ...rest } = JSON.parse(withData('flat', data));
        expect([event, timestamp]).toEqual([EVENT.type, EVENT.timestamp]);
        const { event: _event, timestamp: _timestamp, ...published } = JSON.parse(data);
        expect(rest).toEqual(published);
      }),
      { numRuns: 300 },
    );
  });
});

describe('flat', () => {
  test('leaves the data between its braces as it is', () => {
    expect(withData('flat', '{ "a" : [1.0] ,\n"a":2, "__proto__":{} }')).toBe(
      `${HEAD},"a" : [1.0] ,\n"a":2, "__proto__":{}}`,
    );
  });

  test('drops the names of the envelope from the data, however they are spelled', () => {
    const data = '{"event":"x","a":{"event":1},"\\u0065vent":"y","timestamp":0,"b":1.0}';
    expect(withData('flat', data)).toBe(`${HEAD},"a":{"event":1},"b":1.0}`);
    expect(withData('flat', '{"timestamp":1}')).toBe(`${HEAD}}`);
  });

  test('an empty object adds nothing, and data that is no object stands under "data"', () => {
    expect(withData('flat', '{}')).toBe(`${HEAD}}`);
    expect(withData('flat', '{ }')).toBe(`${HEAD}}`);
    for (const data of ['[{"a":1}]', 'null', '"{}"', '1e400'])
      expect(withData('flat', data)).toBe(`${HEAD},"data":${data}}`);
  });
});

describe('metadata of event_type', () => {
  test('is as published, with the number of retries so far behind it', () => {
    expect(withMetadata('{"source_service":"leads","version":1.0}')).toBe(
      '{"source_service":"leads","version":1.0,"retry_count":0}',
    );
    expect(withMetadata('{ "a" : 1.0 }', 4)).toBe('{"a" : 1.0,"retry_count":3}');
    expect(withMetadata('{}')).toBe('{"retry_count":0}');
    expect(withMetadata('{ }', 2)).toBe('{"retry_count":1}');
  });

  test("counts retries itself, whatever the publisher's metadata says", () => {
    expect(withMetadata('{"retry_count":7}')).toBe('{"retry_count":0}');
    expect(withMetadata('{"a":{"retry_count":7},"retry\\u005fcount":"x","b":1e1}', 3)).toBe(
      '{"a":{"retry_count":7},"b":1e1,"retry_count":2}',
    );
    fc.assert(
      fc.property(jsonTexts.object, fc.nat(20), (metadata, retries) => {
        const { retry_count: _publishers, ...published } = JSON.parse(metadata);
        const { retry_count: count, ...rest } = JSON.parse(withMetadata(metadata, retries + 1) as string);
        expect(count).toBe(retries);
        expect(rest).toEqual(published);
      }),
    );
  });
});

test('a body of a megabyte is shaped without being parsed', () => {
  const data = Buffer.from(`{"text":"${'é'.repeat(500_000)}"}`);
  for (const envelope of ENVELOPES) {
    const { body } = shape(envelope, { data });
    expect(body.includes(envelope === 'flat' ? data.subarray(1, -1) : data)).toBe(true);
  }
});
