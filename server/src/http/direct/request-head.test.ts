import { once } from 'node:events';
import { createServer, type IncomingMessage } from 'node:http';
import net, { type AddressInfo } from 'node:net';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { readDirectHead } from './request-head.ts';

const LINE = 'POST /direct HTTP/1.1';
const head = (...fields: string[]) => [LINE, 'Host: a', ...fields].join('\r\n');
const PLAIN = ['Content-Type: application/json', 'Content-Length: 2'];

test('a plain head is read', () => {
  const read = readDirectHead(
    head('content-type: application/json; charset=utf-8', 'CONTENT-LENGTH: 12', 'X-A:\t b c '),
    LINE,
  );
  expect(read?.bodyBytes).toBe(12);
  expect({ ...read?.headers }).toEqual({
    host: 'a',
    'content-type': 'application/json; charset=utf-8',
    'content-length': '12',
    'x-a': 'b c',
  });
});

test.for([
  ['another request line', `${LINE} `, ...PLAIN],
  ['no host', LINE, ...PLAIN],
  ['an empty host', LINE, 'Host: ', ...PLAIN],
  ['a host that is none', LINE, 'Host: a/b', ...PLAIN],
  ['two hosts in one', LINE, 'Host: a, b', ...PLAIN],
  ['no length', LINE, 'Host: a', 'Content-Type: application/json'],
  ['no body', LINE, 'Host: a', 'Content-Type: application/json', 'Content-Length: 0'],
  ['a length with a sign', LINE, 'Host: a', 'Content-Type: application/json', 'Content-Length: +2'],
  ['two lengths in one', LINE, 'Host: a', 'Content-Type: application/json', 'Content-Length: 2, 2'],
  ['no type', LINE, 'Host: a', 'Content-Length: 2'],
  ['another type', LINE, 'Host: a', 'Content-Type: text/plain', 'Content-Length: 2'],
  ['another charset', LINE, 'Host: a', 'Content-Type: application/json; charset=latin1', 'Content-Length: 2'],
  ['a name that comes twice', LINE, 'Host: a', ...PLAIN, 'x-a: b', 'X-A: b'],
  ['a connection that is not kept', LINE, 'Host: a', ...PLAIN, 'Connection: close'],
  ['a folded line', LINE, 'Host: a', ...PLAIN, 'X-A: b', ' c'],
  ['a space before the colon', LINE, 'Host: a', ...PLAIN, 'X-A : b'],
  ['no colon', LINE, 'Host: a', ...PLAIN, 'X-A'],
  ['a bare line feed', LINE, 'Host: a', ...PLAIN, 'X-A: b\nX-C: d'],
  ['a bare carriage return', LINE, 'Host: a', ...PLAIN, 'X-A: b\rX-C: d'],
  ['a NUL', LINE, 'Host: a', ...PLAIN, 'X-A: b\0'],
  ['a character beyond ASCII', LINE, 'Host: a', ...PLAIN, 'X-A: \xe4'],
  ['__proto__ twice', LINE, 'Host: a', ...PLAIN, '__proto__: a', '__proto__: b'],
  ...[
    'Transfer-Encoding: chunked',
    'Content-Encoding: gzip',
    'Expect: 100-continue',
    'Upgrade: h2c',
    'Idempotency-Key: a',
    'Origin: https://a.example',
    'TE: trailers',
    'Trailer: x',
  ].map((field) => [field, LINE, 'Host: a', ...PLAIN, field]),
])('left to the server: %s', ([, ...lines]) => {
  expect(readDirectHead(lines.join('\r\n'), LINE)).toBeUndefined();
});

test('what is read is what the HTTP server reads, whatever stands in the head', async () => {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;

  /** What Node's server makes of a request and its body; undefined when it refuses it. */
  const parse = async (text: string): Promise<{ request: IncomingMessage; body: string } | undefined> => {
    const socket = net.connect(port, '127.0.0.1');
    socket.on('error', () => {});
    socket.end(text, 'latin1');
    const over = new AbortController();
    const found = await Promise.race([
      once(server, 'request', over).then(([request]) => request as IncomingMessage),
      once(server, 'clientError', over).then(() => undefined),
    ]);
    over.abort();
    let body = '';
    for await (const part of found?.setEncoding('latin1') ?? []) body += part;
    socket.destroy();
    return found && { request: found, body };
  };

  const pieces = [
    'X-A',
    'Host',
    'Host: [::1]:80',
    'Content-Length',
    'Content-Type',
    'Connection',
    ':',
    ': ',
    ' ',
    '\t',
    '\r\n',
    '\n',
    '\r',
    '\0',
    ',',
    ';',
    '2',
    '02',
    '0x2',
    '+',
    'a',
    'application/json',
    'keep-alive',
    'Transfer-Encoding: chunked',
    '\xff',
    '"',
    '(',
    '_',
  ];
  const field = fc.oneof(
    fc.constantFrom(...PLAIN, 'X-A: b', 'Accept: */*'),
    fc.array(fc.constantFrom(...pieces), { minLength: 1, maxLength: 5 }).map((parts) => parts.join('')),
  );
  let taken = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(field, { maxLength: 5 }), fc.boolean(), async (fields, plain) => {
      const text = head(...(plain ? PLAIN : []), ...fields);
      const read = readDirectHead(text, LINE);
      if (read === undefined) return;
      taken += 1;
      const body = 'POST /hidden HTTP/1.1\r\n'.repeat(read.bodyBytes).slice(0, read.bodyBytes);
      const found = await parse(`${text}\r\n\r\n${body}`);
      const request = found?.request;
      expect(found?.body).toBe(body);
      expect(`${request?.method} ${request?.url} HTTP/${request?.httpVersion}`).toBe(LINE);
      expect(request?.headers).toEqual({ ...read.headers });
    }),
    { numRuns: 2_000 },
  );
  expect(taken).toBeGreaterThan(100);
  server.closeAllConnections();
  server.close();
});
