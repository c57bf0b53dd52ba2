import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { type DatabaseHandle, openDatabase } from '../db/pool.ts';
import { systemClock } from '../kernel/clock.ts';
import { AppError, conflict, forbidden, invalidField } from '../kernel/errors.ts';
import { createIdSource } from '../kernel/ids.ts';
import { createLogger } from '../kernel/logger.ts';
import { createTestDatabase, type TestDatabase } from '../testing/database.ts';
import { testSecretBox } from '../testing/secret-box.ts';
import type { Caller, Scope } from './caller.ts';
import { registerIdempotency } from './idempotency.ts';
import { purgeIdempotentRequests } from './idempotency-queries.ts';
import type { Role } from './permissions.ts';
import { createHttpServer, type HttpServer } from './server.ts';

const DAY_MS = 86_400_000;
const newId = createIdSource();
const logLines: string[] = [];

let database: TestDatabase;
let handle: DatabaseHandle;
let app: HttpServer;
let nowMs: number;
let scope: Scope;
let role: Role = 'owner';
/** What the handlers did, in order. */
let done: unknown[];
/** What the next request to `/things` waits for before it does its work. */
let gate: Promise<void> | undefined;
/** How many requests have come as far as that. */
let arrived: number;

beforeAll(async () => {
  database = await createTestDatabase();
  const logger = createLogger('info', { write: (line) => void logLines.push(line) });
  handle = openDatabase({ connection: database.connection, logger });
  const { db } = handle;
  app = createHttpServer({
    logger,
    authenticate: (): Caller => ({
      actor: { kind: 'api_key', id: 'key_test' },
      ...scope,
      environmentName: 'production',
      role,
    }),
  });
  const clock = { ...systemClock, now: () => nowMs };
  registerIdempotency(app, { db, box: testSecretBox(), clock });

  app.post('/things', { config: { permission: 'develop' } }, async (request, reply) => {
    arrived += 1;
    await gate;
    done.push(request.body);
    reply.code(201).header('content-type', 'application/vnd.thing+json');
    return `{"number": ${done.length}, "secret": "s-${done.length}", "big": 12345678901234567890}`;
  });
  app.post('/empty', { config: { permission: 'develop' } }, async (_request, reply) => {
    done.push('empty');
    return reply.code(204).send();
  });
  app.post('/own', { config: { permission: 'publish', idempotency: 'own' } }, async () => ({
    number: done.push('own'),
  }));
  app.post('/public', { config: { permission: 'public' } }, async () => ({ number: done.push('public') }));
  app.get('/things', { config: { permission: 'read' } }, async () => ({ number: done.push('get') }));
  app.delete('/things', { config: { permission: 'develop' } }, async () => ({ number: done.push('delete') }));
  app.post('/fails/:how', { config: { permission: 'develop' } }, async (request) => {
    done.push('failed');
    throw FAILURES[(request.params as { how: string }).how];
  });
});

afterAll(async () => {
  await app.close();
  await handle.close();
  await database.drop();
});

beforeEach(() => {
  role = 'owner';
  nowMs = Date.parse('2026-03-01T10:00:00Z');
  scope = { tenantId: newId(), environmentId: newId() };
  done = [];
  gate = undefined;
  arrived = 0;
});

const FAILURES: Record<string, Error> = {
  fault: new Error('a fault'),
  unavailable: new AppError({ code: 'unavailable', message: 'Later.', retryAfterSeconds: 2 }),
  forbidden: forbidden('No.'),
  limited: new AppError({ code: 'rate_limited', message: 'Slowly.', retryAfterSeconds: 2 }),
  conflict: conflict('name_taken', 'It is taken.'),
  invalid: invalidField('name', 'is bad'),
};

async function post(
  url: string,
  key: string | undefined,
  payload?: string,
  method: 'POST' | 'GET' | 'DELETE' = 'POST',
) {
  const response = await app.inject({
    method,
    url,
    headers: {
      ...(key !== undefined && { 'idempotency-key': key }),
      ...(payload !== undefined && { 'content-type': 'application/json' }),
    },
    ...(payload !== undefined && { payload }),
  });
  return {
    status: response.statusCode,
    text: response.body,
    code: response.body.startsWith('{"error"') ? response.json().error.code : undefined,
    contentType: response.headers['content-type'],
    replayed: response.headers['idempotent-replayed'],
    retryAfter: response.headers['retry-after'],
    requestId: response.headers['x-request-id'],
  };
}

async function storedRows() {
  return handle.db.selectFrom('idempotent_requests').selectAll().where('tenant_id', '=', scope.tenantId).execute();
}

test('the same request with the same key gets the same bytes for 24 hours, and the work is done once', async () => {
  const first = await post('/things', 'k-1', '{"a":1}');
  expect([first.status, first.replayed]).toEqual([201, undefined]);
  for (const laterMs of [0, 1, 3_600_000, DAY_MS - 1]) {
    nowMs = Date.parse('2026-03-01T10:00:00Z') + laterMs;
    const again = await post('/things', 'k-1', '{"a":1}');
    expect(again).toEqual({ ...first, replayed: 'true', requestId: again.requestId });
    expect(again.requestId).not.toBe(first.requestId);
  }
  expect(done).toEqual([{ a: 1 }]);
  nowMs = Date.parse('2026-03-01T10:00:00Z') + DAY_MS;
  expect((await post('/things', 'k-1', '{"a":2}')).status).toBe(201);
  expect(done).toHaveLength(2);
});

test('an answer without a body is given again without one', async () => {
  const first = await post('/empty', 'k-1');
  expect([first.status, first.text]).toEqual([204, '']);
  const again = await post('/empty', 'k-1');
  expect(again).toEqual({ ...first, replayed: 'true', requestId: again.requestId });
  expect(done).toEqual(['empty']);
});

test.each([
  ['another body', '/things', '{"a":2}'],
  ['another spelling of the body', '/things', '{"a":1.0}'],
  ['no body', '/things', undefined],
  ['another query', '/things?x=1', '{"a":1}'],
  ['another path', '/empty', '{"a":1}'],
])('the same key with %s is a 409, and nothing is done', async (_what, url, payload) => {
  await post('/things', 'k-1', '{"a":1}');
  const other = await post(url, 'k-1', payload);
  expect([other.status, other.code, other.replayed]).toEqual([409, 'idempotency_key_reused', undefined]);
  expect(done).toHaveLength(1);
  expect((await post('/things', 'k-1', '{"a":1}')).replayed).toBe('true');
});

test('a key is its tenant’s and its environment’s', async () => {
  const first = await post('/things', 'k-1', '{"a":1}');
  scope = { ...scope, environmentId: newId() };
  const inOtherEnvironment = await post('/things', 'k-1', '{"a":1}');
  scope = { ...scope, tenantId: newId() };
  const ofOtherTenant = await post('/things', 'k-1', '{"a":1}');
  expect([inOtherEnvironment.replayed, ofOtherTenant.replayed]).toEqual([undefined, undefined]);
  expect(new Set([first.text, inOtherEnvironment.text, ofOtherTenant.text]).size).toBe(3);
});

test('twenty identical requests at once do the work once', async () => {
  const answers = await Promise.all(Array.from({ length: 20 }, () => post('/things', 'k-1', '{"a":1}')));
  expect(done).toHaveLength(1);
  expect(answers.filter((answer) => answer.status === 201 && answer.replayed === undefined)).toHaveLength(1);
  for (const answer of answers) {
    if (answer.status === 201) expect(answer.text).toContain('"number": 1');
    else expect([answer.status, answer.code]).toEqual([409, 'idempotency_in_progress']);
  }
  expect(await storedRows()).toHaveLength(1);
});

test('while the first is under way the second is told when to try again, and another request is told it is another', async () => {
  const { promise, resolve } = Promise.withResolvers<void>();
  gate = promise;
  const first = post('/things', 'k-1', '{"a":1}');
  await expect.poll(() => arrived).toBe(1);
  const second = await post('/things', 'k-1', '{"a":1}');
  expect([second.status, second.code, second.retryAfter]).toEqual([409, 'idempotency_in_progress', '1']);
  const other = await post('/things', 'k-1', '{"a":2}');
  expect([other.status, other.code]).toEqual([409, 'idempotency_key_reused']);
  // Neither refusal took the key from the first.
  resolve();
  expect((await first).status).toBe(201);
  expect((await post('/things', 'k-1', '{"a":1}')).replayed).toBe('true');
  expect(done).toHaveLength(1);
});

test('who may not see what the first caller was shown makes another request with the same key', async () => {
  const shown = await post('/things', 'k-1', '{"a":1}');
  role = 'developer';
  const other = await post('/things', 'k-1', '{"a":1}');
  expect([other.status, other.code]).toEqual([409, 'idempotency_key_reused']);
  role = 'admin';
  expect((await post('/things', 'k-1', '{"a":1}')).text).toBe(shown.text);
});

test('a request left under way by a dead process is taken over after a minute, by one of many', async () => {
  const { promise, resolve } = Promise.withResolvers<void>();
  gate = promise;
  const dead = post('/things', 'k-1', '{"a":1}');
  await expect.poll(() => arrived).toBe(1);
  gate = undefined;
  nowMs += 59_999;
  expect((await post('/things', 'k-1', '{"a":1}')).code).toBe('idempotency_in_progress');
  nowMs += 1;
  expect((await post('/things', 'k-1', '{"a":2}')).code).toBe('idempotency_key_reused');
  const answers = await Promise.all(Array.from({ length: 10 }, () => post('/things', 'k-1', '{"a":1}')));
  expect(answers.filter((answer) => answer.status === 201 && answer.replayed === undefined)).toHaveLength(1);
  const kept = await post('/things', 'k-1', '{"a":1}');
  expect(done).toHaveLength(1);
  // Should the first be alive after all, its late end changes nothing of what was kept.
  resolve();
  expect((await dead).status).toBe(201);
  expect((await post('/things', 'k-1', '{"a":1}')).text).toBe(kept.text);
});

test('a late failure of a request that was taken over does not free the key', async () => {
  const { promise, reject } = Promise.withResolvers<void>();
  gate = promise;
  const dead = post('/things', 'k-1', '{"a":1}');
  await expect.poll(() => arrived).toBe(1);
  gate = undefined;
  nowMs += 60_000;
  const kept = await post('/things', 'k-1', '{"a":1}');
  reject(new Error('late'));
  expect((await dead).status).toBe(500);
  expect((await post('/things', 'k-1', '{"a":1}')).text).toBe(kept.text);
});

test.each(['fault', 'unavailable', 'forbidden', 'limited'])(
  'after the failure "%s" the next try is a first one',
  async (how) => {
    const first = await post(`/fails/${how}`, 'k-1');
    const second = await post(`/fails/${how}`, 'k-1');
    expect(second.status).toBe(first.status);
    expect(second.replayed).toBeUndefined();
    expect(done).toEqual(['failed', 'failed']);
    expect(await storedRows()).toEqual([]);
  },
);

test.each(['conflict', 'invalid'])('the refusal "%s" is kept as any other answer', async (how) => {
  const first = await post(`/fails/${how}`, 'k-1');
  const second = await post(`/fails/${how}`, 'k-1');
  expect([second.status, second.text, second.replayed]).toEqual([first.status, first.text, 'true']);
  expect(done).toEqual(['failed']);
});

test.each([
  ['without a key', '/things', undefined, 'POST'],
  ['with GET', '/things', 'k-1', 'GET'],
  ['with DELETE', '/things', 'k-1', 'DELETE'],
  ['on a route that takes care of it itself', '/own', 'k-1', 'POST'],
  ['without a caller', '/public', 'k-1', 'POST'],
] as const)('a request %s is done each time and leaves no row', async (_what, url, key, method) => {
  await post(url, key, undefined, method);
  await post(url, key, undefined, method);
  expect(done).toHaveLength(2);
  expect(await storedRows()).toEqual([]);
});

test('a path that is not there stays a 404', async () => {
  expect((await post('/no-such', 'k-1')).status).toBe(404);
});

test.each(['', ' ', 'a b', 'a\tb', 'a\r\nb', 'a\0', 'ä', 'a\u007f'])(
  'the key %j is a 400, and nothing is done',
  async (key) => {
    const { status, code } = await post('/things', key, '{}');
    expect([status, code]).toEqual([400, 'invalid_idempotency_key']);
    expect(done).toEqual([]);
  },
);

test('a key has at most 255 characters', async () => {
  expect((await post('/things', 'x'.repeat(255), '{}')).status).toBe(201);
  for (const length of [256, 100_000]) {
    expect((await post('/things', 'x'.repeat(length), '{}')).code).toBe('invalid_idempotency_key');
  }
  expect(done).toHaveLength(1);
});

test.each(["';DROP", '__proto__', '../x', '!~'])('the key %j is a key as any other', async (key) => {
  await post('/things', key, '{}');
  expect((await post('/things', key, '{}')).replayed).toBe('true');
});

test('neither the answer nor the request can be read from the database or the log', async () => {
  await post('/things', 'k-1', '{"password":"hunter2"}');
  const [row] = await storedRows();
  const stored = `${row?.response_box?.toString('latin1')}${row?.request_hash.toString('latin1')}`;
  for (const secret of ['s-1', 'secret', 'hunter2']) {
    expect(stored).not.toContain(secret);
    expect(logLines.join()).not.toContain(secret);
  }
  // Moved to another key's row, a sealed answer does not open.
  await handle.db
    .updateTable('idempotent_requests')
    .set({ key: 'k-2' })
    .where('tenant_id', '=', scope.tenantId)
    .execute();
  expect((await post('/things', 'k-2', '{"password":"hunter2"}')).status).toBe(500);
});

test('an answer that cannot be kept is given all the same, and logged', async () => {
  const { promise, resolve } = Promise.withResolvers<void>();
  gate = promise;
  const first = post('/things', 'k-1', '{}');
  await expect.poll(() => arrived).toBe(1);
  await handle.pool.query('ALTER TABLE idempotent_requests RENAME TO away');
  try {
    logLines.length = 0;
    resolve();
    expect((await first).status).toBe(201);
    expect(logLines.join()).toContain('an idempotent answer was not kept');
  } finally {
    await handle.pool.query('ALTER TABLE away RENAME TO idempotent_requests');
  }
});

test('the purge removes what is older than 24 hours and nothing younger', async () => {
  await purgeIdempotentRequests(handle.db, nowMs + DAY_MS);
  await post('/things', 'old', '{}');
  nowMs += 1;
  await post('/things', 'young', '{}');
  expect(await purgeIdempotentRequests(handle.db, nowMs - 2 + DAY_MS)).toBe(0);
  expect(await purgeIdempotentRequests(handle.db, nowMs - 1 + DAY_MS)).toBe(1);
  expect((await storedRows()).map((row) => row.key)).toEqual(['young']);
});
