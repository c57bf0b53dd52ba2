import { once } from 'node:events';
import { createServer, request as httpRequest, type Server } from 'node:http';
import net, { type AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { eventually } from '../../testing/eventually.ts';
import { ManualClock } from '../../testing/manual-clock.ts';
import { ANSWER_HEADER_LINES } from '../security-headers.ts';
import {
  type DirectAnswer,
  type DirectRequest,
  IDLE_MS_MAX,
  READING_MS_MAX,
  UNREAD_MS_MAX,
} from './direct-connection.ts';
import { DirectServer } from './direct-server.ts';

/** Bytes of unfinished bodies: of two of the largest that are sent here, and not of three. */
const READING_BYTES_MAX = 250_000;

let clock: ManualClock;
let server: Server;
let direct: DirectServer;
let handled: { request: DirectRequest; answer: (answer: DirectAnswer) => void }[];
let sockets: net.Socket[];
/** What to do with a request; by default its body comes back. */
let handle: (request: DirectRequest, answer: (answer: DirectAnswer) => void) => boolean;

beforeEach(async () => {
  clock = new ManualClock();
  handled = [];
  sockets = [];
  handle = (request, answer) => {
    answer({ status: 202, body: request.body.toString() });
    return true;
  };
  server = createServer((request, response) => {
    let body = '';
    request.on('data', (part) => {
      body += part;
    });
    request.on('end', () => response.end(`server: ${request.method} ${request.url} ${body}`));
  });
  const route = {
    requestLine: 'POST /direct HTTP/1.1',
    bodyBytesMax: 100_000,
    newRequestId: () => `req_${handled.length}`,
    handle: (request: DirectRequest, answer: (answer: DirectAnswer) => void) => {
      handled.push({ request, answer });
      return handle(request, answer);
    },
  };
  direct = new DirectServer(server, clock, route, READING_BYTES_MAX);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
});
afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  direct.close();
  direct.destroy();
  server.closeAllConnections();
  server.close();
  await once(server, 'close');
});

interface Caller {
  socket: net.Socket;
  received: () => string;
  /** Waits until so many answers have come. */
  answers: (count: number) => Promise<string[]>;
}

async function connect(): Promise<Caller> {
  const socket = net.connect({ port: (server.address() as AddressInfo).port, host: '127.0.0.1', allowHalfOpen: true });
  sockets.push(socket);
  let text = '';
  socket.on('data', (bytes) => {
    text += bytes.toString('latin1');
  });
  socket.on('error', () => {});
  await once(socket, 'connect');
  const split = () => text.split(/(?=HTTP\/1\.1 )/).filter((part) => part !== '');
  const isWhole = (answer: string) => {
    const [head = '', body = ''] = answer.split('\r\n\r\n');
    return body.length >= Number(/content-length: (\d+)/i.exec(head)?.[1] ?? Number.POSITIVE_INFINITY);
  };
  return {
    socket,
    received: () => text,
    answers: (count) =>
      eventually(
        async () => split(),
        (found) => found.length >= count && found.slice(0, count).every(isWhole),
      ),
  };
}

const post = (body: string, headers = '', path = '/direct') =>
  `POST ${path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n${headers}Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;
const brief = (answers: string[]) => answers.map((answer) => answer.split('\r\n\r\n')[1]);

describe('requests of the route', () => {
  test('are answered one after the other on one connection', async () => {
    const { socket, answers } = await connect();
    socket.write(post('{"n":1}', 'X-A: b\r\n'));
    const [first = ''] = await answers(1);
    expect(first).toBe(
      `HTTP/1.1 202 Accepted\r\nx-request-id: req_0\r\n${ANSWER_HEADER_LINES}` +
        'content-type: application/json; charset=utf-8\r\n' +
        'content-length: 7\r\ndate: Thu, 15 Jan 2026 12:00:00 GMT\r\nconnection: keep-alive\r\n' +
        'keep-alive: timeout=65\r\n\r\n{"n":1}',
    );
    expect({ ...handled[0]?.request.headers }).toMatchObject({ host: 'a', 'x-a': 'b' });
    socket.write(post('{"n":2}', 'X-A: c\r\n'));
    expect(brief(await answers(2))).toEqual(['{"n":1}', '{"n":2}']);
    expect(handled[1]?.request.headers['x-a']).toBe('c');
  });

  test('may come in pieces, and the length is in bytes', async () => {
    const { socket, answers } = await connect();
    const whole = Buffer.from(post(`"${'ü'.repeat(30_000)}"`));
    socket.write(whole.subarray(0, 200));
    await eventually(
      async () => socket.bytesWritten,
      (bytes) => bytes === 200,
    );
    socket.write(whole.subarray(200));
    expect((await answers(1))[0]).toContain('202 Accepted');
    expect(handled[0]?.request.body.toString()).toBe(`"${'ü'.repeat(30_000)}"`);
  });

  test('that come before the answer to the last one wait for it', async () => {
    handle = () => true;
    const { socket, answers, received } = await connect();
    socket.write(post('1') + post('2'));
    await eventually(
      async () => handled.length,
      (count) => count === 1,
    );
    socket.write(post('3') + post('4', '', '/other'));
    handled[0]?.answer({ status: 202, body: '1' });
    await eventually(
      async () => handled.length,
      (count) => count === 2,
    );
    expect(received()).not.toContain('\r\n\r\n2');
    handled[1]?.answer({ status: 202, body: '2' });
    await eventually(
      async () => handled.length,
      (count) => count === 3,
    );
    handled[2]?.answer({ status: 202, body: '3' });
    expect(brief(await answers(4))).toEqual(['1', '2', '3', 'server: POST /other 4']);
  });

  test('whose answers nobody reads wait, so that no answers pile up', async () => {
    const large = 'a'.repeat(20_000_000);
    handle = (request, answer) => {
      answer({ status: 202, body: request.body.toString() === '1' ? large : '2' });
      return true;
    };
    const { socket, answers } = await connect();
    socket.pause();
    socket.write(post('1') + post('2'));
    await eventually(
      async () => handled.length,
      (count) => count === 1,
    );
    socket.resume();
    expect(brief(await answers(2))[1]).toBe('2');
  });

  test('are answered when the caller has closed his side', async () => {
    handle = () => true;
    const { socket, answers } = await connect();
    socket.end(post('1'));
    await once(socket, 'finish');
    await eventually(
      async () => handled.length,
      (count) => count === 1,
    );
    handled[0]?.answer({ status: 503, headers: { 'retry-after': '2' }, body: '{}' });
    const [only] = await answers(1);
    expect(only).toContain('503 Service Unavailable');
    expect(only).toContain('\r\nretry-after: 2\r\n');
  });

  test('whose caller is gone are answered to nobody', async () => {
    handle = () => true;
    const { socket } = await connect();
    socket.write(post('1'));
    await eventually(
      async () => handled.length,
      (count) => count === 1,
    );
    socket.resetAndDestroy();
    await eventually(
      async () => new Promise<number>((resolve) => server.getConnections((_error, count) => resolve(count))),
      (count) => count === 0,
    );
    handled[0]?.answer({ status: 202, body: '1' });
  });
});

describe('all else is for the server', () => {
  test.for([
    ['another path', post('1', '', '/other'), 'server: POST /other 1'],
    ['a query', post('1', '', '/direct?a=b'), 'server: POST /direct?a=b 1'],
    ['another method', 'GET /direct HTTP/1.1\r\nHost: a\r\n\r\n', 'server: GET /direct '],
    ['a chunked body', chunked('1'), 'server: POST /direct 1'],
    ['a body that is too long', post('1'.repeat(100_001)), `server: POST /direct ${'1'.repeat(100_001)}`],
    ['long headers', post('1', `X-A: ${'a'.repeat(5_000)}\r\n`), 'server: POST /direct 1'],
    ['a repeated header', post('1', 'X-A: b\r\nX-A: c\r\n'), 'server: POST /direct 1'],
  ] as const)('%s', async ([, sent, wanted]) => {
    const { socket, answers } = await connect();
    socket.write(post('first'));
    await answers(1);
    socket.write(sent);
    expect(brief(await answers(2))).toEqual(['first', wanted]);
    socket.write(post('after'));
    expect(brief(await answers(3))[2]).toBe('server: POST /direct after');
    expect(handled).toHaveLength(1);
  });

  test('a head that comes in pieces, byte by byte', async () => {
    const { socket, answers } = await connect();
    for (const byte of post('1')) {
      socket.write(byte);
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(brief(await answers(1))).toEqual(['server: POST /direct 1']);
  });

  test('what the route does not take, with what came behind it', async () => {
    handle = () => false;
    const { socket, answers } = await connect();
    socket.write(post('1') + post('2'));
    expect(brief(await answers(2))).toEqual(['server: POST /direct 1', 'server: POST /direct 2']);
    expect(handled).toHaveLength(1);
  });

  test.for([
    ['nothing that is HTTP', 'hello\r\n\r\n'],
    ['a bare line feed', post('1').replace('Host: a\r\n', 'Host: a\nX: y\r\n')],
    ['two lengths', post('12', 'Content-Length: 1\r\n')],
    ['a length and chunks', post('1', 'Transfer-Encoding: chunked\r\n')],
  ] as const)('%s, which it refuses', async ([, sent]) => {
    const { socket, received } = await connect();
    socket.write(sent);
    await eventually(
      async () => received(),
      (text) => text.startsWith('HTTP/1.1 400'),
    );
    expect(handled).toEqual([]);
  });

  test('a request whose rest does not come', async () => {
    const accepted = once(server, 'connection');
    const { socket, answers } = await connect();
    const [there] = (await accepted) as [net.Socket];
    const part = post('12').slice(0, -1);
    const read = once(there, 'data');
    socket.write(part);
    await read;
    clock.advance(READING_MS_MAX + 5_000);
    socket.write('2');
    expect(brief(await answers(1))).toEqual(['server: POST /direct 12']);
    expect(handled).toEqual([]);
  });
});

test('a connection that is idle for long is closed', async () => {
  const { socket, answers } = await connect();
  socket.write(post('1'));
  await answers(1);
  const closed = once(socket, 'end');
  clock.advance(IDLE_MS_MAX - 5_000);
  socket.write(post('2'));
  await answers(2);
  clock.advance(IDLE_MS_MAX - 5_000);
  expect(socket.readableEnded).toBe(false);
  clock.advance(10_000);
  await closed;
});

test('a connection whose answers nobody reads is cut', async () => {
  handle = (_request, answer) => {
    answer({ status: 202, body: 'a'.repeat(20_000_000) });
    return true;
  };
  const { socket } = await connect();
  socket.pause();
  socket.write(post('1'));
  await eventually(
    async () => handled.length,
    (count) => count === 1,
  );
  const count = () => new Promise<number>((resolve) => server.getConnections((_error, found) => resolve(found)));
  clock.advance(UNREAD_MS_MAX - 5_000);
  expect(await count()).toBe(1);
  clock.advance(10_000);
  await eventually(count, (found) => found === 0);
});

test('unfinished bodies have room for so many bytes together, and give it back', async () => {
  const large = post('1'.repeat(100_000));
  const first = await connect();
  const second = await connect();
  const third = await connect();
  const begin = async ({ socket }: Caller) => {
    const written = socket.bytesWritten + 1_000;
    socket.write(large.slice(0, 1_000));
    await eventually(
      async () => socket.bytesWritten,
      (bytes) => bytes === written,
    );
  };
  /** So that the server has read what was begun before. */
  const roundTrip = async () => {
    const other = await connect();
    other.socket.write(post('2'));
    await other.answers(1);
    other.socket.destroy();
  };
  for (const caller of [first, second, third]) {
    await begin(caller);
    await roundTrip();
  }
  third.socket.write(large.slice(1_000));
  expect(brief(await third.answers(1))[0]).toMatch(/^server: POST/);
  first.socket.write(large.slice(1_000));
  expect(brief(await first.answers(1))[0]).toMatch(/^1{100000}$/);
  second.socket.destroy();
  await roundTrip();
  await begin(first);
  first.socket.write(large.slice(1_000));
  expect(brief(await first.answers(2))[1]).toMatch(/^1{100000}$/);
});

test('a close ends idle connections at once and the others with their answers', async () => {
  handle = () => true;
  const idle = await connect();
  const busy = await connect();
  const ended = Promise.all([once(idle.socket, 'end'), once(busy.socket, 'end')]);
  busy.socket.write(post('1'));
  await eventually(
    async () => handled.length,
    (count) => count === 1,
  );
  direct.close();
  await once(idle.socket, 'end');
  handled[0]?.answer({ status: 202, body: '1' });
  expect((await busy.answers(1))[0]).toContain('\r\nconnection: close\r\n');
  await ended;
  expect(clock.pending).toBe(0);
});

test("a client of Node's own is served by both on one connection", async () => {
  const port = (server.address() as AddressInfo).port;
  const bodies: string[] = [];
  for (const path of ['/direct', '/other']) {
    const request = httpRequest({ port, path, method: 'POST', headers: { 'content-type': 'application/json' } });
    request.end('{"a":1}');
    const [response] = await once(request, 'response');
    bodies.push(String(await response.reduce((text: string, part: Buffer) => text + part.toString(), '')));
  }
  expect(bodies).toEqual(['{"a":1}', 'server: POST /other {"a":1}']);
});

function chunked(body: string): string {
  return `POST /direct HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n${body.length}\r\n${body}\r\n0\r\n\r\n`;
}
