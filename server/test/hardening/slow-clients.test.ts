import { afterEach, describe, expect, test } from 'vitest';
import { createHttpServer, type HttpBounds, type HttpServer } from '../../src/http/server.ts';
import { createLogger } from '../../src/kernel/logger.ts';
import { eventually } from '../../src/testing/eventually.ts';
import { OPERATOR_KEY, startTestPosthorn, type TestPosthorn } from '../../src/testing/posthorn.ts';
import { connectWire, type Wire } from './wire.ts';

const wires: Wire[] = [];
afterEach(() => {
  for (const { socket } of wires.splice(0)) socket.destroy();
});
async function open(url: string): Promise<Wire> {
  const wire = await connectWire(url);
  wires.push(wire);
  return wire;
}

describe('the HTTP server, with bounds that a test can wait for,', () => {
  let app: HttpServer;
  let handled = 0;
  afterEach(() => app.close());

  async function listen(bounds: Partial<HttpBounds>): Promise<string> {
    handled = 0;
    app = createHttpServer({ logger: createLogger('silent'), authenticate: () => expect.unreachable(), bounds });
    app.post('/', { config: { permission: 'public' } }, () => {
      handled += 1;
      return {};
    });
    app.get('/large', { config: { permission: 'public' } }, () => {
      handled += 1;
      return 'a'.repeat(4_000_000);
    });
    return app.listen({ host: '127.0.0.1', port: 0 });
  }
  const open408 = { status: 408, headers: { connection: 'close', 'x-content-type-options': 'nosniff' } };
  const HEAD = 'POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n';

  test.each([
    ['headers', 'POST / HTTP/1.1\r\nHost: a\r\nX-A: ', 'a'],
    ['a body', `${HEAD}Content-Length: 1000000\r\n\r\n`, ' '],
    ['chunks', `${HEAD}Transfer-Encoding: chunked\r\n\r\n`, '1\r\n \r\n'],
  ])('waits so long for %s that come byte by byte, and no longer', async (_name, start, more) => {
    const wire = await open(await listen({ requestMs: 300, checkMs: 50 }));
    wire.socket.write(start);
    // Each byte would begin the wait anew, if it were for silence.
    const trickle = setInterval(() => wire.socket.write(more), 20);
    const answers = await wire.until(1);
    clearInterval(trickle);
    await wire.closed;
    expect(answers).toMatchObject([open408]);
    expect(JSON.parse(answers[0]?.text ?? '').error.code).toBe('request_timeout');
    expect(handled).toBe(0);
  });

  test('waits so long for the first byte of a connection, and no longer', async () => {
    const wire = await open(await listen({ requestMs: 300, checkMs: 50 }));
    await wire.closed;
    expect(wire.answers().map(({ status }) => status)).toEqual([408]);
  });

  test('cuts a client that does not read its answers', async () => {
    const url = await listen({ silenceMs: 300 });
    const wire = await open(url);
    wire.socket.pause();
    wire.socket.write('GET /large HTTP/1.1\r\nHost: a\r\n\r\n');
    await eventually(
      async () => handled,
      (count) => count === 1,
    );
    await eventually(connections, (count) => count === 0);
  });

  test('answers sixteen requests that wait behind another one, and no more', async () => {
    const wire = await open(await listen({}));
    wire.socket.write(`GET /large HTTP/1.1\r\nHost: a\r\n\r\n${`${HEAD}Content-Length: 2\r\n\r\n{}`.repeat(400)}`);
    await wire.closed;
    const statuses = wire.answers().map(({ status }) => status);
    expect(statuses).toEqual([...Array(17).fill(200), 400]);
    expect(handled).toBe(17);
  });

  test('closes connections over their number unheard, and takes new ones when others are gone', async () => {
    const url = await listen({ connections: 3 });
    const taken = [await open(url), await open(url), await open(url)];
    const over = await open(url);
    await over.closed;
    expect(over.answers()).toEqual([]);
    for (const wire of taken) {
      wire.socket.write(`${HEAD}Content-Length: 2\r\n\r\n{}`);
      expect((await wire.until(1))[0]?.status).toBe(200);
    }
    taken[0]?.socket.destroy();
    await eventually(connections, (count) => count === 2);
    const next = await open(url);
    next.socket.write(`${HEAD}Content-Length: 2\r\n\r\n{}`);
    expect((await next.until(1))[0]?.status).toBe(200);
  });

  const connections = () => new Promise<number>((resolve) => app.server.getConnections((_, count) => resolve(count)));
});

describe('the whole program, while somebody', () => {
  let posthorn: TestPosthorn;
  afterEach(() => posthorn.stop());
  const PUBLISH = '{"event_type":"a.b","data":1}';
  const HEAD = `POST /api/v1/events HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${OPERATOR_KEY}\r\nContent-Type: application/json\r\n`;
  const publish = `${HEAD}Content-Length: ${PUBLISH.length}\r\n\r\n${PUBLISH}`;

  /** That others are served, in far less time than any of the bounds. */
  async function expectServed(): Promise<void> {
    for (let count = 0; count < 20; count += 1) {
      const startMs = performance.now();
      expect((await posthorn.call('POST', '/api/v1/events', PUBLISH)).status).toBe(202);
      expect((await posthorn.call('GET', '/health/ready')).status).toBe(200);
      expect(performance.now() - startMs).toBeLessThan(3_000);
    }
  }
  async function openMany(count: number, each: (wire: Wire, at: number) => void): Promise<void> {
    for (let at = 0; at < count; at += 100) {
      await Promise.all(Array.from({ length: 100 }, async (_, more) => each(await open(posthorn.url), at + more)));
    }
  }
  const memory = () => {
    const { rss } = process.memoryUsage();
    return rss;
  };

  test('holds 2,000 connections that say nothing, little or half of it', async () => {
    posthorn = await startTestPosthorn();
    await expectServed();
    const before = memory();
    const STARTS = [
      '',
      'P',
      HEAD,
      `${HEAD}Content-Length: 1000000\r\n\r\n{`,
      'GET /health/live HTTP/1.1\r\nHost: a\r\nX-A: ',
    ];
    await openMany(2_000, ({ socket }, at) => socket.write(STARTS[at % STARTS.length] ?? ''));
    await expectServed();
    // Both ends of each are in this process.
    expect((memory() - before) / 2_000).toBeLessThan(100_000);
    expect(wires.every((wire) => !wire.isClosed() && wire.answers().length === 0)).toBe(true);
  });

  test('sends a million bytes each of 200 requests without a key that never end', async () => {
    posthorn = await startTestPosthorn();
    await expectServed();
    const unknown = `POST /api/v1/events HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 1000001\r\n\r\n`;
    await openMany(200, ({ socket }) => socket.write(unknown + 'a'.repeat(1_000_000)));
    // Sixty have room; of the others it is asked who they are, before their bodies are read.
    await eventually(
      async () => wires.filter((wire) => wire.answers()[0]?.status === 401).length,
      (count) => count >= 130,
    );
    await expectServed();
  });

  test('asks 20,000 times at once and reads nothing of what is answered', async () => {
    posthorn = await startTestPosthorn();
    await expectServed();
    const flood = await open(posthorn.url);
    flood.socket.pause();
    flood.socket.write(publish.repeat(10_000));
    const other = await open(posthorn.url);
    other.socket.pause();
    const before = memory();
    other.socket.write('GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n'.repeat(10_000));
    await expectServed();
    expect(memory() - before).toBeLessThan(150_000_000);
    expect(flood.isClosed()).toBe(false);
  });

  test('closes in the middle of whatever it sent', async () => {
    posthorn = await startTestPosthorn();
    for (let length = 1; length < publish.length; length += 7) {
      const { socket, closed } = await open(posthorn.url);
      if (length % 2 === 0) socket.end(publish.slice(0, length));
      else {
        socket.write(publish.slice(0, length));
        socket.resetAndDestroy();
      }
      await closed;
    }
    await expectServed();
  });
});
