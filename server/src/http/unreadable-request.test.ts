import { once } from 'node:events';
import { connect } from 'node:net';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createLogger } from '../kernel/logger.ts';
import { createHttpServer, type HttpServer } from './server.ts';

let app: HttpServer;
let port: number;
beforeAll(async () => {
  app = createHttpServer({ logger: createLogger('silent'), authenticate: () => expect.unreachable() });
  app.get('/', { config: { permission: 'public' } }, () => 'here');
  port = Number(new URL(await app.listen({ host: '127.0.0.1', port: 0 })).port);
});
afterAll(() => app.close());

/** Everything the server sends until it closes the connection. */
async function exchange(sent: string): Promise<string> {
  const socket = connect(port, '127.0.0.1');
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  socket.write(sent);
  await once(socket, 'close');
  return Buffer.concat(chunks).toString();
}

test.each([
  ['no HTTP at all', 'hello\r\n\r\n', 400, 'malformed_request'],
  [
    'a header with a bare line feed in its name',
    'GET / HTTP/1.1\r\nHost: x\r\nBad\nName: x\r\n\r\n',
    400,
    'malformed_request',
  ],
  [
    'two lengths of one body',
    'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab',
    400,
    'malformed_request',
  ],
  [
    'a length beside chunks',
    'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
    400,
    'malformed_request',
  ],
  ['headers of 100 kB', `GET / HTTP/1.1\r\nHost: x\r\nX-Big: ${'x'.repeat(100_000)}\r\n\r\n`, 431, 'headers_too_large'],
])('%s is answered in the shape of every error, and the connection is closed', async (_name, sent, status, code) => {
  const answer = await exchange(sent);
  expect(answer).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
  const { error } = JSON.parse(answer.slice(answer.indexOf('\r\n\r\n') + 4));
  expect(error).toEqual({
    code,
    message: expect.any(String),
    details: {},
    request_id: expect.stringMatching(/^req_[0-9a-f]{32}$/),
  });
});
