import { Type } from 'typebox';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { malformed, unauthorized } from '../kernel/errors.ts';
import { createLogger } from '../kernel/logger.ts';
import type { Caller } from './caller.ts';
import { BODY_BYTES_MAX, createHttpServer, type HttpServer } from './server.ts';

const CALLER: Caller = {
  actor: { kind: 'api_key', id: 'key_test' },
  tenantId: 't',
  environmentId: 'e',
  environmentName: 'production',
  role: 'viewer',
};
const logLines: string[] = [];
let app: HttpServer;

beforeAll(() => {
  app = createHttpServer({
    logger: createLogger('info', { write: (line) => void logLines.push(line) }),
    authenticate: (request) => {
      if (request.headers['x-api-key'] === undefined) throw unauthorized();
      return request.headers['x-api-key'] === 'slow' ? Promise.resolve(CALLER) : CALLER;
    },
  });
  const open = { permission: 'public' } as const;
  app.post(
    '/things',
    {
      config: open,
      schema: {
        body: Type.Object(
          {
            name: Type.String({ minLength: 1 }),
            kind: Type.Optional(Type.Enum(['a', 'b'])),
            nested: Type.Optional(Type.Object({ count: Type.Integer() }, { additionalProperties: false })),
          },
          { additionalProperties: false },
        ),
      },
    },
    async (request) => ({ got: request.body, raw: request.rawJson?.member('name')?.toString() }),
  );
  app.post('/anything', { config: open }, async (request) => ({ type: typeof request.body }));
  app.get(
    '/things/:id',
    { config: open, schema: { querystring: Type.Object({ limit: Type.Integer({ default: 50, maximum: 250 }) }) } },
    async (request) => ({ id: (request.params as { id: string }).id, limit: request.query.limit }),
  );
  app.get('/who', { config: { permission: 'read' } }, async (request) => request.caller);
  app.get('/admin', { config: { permission: 'administer' } }, async () => 'never');
  app.post('/admin', { config: { permission: 'administer' } }, async () => 'never');
  app.get('/fault', { config: open }, async () => {
    throw new Error('password=hunter2 at SELECT * FROM secrets');
  });
  app.get('/fault-with-lines', { config: open }, async () => {
    throw new Error('first line\n    at hunter2 (secret.ts:1:1)');
  });
  app.get('/refused-by-database/:code', { config: open }, async (request) => {
    throw Object.assign(new Error('DETAIL: Key (tenant_id)=(hunter2)'), request.params);
  });
  app.get('/thrown-text', { config: open }, async () => {
    throw 'hunter2';
  });
  app.get('/database-gone', { config: open }, async () => {
    throw Object.assign(new Error('connect ECONNREFUSED 10.0.0.1:5432'), { code: 'ECONNREFUSED' });
  });
  app.get('/malformed', { config: open }, async () => {
    throw malformed('Not this way.');
  });
});

afterAll(() => app.close());

interface Sent {
  method?: 'GET' | 'POST' | 'PUT' | 'OPTIONS';
  headers?: Record<string, string>;
  payload?: string | Buffer;
}

async function send(url: string, { method = 'GET', headers = {}, payload }: Sent = {}) {
  const response = await app.inject({ method, url, headers, ...(payload !== undefined && { payload }) });
  return {
    status: response.statusCode,
    headers: response.headers,
    text: response.body,
    // biome-ignore lint/suspicious/noExplicitAny: answers are looked into freely here
    body: (response.body === '' ? undefined : response.json()) as any,
  };
}

const JSON_TYPE = { 'content-type': 'application/json' };
const postJson = (url: string, payload: string | Buffer) => send(url, { method: 'POST', headers: JSON_TYPE, payload });

test.each([
  ['/no-such', 'GET'],
  ['/things', 'PUT'],
  ['/', 'GET'],
  ['/..%2f..%2fetc%2fpasswd', 'GET'],
  ['/who', 'OPTIONS'],
] as const)('what is not there is a 404 in JSON: %s with %s', async (url, method) => {
  const { status, headers, body } = await send(url, { method });
  expect(status).toBe(404);
  expect(headers['content-type']).toBe('application/json; charset=utf-8');
  expect(body).toEqual({
    error: { code: 'not_found', message: 'No such path.', details: {}, request_id: headers['x-request-id'] },
  });
});

test('a part of a path that is longer than any id or name is a 414', async () => {
  const { status, body } = await send(`/things/${'x'.repeat(301)}`);
  expect([status, body.error.code]).toEqual([414, 'uri_too_long']);
});

test('a path of 10,000 characters is a 404 as any other that is not there', async () => {
  expect((await send(`/${'x'.repeat(10_000)}`)).status).toBe(404);
});

test.each(['text/plain', 'application/xml', 'multipart/form-data; boundary=x', 'application/x-www-form-urlencoded'])(
  'a body of type %s is a 415',
  async (type) => {
    const answer = await send('/things', { method: 'POST', headers: { 'content-type': type }, payload: 'name=x' });
    expect([answer.status, answer.body.error.code]).toEqual([415, 'unsupported_media_type']);
  },
);

test.each(['application/json', 'application/json; charset=utf-8', 'application/cloudevents+json'])(
  'a body of type %s is read as JSON',
  async (type) => {
    const payload = '{"name":"x"}';
    expect((await send('/things', { method: 'POST', headers: { 'content-type': type }, payload })).status).toBe(200);
  },
);

test.each(['{', '{"name":}', '{"name":"x"} x', 'nul', '\u00a0{}', '{"name":"hunter2', Buffer.from([0x22, 0xff, 0x22])])(
  'the malformed JSON %j is a 400 that repeats nothing of it',
  async (payload) => {
    const { status, body, text } = await postJson('/things', payload);
    expect([status, body.error.code]).toEqual([400, 'malformed_request']);
    expect(text).not.toContain('hunter2');
  },
);

test('JSON that nests too deeply is refused before it is parsed', async () => {
  const { status, body } = await postJson('/anything', '['.repeat(500_000));
  expect([status, body.error.code]).toEqual([422, 'too_deep']);
});

test('a body of the largest size is read, and one byte more is a 413', async () => {
  const padded = (bytes: number) => `{"name":"${'x'.repeat(bytes - '{"name":""}'.length)}"}`;
  expect((await postJson('/things', padded(BODY_BYTES_MAX))).status).toBe(200);
  const { status, body } = await postJson('/things', padded(BODY_BYTES_MAX + 1));
  expect([status, body.error.code]).toEqual([413, 'payload_too_large']);
});

test('a body that is not valid is a 422 that names every field', async () => {
  const { status, body } = await postJson('/things', '{"name":"","kind":"c","nested":{"count":"1","x":1},"other":1}');
  expect(status).toBe(422);
  expect(body.error.code).toBe('validation_failed');
  expect(body.error.details.fields).toEqual(
    expect.arrayContaining([
      { path: 'name', message: expect.any(String) },
      { path: 'kind', message: 'must be one of ["a","b"]' },
      { path: 'nested.count', message: 'must be integer' },
      { path: 'nested.x', message: 'is not a known field' },
      { path: 'other', message: 'is not a known field' },
    ]),
  );
  expect(body.error.details.fields).toHaveLength(5);
});

test('a body that is missing, or not an object, is a 422', async () => {
  for (const answer of [
    await send('/things', { method: 'POST' }),
    await postJson('/things', ''),
    await postJson('/things', 'null'),
    await postJson('/things', '[]'),
    await postJson('/things', '"x"'),
  ]) {
    expect([answer.status, answer.body.error.code]).toEqual([422, 'validation_failed']);
  }
  expect((await postJson('/things', '{}')).body.error.details.fields).toEqual([
    { path: 'name', message: 'is required' },
  ]);
});

test('a body with a thousand unknown fields is answered with the first twenty', async () => {
  const fields = Array.from({ length: 1000 }, (_, index) => [`f${index}`, 1]);
  const { status, body } = await postJson('/things', JSON.stringify(Object.fromEntries(fields)));
  expect(status).toBe(422);
  expect(body.error.details.fields).toHaveLength(20);
});

test('prototype keys are unknown fields and reach no prototype', async () => {
  for (const key of ['__proto__', 'constructor', 'toString']) {
    const { status, body } = await postJson('/things', `{"name":"x","${key}":{"polluted":true}}`);
    expect([status, body.error.details.fields[0].path]).toEqual([422, key]);
  }
  expect(({} as Record<string, unknown>).polluted).toBeUndefined();
});

test('JSON keeps its types, and a query string gets those of its schema', async () => {
  expect((await postJson('/things', '{"name":5}')).status).toBe(422);
  expect((await send('/things/1?limit=7')).body).toEqual({ id: '1', limit: 7 });
  expect((await send('/things/1')).body).toEqual({ id: '1', limit: 50 });
  const bad = await send('/things/1?limit=x');
  expect([bad.status, bad.body.error.details.fields[0].path]).toEqual([422, 'limit']);
});

test('a handler finds the bytes of a member as they were sent', async () => {
  expect((await postJson('/things', '{ "name" : "\\u0041" }')).body).toEqual({ got: { name: 'A' }, raw: '"\\u0041"' });
});

test('a trailing slash is ignored', async () => {
  expect((await send('/things/7/')).body).toMatchObject({ id: '7' });
  expect((await postJson('/things/', '{"name":"x"}')).status).toBe(200);
});

test('a server with a route without a permission does not start', async () => {
  const other = createHttpServer({ logger: createLogger('silent'), authenticate: () => CALLER });
  other.get('/forgotten', async () => 'x');
  await expect(other.ready()).rejects.toThrow('Route GET /forgotten declares no permission.');
});

test('a caller is known before the handler runs, whether authentication needs a promise or not', async () => {
  for (const key of ['fast', 'slow']) {
    expect((await send('/who', { headers: { 'x-api-key': key } })).body).toEqual(CALLER);
  }
  const unknown = await send('/who');
  expect([unknown.status, unknown.body.error.code]).toEqual([401, 'unauthorized']);
  const forbidden = await send('/admin', { headers: { 'x-api-key': 'fast' } });
  expect([forbidden.status, forbidden.body.error.code]).toEqual([403, 'forbidden']);
});

test('authentication comes before the body is read', async () => {
  const malformedBody = { method: 'POST', headers: JSON_TYPE, payload: '{' } as const;
  expect((await send('/admin', malformedBody)).status).toBe(401);
  const viewer = { ...malformedBody, headers: { ...JSON_TYPE, 'x-api-key': 'fast' } };
  expect((await send('/admin', viewer)).status).toBe(403);
});

test.each(['/fault', '/thrown-text'])(
  'a fault at %s says nothing of the inside, to the client or the log',
  async (url) => {
    logLines.length = 0;
    const { status, headers, body, text } = await send(url);
    expect(status).toBe(500);
    expect(body).toEqual({
      error: {
        code: 'internal_error',
        message: 'An internal fault; it was logged.',
        details: {},
        request_id: headers['x-request-id'],
      },
    });
    expect(text).not.toContain('hunter2');
    expect(logLines).toHaveLength(1);
    expect(logLines[0]).toContain(body.error.request_id);
    expect(logLines[0]).not.toContain('hunter2');
  },
);

test('a fault is logged with the stack that led to it, and nothing of its message', async () => {
  logLines.length = 0;
  await send('/fault');
  const { fault } = JSON.parse(logLines[0] ?? '');
  expect(fault.stack.length).toBeGreaterThan(1);
  expect(fault.stack.length).toBeLessThanOrEqual(10);
  expect(fault.stack[0]).toMatch(/^at .*server\.test\.ts:\d+:\d+\)?$/);
});

test('a message that looks like a stack is not logged', async () => {
  logLines.length = 0;
  await send('/fault-with-lines');
  expect(logLines[0]).not.toContain('hunter2');
  expect(JSON.parse(logLines[0] ?? '').fault.stack[0]).toContain('server.test.ts');
});

test('a database that is gone is a 503 with a time to try again', async () => {
  const { status, headers, body, text } = await send('/database-gone');
  expect([status, body.error.code, headers['retry-after']]).toEqual([503, 'unavailable', '2']);
  expect(Date.parse(body.error.retry_after)).toBeGreaterThan(Date.now());
  expect(text).not.toContain('10.0.0.1');
});

test.each([
  ['57014', 503, 'query_timeout', '10'],
  ['40P01', 503, 'unavailable', '1'],
  ['40001', 503, 'unavailable', '1'],
  ['23503', 409, 'deleted_meanwhile', undefined],
  // It is a fault that a name was not looked for.
  ['23505', 500, 'internal_error', undefined],
])('the refusal %s of the database is a %s %s', async (code, status, expected, retryAfter) => {
  const response = await app.inject({ url: `/refused-by-database/${code}` });
  expect([response.statusCode, response.json().error.code, response.headers['retry-after']]).toEqual([
    status,
    expected,
    retryAfter,
  ]);
  expect(response.body).not.toContain('hunter2');
});

test('no error holds a stack', async () => {
  for (const url of ['/fault', '/malformed', '/database-gone', '/no-such', '/who']) {
    const { text } = await send(url);
    expect(text).not.toMatch(/\bat .*\.ts|node_modules|Error:/);
  }
});

test('every answer has a request id of its own, which a client cannot choose', async () => {
  const ids = new Set<unknown>();
  for (const url of ['/things/1', '/no-such', '/who', '/fault']) {
    const { headers } = await send(url, { headers: { 'x-request-id': 'chosen\r\nx: y', 'request-id': 'chosen' } });
    expect(headers['x-request-id']).toMatch(/^req_[0-9a-f]{32}$/);
    ids.add(headers['x-request-id']);
  }
  expect(ids.size).toBe(4);
});

test('a value with CR and LF in a path comes back as data only', async () => {
  const { body, headers } = await send('/things/a%0d%0aset-cookie:%20x');
  expect(body.id).toBe('a\r\nset-cookie: x');
  expect(headers['set-cookie']).toBeUndefined();
});

test.each(['/%', '/%zz', '/things/%C0%80'])('the path %s, which cannot be decoded, is refused in JSON', async (url) => {
  const { status, headers, body } = await send(url);
  expect([status, body.error.code]).toEqual([400, 'malformed_request']);
  expect(body.error.request_id).toBe(headers['x-request-id']);
});

test('a request without a key is told which kind is wanted', async () => {
  const { status, headers } = await send('/who');
  expect([status, headers['www-authenticate']]).toEqual([401, 'Bearer realm="posthorn"']);
});

test('a request comes from where a trusted proxy says, and from nowhere else', async () => {
  const trusting = createHttpServer({
    logger: createLogger('silent'),
    authenticate: () => CALLER,
    trustedProxies: ['10.0.0.0/8'],
  });
  trusting.get('/ip', { config: { permission: 'public' } }, (request) => ({ ip: request.ip }));
  const ipOf = async (remoteAddress: string, forwardedFor: string, server = trusting) => {
    const answer = await server.inject({ url: '/ip', remoteAddress, headers: { 'x-forwarded-for': forwardedFor } });
    return answer.json().ip;
  };
  expect(await ipOf('10.1.1.1', '1.1.1.1, 198.51.100.1, 10.2.2.2')).toBe('198.51.100.1');
  expect(await ipOf('203.0.113.1', '198.51.100.1')).toBe('203.0.113.1');
  expect(await ipOf('10.1.1.1', '<script>')).toBe('10.1.1.1');
  await trusting.close();
  const other = createHttpServer({ logger: createLogger('silent'), authenticate: () => CALLER });
  other.get('/ip', { config: { permission: 'public' } }, (request) => ({ ip: request.ip }));
  expect(await ipOf('10.1.1.1', '198.51.100.1', other)).toBe('10.1.1.1');
  await other.close();
});
