import { brotliCompressSync, deflateSync, gzipSync, zstdCompressSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { BODY_BYTES_MAX } from '../../src/http/server.ts';
import { type Answer, OPERATOR_KEY, startTestPosthorn, type TestPosthorn } from '../../src/testing/posthorn.ts';
import { connectWire, exchange } from './wire.ts';

let posthorn: TestPosthorn;
beforeAll(async () => {
  posthorn = await startTestPosthorn();
});
afterAll(() => posthorn.stop());

const HEAD = `Host: a\r\nAuthorization: Bearer ${OPERATOR_KEY}\r\nContent-Type: application/json\r\n`;
const told = ({ status, body }: Answer) => [status, body.error.code];
const publish = (body: string | Buffer, headers?: Record<string, string>) =>
  posthorn.call('POST', '/api/v1/events', body, headers);

describe('a body that is too large', () => {
  const TYPE_BYTES_MAX = 5_000_000;

  test.each([
    ['POST', '/api/v1/events'],
    ['POST', '/api/v1/events/batch'],
    ['POST', '/api/v1/webhooks'],
    ['PATCH', '/api/v1/webhooks/whk_x'],
    ['PUT', '/api/v1/event-types/a.b'],
    ['DELETE', '/api/v1/webhooks/whk_x'],
    ['POST', '/api/v1/tenants'],
    ['POST', '/api/v1/replays'],
  ])('is not read, whatever its length is said to be: %s %s', async (method, path) => {
    const wire = await connectWire(posthorn.url);
    wire.socket.write(`${method} ${path} HTTP/1.1\r\n${HEAD}Content-Length: 99999999999\r\n\r\n{"a":"`);
    const [answer] = await wire.until(1);
    await wire.closed;
    expect([answer?.status, JSON.parse(answer?.text ?? '').error.code]).toEqual([413, 'payload_too_large']);
    expect(answer?.headers.connection).toBe('close');
  });

  test.each(['/api/v1/events', '/api/v1/webhooks', '/api/v1/event-types'])(
    'and comes in chunks is read up to the limit and no further: %s',
    async (path) => {
      const wire = await connectWire(posthorn.url);
      wire.socket.write(`POST ${path} HTTP/1.1\r\n${HEAD}Transfer-Encoding: chunked\r\n\r\n`);
      const chunk = Buffer.concat([Buffer.from('10000\r\n'), Buffer.alloc(65_536, 'a'), Buffer.from('\r\n')]);
      let sent = 0;
      while (!wire.isClosed() && wire.answers().length === 0 && sent < 50 * TYPE_BYTES_MAX) {
        sent += chunk.length;
        if (!wire.socket.write(chunk)) {
          await Promise.race([
            new Promise((resolve) => wire.socket.once('drain', resolve)),
            wire.closed,
            wire.until(1),
          ]);
        }
      }
      const [answer] = await wire.until(1);
      await wire.closed;
      expect([answer?.status, JSON.parse(answer?.text ?? '').error.code]).toEqual([413, 'payload_too_large']);
      // What the sockets between the two hold comes on top.
      expect(sent).toBeLessThan(BODY_BYTES_MAX + 20_000_000);
    },
  );

  test('of somebody unknown, or for a path that is not there, is not waited for', async () => {
    for (const [line, status] of [
      ['POST /api/v1/webhooks HTTP/1.1\r\nHost: a', 401],
      ['POST /nowhere HTTP/1.1\r\nHost: a', 404],
    ] as const) {
      const wire = await connectWire(posthorn.url);
      wire.socket.write(`${line}\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n{`);
      const [answer] = await wire.until(1);
      await wire.closed;
      expect([answer?.status, answer?.headers.connection]).toEqual([status, 'close']);
    }
  });
});

describe('what a body is', () => {
  test.each([
    'text/plain',
    'application/x-www-form-urlencoded',
    'multipart/form-data; boundary=a',
    'application/xml',
    'application/jsonp',
    'application/json-patch',
    'text/json',
    'application/octet-stream',
    'json',
    '*/*',
    '__proto__',
  ])('the type %s is not taken', async (type) => {
    expect(told(await publish('{"event_type":"a.b","data":1}', { 'content-type': type }))).toEqual([
      415,
      'unsupported_media_type',
    ]);
  });

  test('UTF-8 is what is read, and a byte order mark is skipped', async () => {
    const event = '{"event_type":"a.b","data":"ü"}';
    expect((await publish(`\ufeff${event}`)).status).toBe(202);
    for (const body of [
      Buffer.from(event, 'latin1'),
      Buffer.from(event, 'utf16le'),
      Buffer.from([0xfe, 0xff, ...Buffer.from(event, 'utf16le').swap16()]),
      Buffer.from([0x22, 0xed, 0xa0, 0x80, 0x22]),
      Buffer.from([0x22, 0xc0, 0x80, 0x22]),
      Buffer.from([0x22, 0xf5, 0x80, 0x80, 0x80, 0x22]),
    ]) {
      expect(told(await publish(body))).toEqual([400, 'malformed_request']);
    }
    for (const charset of ['utf-16', 'iso-8859-1', 'utf-7']) {
      const type = { 'content-type': `application/json; charset=${charset}` };
      expect(told(await publish(event, type))).toEqual([415, 'unsupported_media_type']);
    }
    for (const charset of ['utf-8', 'UTF-8', '"utf-8"']) {
      expect((await publish(event, { 'content-type': `application/json; charset=${charset}` })).status).toBe(202);
    }
  });

  test.each([
    '{"event_type":"a.b","data":1}}',
    '{"event_type":"a.b","data":1} {"event_type":"a.b","data":1}',
    '{"event_type":"a.b","data":1}\0',
    '{"event_type":"a.b","data":NaN}',
    '{"event_type":"a.b","data":Infinity}',
    '{"event_type":"a.b","data":undefined}',
    '{"event_type":"a.b","data":01}',
    '{"event_type":"a.b","data":+1}',
    '{"event_type":"a.b","data":0x1}',
    '{"event_type":"a.b","data":1,}',
    "{'event_type':'a.b','data':1}",
    '{"event_type":"a.b","data":1/*a*/}',
    '{"event_type":"a.b","data":"\n"}',
    '{"event_type":"a.b","data":"\\x41"}',
    '{"event_type":"a.b","data":"\\u00g0"}',
    '{"event_type":"a.b" "data":1}',
    '{"event_type":"a.b","data":',
    '{event_type:"a.b",data:1}',
    ')]}\',\n{"event_type":"a.b","data":1}',
  ])('%j is not JSON', async (body) => {
    expect(told(await publish(body))).toEqual([400, 'malformed_request']);
    expect(told(await posthorn.call('POST', '/api/v1/webhooks', body))).toEqual([400, 'malformed_request']);
  });

  test('of a key that comes twice the last counts, for Posthorn and for the receiver alike', async () => {
    const answer = await publish('{"event_type":"a.one","event_type":"a.two","data":1,"d\\u0061ta":{"b":1,"b":2}}');
    expect([answer.status, answer.body.event_type]).toEqual([202, 'a.two']);
    const stored = await posthorn.call('GET', `/api/v1/events/${answer.body.id}`);
    expect(stored.text).toContain('{"b":1,"b":2}');
  });

  test('numbers and surrogates that no type can hold are data like any other, and no value of a field', async () => {
    const data = '[1e999999,-1e999999,1e-999999,123456789012345678901234567890,"\\ud800","\\u0000"]';
    const answer = await publish(`{"event_type":"a.b","data":${data}}`);
    expect(answer.status).toBe(202);
    expect((await posthorn.call('GET', `/api/v1/events/${answer.body.id}`)).text).toContain(data);
    for (const value of ['1e999999', '-1e999999', '1.5', '"1"', '9007199254740993']) {
      const refused = await publish(`{"event_type":"a.b","data":1,"priority":${value}}`);
      expect(told(refused)).toEqual([422, 'validation_failed']);
    }
  });
});

describe('JSON that is large in one way', () => {
  /** Far more than it takes, and far less than what grows faster than its input would. */
  const SOON_MS = 3_000;
  const nested = (levels: number) => `${'['.repeat(levels)}${']'.repeat(levels)}`;
  const many = (count: number) => `{${Array.from({ length: count }, (_, at) => `"k${at}":1`).join()}}`;

  test.each([
    ['64 levels', `{"event_type":"a.b","data":${nested(64)}}`, 202],
    ['65 levels', `{"event_type":"a.b","data":${nested(65)}}`, 422],
    ['65 levels of objects', `{"event_type":"a.b","data":${'{"a":'.repeat(65)}1${'}'.repeat(65)}}`, 422],
    ['500,000 levels', `{"event_type":"a.b","data":${nested(500_000)}}`, 422],
    ['1,000,000 brackets that nobody closes', '['.repeat(1_000_000), 422],
    ['100,000 brackets in a metadata', `{"event_type":"a.b","data":1,"metadata":{"a":${nested(100_000)}}}`, 422],
    ['50,000 keys', `{"event_type":"a.b","data":${many(50_000)}}`, 202],
    ['50,000 unknown keys', many(50_000), 422],
    ['a key 150,000 times', `{"event_type":"a.b","data":{${Array(150_000).fill('"a":1').join()}}}`, 202],
    ['a string of escapes', `{"event_type":"a.b","data":"${'\\u0041'.repeat(170_000)}"}`, 202],
    ['a number of 1,000,000 digits', `{"event_type":"a.b","data":${'9'.repeat(1_000_000)}}`, 202],
    ['1,000,000 spaces', `{"event_type":"a.b",${' '.repeat(1_000_000)}"data":1}`, 202],
  ] as const)('%s: soon answered', async (_name, body, status) => {
    const startMs = performance.now();
    expect((await publish(body)).status).toBe(status);
    expect(performance.now() - startMs).toBeLessThan(SOON_MS);
  });

  test('a batch of 10,000,000 brackets is refused before it is parsed', async () => {
    const startMs = performance.now();
    const answer = await posthorn.call('POST', '/api/v1/events/batch', '['.repeat(10_000_000));
    expect(told(answer)).toEqual([422, 'too_deep']);
    expect(performance.now() - startMs).toBeLessThan(SOON_MS);
  });
});

describe('a compressed body', () => {
  const bomb = Buffer.alloc(50_000_000);

  test.each([
    ['gzip', gzipSync(bomb)],
    ['x-gzip', gzipSync(bomb)],
    ['deflate', deflateSync(bomb)],
    ['br', brotliCompressSync(Buffer.alloc(1_000_000))],
    ['zstd', zstdCompressSync(bomb)],
    ['gzip, gzip', gzipSync(gzipSync(bomb))],
    ['GZIP', gzipSync('{"event_type":"a.b","data":1}')],
    ['anything', Buffer.from('{"event_type":"a.b","data":1}')],
  ])('with %s is refused, and not opened', async (coding, body) => {
    const before = process.memoryUsage();
    for (const path of ['/api/v1/events', '/api/v1/webhooks']) {
      const answer = await posthorn.call('POST', path, body, { 'content-encoding': coding });
      expect(told(answer)).toEqual([415, 'unsupported_media_type']);
      expect(answer.body.error.message).toBe('Send the body uncompressed: no Content-Encoding is taken.');
      expect(answer.headers.get('accept-encoding')).toBe('identity');
    }
    const after = process.memoryUsage();
    expect(after.arrayBuffers - before.arrayBuffers).toBeLessThan(bomb.length / 2);
  });

  test('is refused before it has come', async () => {
    const wire = await connectWire(posthorn.url);
    wire.socket.write(
      `POST /api/v1/events HTTP/1.1\r\n${HEAD}Content-Encoding: gzip\r\nContent-Length: 1000000\r\n\r\n`,
    );
    const [answer] = await wire.until(1);
    expect(answer?.status).toBe(415);
    await wire.closed;
  });

  test('that is said to be not compressed is read', async () => {
    const body = '{"event_type":"a.b","data":1}';
    expect((await publish(body, { 'content-encoding': 'identity' })).status).toBe(202);
  });
});

describe('keys of prototypes', () => {
  const KEYS = ['__proto__', 'constructor', 'prototype', 'toString', 'hasOwnProperty', 'valueOf'];
  const untouched = () => {
    const probe: Record<string, unknown> = {};
    expect([probe.polluted, Object.keys(Object.prototype), typeof probe.toString]).toEqual([undefined, [], 'function']);
  };

  test.each(KEYS)('%s in data, metadata, settings and headers is a name like any other', async (key) => {
    const value = `{"${key}":{"polluted":true}}`;
    const event = await publish(`{"event_type":"a.b","data":${value},"metadata":${value}}`);
    expect(event.status).toBe(202);
    const stored = await posthorn.call('GET', `/api/v1/events/${event.body.id}`);
    expect(stored.text).toContain(value);
    const own = `{"name":"a","url":"http://127.0.0.1:9/","events":["*"],"metadata":${value},"headers":{"${key}":"a"}}`;
    const webhook = await posthorn.call('POST', '/api/v1/webhooks', own);
    expect(webhook.status, webhook.text).toBeLessThan(500);
    if (webhook.status === 201) expect(Object.keys(webhook.body.metadata)).toEqual([key]);
    const tenant = await posthorn.call('PATCH', '/api/v1/tenants/default', `{"settings":${value}}`);
    expect(told(tenant)).toEqual([422, 'validation_failed']);
    untouched();
  });

  test.each(KEYS)('%s in a path, a query, a header and as a name is nothing that is there', async (key) => {
    for (const path of [`/${key}`, `/api/v1/${key}`, `/api/v1/webhooks/${key}`, `/api/v1/event-types/presets/${key}`]) {
      expect((await posthorn.call(path.includes('presets') ? 'POST' : 'GET', path)).status).toBe(404);
    }
    for (const query of [`${key}[polluted]=1`, `${key}.polluted=1`, `${key}=1`, `limit[${key}]=1`]) {
      expect((await posthorn.call('GET', `/api/v1/webhooks?${query}`)).status).toBe(200);
    }
    for (const name of ['x-tenant-id', 'x-environment']) {
      const answer = await posthorn.call('GET', '/api/v1/webhooks', undefined, { [name]: key });
      expect(told(answer)).toEqual([404, 'not_found']);
    }
    expect((await posthorn.call('GET', '/api/v1/webhooks', undefined, { [key]: 'a' })).status).toBe(200);
    expect((await publish(`{"event_type":"${key}","data":1}`)).status).toBeLessThan(500);
    untouched();
  });
});

describe('a hostile Idempotency-Key', () => {
  test.each([
    ['empty', ''],
    ['with a space', 'a b'],
    ['of 256 characters', 'a'.repeat(256)],
    ['beyond ASCII', '\xe4'],
    ['given twice', 'a\r\nIdempotency-Key: b'],
    ['the same given twice', 'a\r\nIdempotency-Key: a'],
    ['with a tab', 'a\tb'],
  ])('%s is refused, of a publish and of every other POST', async (_name, key) => {
    const body = '{"event_type":"a.b","data":1}';
    for (const path of ['/api/v1/events', '/api/v1/event-types/presets/whatsapp-crm']) {
      const content = path.endsWith('events') ? body : '{}';
      const { answers } = await exchange(
        posthorn.url,
        `POST ${path} HTTP/1.1\r\n${HEAD}Idempotency-Key: ${key}\r\nContent-Length: ${content.length}\r\n\r\n${content}`,
      );
      expect(answers.map(({ status }) => status)).toEqual([400]);
      expect(answers[0]?.text).toContain('"code":"invalid_idempotency_key"');
    }
  });

  test.each(['__proto__', 'constructor', "';DROP/**/TABLE/**/events;--", '%00', '../..', '{}', 'a'.repeat(255)])(
    '%s is a key like any other',
    async (key) => {
      const once = await publish('{"event_type":"a.b","data":1}', { 'idempotency-key': key });
      const twice = await publish('{"event_type":"a.b","data":1}', { 'idempotency-key': key });
      const other = await publish('{"event_type":"a.b","data":2}', { 'idempotency-key': key });
      expect([once.status, twice.status, twice.body.duplicate]).toEqual([202, 202, true]);
      expect(twice.body.id).toBe(once.body.id);
      expect(other.status).toBe(409);
    },
  );
});
