import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Type } from 'typebox';
import { afterEach, expect, test } from 'vitest';
import { ApiError, apiPath, createApiClient, fetchReadiness, UnreachableError } from './api-client.ts';
import type { Connection } from './connection.ts';

const servers: Server[] = [];

afterEach(() => {
  for (const server of servers.splice(0)) {
    server.close();
    server.closeAllConnections();
  }
});

/** A server that gives every request the same answer; its last request is kept. */
async function answering(
  status: number,
  body: unknown,
): Promise<{ connection: Connection; last: () => IncomingMessage | undefined }> {
  let last: IncomingMessage | undefined;
  const server = createServer((request, response) => {
    last = request;
    response.writeHead(status).end(typeof body === 'string' ? body : JSON.stringify(body));
  }).listen(0, '127.0.0.1');
  servers.push(server);
  await once(server, 'listening');
  return { connection: connectionTo(`http://127.0.0.1:${(server.address() as AddressInfo).port}`), last: () => last };
}

function connectionTo(url: string): Connection {
  return { url, key: 'the-key', keySource: '/data/operator.key', tenant: undefined, environment: undefined };
}

async function failureOf(status: number, body: unknown): Promise<Error> {
  const { connection } = await answering(status, body);
  return createApiClient(connection)
    .callRaw({ method: 'GET', path: '/x' })
    .then(
      () => new Error('it did not fail'),
      (error: Error) => error,
    );
}

test('a call carries key, tenant and environment, and gives the checked answer', async () => {
  const { connection, last } = await answering(200, { id: 'whk_1' });
  const client = createApiClient({ ...connection, tenant: 'acme', environment: 'staging' });
  const answer = await client.call(Type.Object({ id: Type.String() }), {
    method: 'POST',
    path: '/x',
    body: { a: 1 },
    idempotencyKey: 'once',
  });
  expect(answer.id).toBe('whk_1');
  expect(last()?.headers).toMatchObject({
    authorization: 'Bearer the-key',
    'x-tenant-id': 'acme',
    'x-environment': 'staging',
    'idempotency-key': 'once',
    'content-type': 'application/json',
  });
});

test('a server that is not running is one line that says how to start it', async () => {
  const { connection } = await answering(200, {});
  servers[0]?.close();
  const failure = createApiClient(connection).callRaw({ method: 'GET', path: '/x' });
  await expect(failure).rejects.toThrow(UnreachableError);
  await expect(failure).rejects.toThrow(
    `No Posthorn answers at ${connection.url} (ECONNREFUSED): start it with "npx posthorn dev"`,
  );
  await expect(fetchReadiness(connection.url)).rejects.toThrow(UnreachableError);
});

test('an error answer gives its message and every field that is wrong', async () => {
  const failure = await failureOf(422, {
    error: {
      code: 'validation_failed',
      message: 'url: is required',
      details: {
        fields: [
          { path: 'url', message: 'is required' },
          { path: 'events', message: 'must not be empty' },
        ],
      },
    },
  });
  expect(failure).toBeInstanceOf(ApiError);
  expect(failure).toMatchObject({ status: 422, code: 'validation_failed' });
  expect(failure.message).toBe(
    'url: is required (422 validation_failed)\n  url: is required\n  events: must not be empty',
  );
});

test('a refused key says where it came from and not what it is', async () => {
  const failure = await failureOf(401, { error: { code: 'unauthorized', message: 'A valid key is needed.' } });
  expect(failure.message).toContain('The key came from /data/operator.key.');
  expect(failure.message).not.toContain('the-key');
});

test('a failure of the server gives the request id, and a busy server the time to come back', async () => {
  const failure = await failureOf(503, {
    error: { code: 'unavailable', message: 'Later.', request_id: 'req_1', retry_after: '2025-01-01T00:00:00.000Z' },
  });
  expect(failure.message).toContain('Try again after 2025-01-01T00:00:00.000Z.');
  expect(failure.message).toContain('Request req_1.');
});

test('control characters of an answer do not reach the terminal', async () => {
  const failure = await failureOf(400, { error: { code: 'x', message: 'a\u001b[2Jb\nc' } });
  expect(failure.message).toBe('a\\u001b[2Jb\\u000ac (400 x)');
});

test.each([
  [404, '<html>not found</html>'],
  [500, { error: 'text' }],
  [502, { error: null }],
  [302, ''],
  [200, 'hello'],
  [200, { data: 'of another program' }],
  [200, '{"__proto__": {"id": "x"}}'],
])('an answer %i that is not of this API (%j) is told as such', async (status, body) => {
  const { connection } = await answering(status, body);
  const call = createApiClient(connection).call(Type.Object({ id: Type.String() }), { method: 'GET', path: '/x' });
  await expect(call).rejects.toThrow(/with something that is not this Posthorn's API/);
});

test('an id from outside stays one segment of the path', () => {
  expect(apiPath('/api/v1/api-keys', 'a/b?c#d e')).toBe('/api/v1/api-keys/a%2Fb%3Fc%23d%20e');
  for (const id of ['', '.', '..']) expect(() => apiPath('/api/v1/api-keys', id)).toThrow('cannot be an id');
});

test('readiness tells ready from not ready', async () => {
  expect(await fetchReadiness((await answering(200, {})).connection.url)).toMatchObject({ ready: true });
  expect(await fetchReadiness((await answering(503, {})).connection.url)).toMatchObject({ ready: false, status: 503 });
});
