import type { Socket } from 'node:net';
import { brotliCompressSync, constants, deflateSync, gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { eventually } from '../../testing/eventually.ts';
import { ManualClock } from '../../testing/manual-clock.ts';
import type { AttemptResult } from '../outcome.ts';
import { INTERIM_ANSWERS_MAX, RESPONSE_BYTES_MAX } from './exchange.ts';
import { answer, type RawReceiver, startRawReceiver } from './raw-receiver-fixture.ts';
import { loopbackGuard, openTestSender, type TestSender } from './sender-fixture.ts';

let receiver: RawReceiver;
let clock: ManualClock;
let test: TestSender;
let url: string;

beforeEach(async () => {
  receiver = await startRawReceiver((socket) => socket.write(answer('ok')));
  clock = new ManualClock();
  test = openTestSender({ clock, guard: loopbackGuard({ clock }) });
  url = `http://127.0.0.1:${receiver.port}/hook`;
});

afterEach(async () => {
  await test.sender.stop();
  await receiver.stop();
});

const allClosed = () =>
  eventually(
    async () => receiver.open.size,
    (open) => open === 0,
  );

/** Writes the same again for as long as it is taken. */
function flood(socket: Socket, head: string, again: string): void {
  const block = again.repeat(Math.ceil(16_384 / again.length));
  const write = () => {
    while (!socket.destroyed && socket.write(block));
  };
  socket.on('drain', write);
  socket.write(head);
  write();
}

/** `200 "ok"`, or the error's class. */
function brief(result: AttemptResult): string {
  return result.kind === 'failed' ? result.errorClass : `${result.status} ${JSON.stringify(result.body.toString())}`;
}

const reset = { kind: 'failed', errorClass: 'reset' };
const OK = 'HTTP/1.1 200 OK\r\n';
const CHUNKED = `${OK}Transfer-Encoding: chunked\r\n\r\n`;

describe('an answer that lies or is no answer', () => {
  it.each([
    ['a longer body than it says', answer('ok').replace('Length: 2', 'Length: 1'), '200 "o"'],
    ['a shorter body, then the end', answer('ok').replace('Length: 2', 'Length: 3'), 'reset'],
    ['a negative length', answer('ok').replace('Length: 2', 'Length: -2'), 'reset'],
    ['a length that overflows', answer('ok').replace('Length: 2', `Length: ${'9'.repeat(40)}`), 'reset'],
    ['a length that is no number', answer('ok').replace('Length: 2', 'Length: 0x2'), 'reset'],
    ['two lengths', answer('ok', 'Content-Length: 3\r\n'), 'reset'],
    ['a length and chunks', answer('2\r\nok\r\n0\r\n\r\n', 'Transfer-Encoding: chunked\r\n'), 'reset'],
    ['chunks without a number', `${CHUNKED}zz\r\nok\r\n0\r\n\r\n`, 'reset'],
    ['a negative chunk', `${CHUNKED}-2\r\nok\r\n0\r\n\r\n`, 'reset'],
    ['a chunk of 2^72 bytes', `${CHUNKED}fffffffffffffffff\r\nok`, 'reset'],
    ['a chunk longer than it says', `${CHUNKED}1\r\nok\r\n0\r\n\r\n`, 'reset'],
    ['chunks that end in the middle', `${CHUNKED}5\r\nok`, 'reset'],
    ['an unknown transfer coding', `${OK}Transfer-Encoding: gzip, x\r\n\r\nok`, '200 "ok"'],
    ['bare line feeds', answer('ok').replaceAll('\r\n', '\n'), 'reset'],
    ['a folded header', answer('ok', 'X: a\r\n b\r\n'), 'reset'],
    ['a zero byte in a header', answer('ok', 'X: a\0b\r\n'), 'reset'],
    ['a header without a colon', answer('ok', 'X\r\n'), 'reset'],
    ['a header without a name', answer('ok', ': x\r\n'), 'reset'],
    ['a status of no digits', answer('ok', '', 'OK'), 'reset'],
    ['the status 000', answer('', '', '000 OK'), 'reset'],
    ['the status 099', answer('', '', '099 OK'), 'reset'],
    ['the status 1000', answer('', '', '1000 OK'), 'reset'],
    ['100 without having been asked', `HTTP/1.1 100 Continue\r\n\r\n${answer('ok')}`, 'reset'],
    ['another protocol', 'HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n', 'reset'],
    ['another protocol, without saying which', `HTTP/1.1 101 Switching\r\n\r\n${answer('ok')}`, 'reset'],
    ['HTTP/0.9', 'ok', 'reset'],
    ['the preface of HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'reset'],
    ['SSH', 'SSH-2.0-OpenSSH_9.0\r\n', 'reset'],
    ['a TLS alert', '\x15\x03\x01\x00\x02\x02\x46', 'reset'],
    ['nothing, then the end', '', 'reset'],
    ['headers that end in the middle', `${OK}X: a`, 'reset'],
    ['no length, then the end', `${OK}\r\nok`, '200 "ok"'],
    ['a body for 204', answer('no', '', '204 No Content'), '204 ""'],
    ['header names of Object.prototype', answer('ok', '__proto__: a\r\nconstructor: b\r\n'.repeat(2)), '200 "ok"'],
    ['a few early hints', 'HTTP/1.1 103 Early\r\nLink: a\r\n\r\n'.repeat(3) + answer('ok'), '200 "ok"'],
  ])('is bounded and recorded: %s', async (_name, text, expected) => {
    receiver.behave = (socket) => socket.end(Buffer.from(text, 'latin1'));
    const result = await test.send(url);
    expect(brief(result)).toBe(expected);
    // A text of our own: what the receiver sent could be anything.
    if (result.kind === 'failed') expect(result.message).toMatch(/^[A-Z][A-Za-z0-9 ,.’-]+\.( \([A-Za-z_]+\))?$/);
    await allClosed();
    receiver.behave = (socket) => socket.write(answer('next'));
    expect(brief(await test.send(url))).toBe('200 "next"');
  });

  it.each([
    ['before anything was read', 'connection'],
    ['after the request', ''],
    ['in the status line', 'HTTP/1.1 2'],
    ['in the headers', `${OK}X: a`],
    ['in the body', `${OK}Content-Length: 9\r\n\r\nabc`],
    ['in a chunk', `${CHUNKED}5\r\nab`],
  ])('is a reset when the connection is reset %s', async (_name, text) => {
    if (text === 'connection') receiver.onConnection = (socket) => socket.resetAndDestroy();
    else {
      receiver.behave = (socket) => {
        if (text === '') socket.resetAndDestroy();
        else socket.write(text, () => socket.resetAndDestroy());
      };
    }
    expect(await test.send(url)).toMatchObject(reset);
    await allClosed();
  });

  it('is never the answer to another request: two on one socket', async () => {
    receiver.behave = (socket, received, number) => {
      const own = answer(`${received.split(' ')[1]} on ${number}`);
      socket.write(own + answer('not asked for', '', '500 No'));
    };
    for (let n = 1; n <= 5; n += 1) {
      expect(brief(await test.send(`${url}/${n}`))).toBe(`200 "/hook/${n} on ${n}"`);
    }
  });

  it('is never the answer to another request: one that comes while nothing was asked', async () => {
    receiver.behave = (socket, received) => socket.write(answer(received.split(' ')[1] ?? ''));
    expect(brief(await test.send(`${url}/1`))).toBe('200 "/hook/1"');
    for (const socket of receiver.open) socket.write(answer('not asked for', '', '500 No'));
    await allClosed();
    expect(brief(await test.send(`${url}/2`))).toBe('200 "/hook/2"');
  });
});

describe('an answer without end', () => {
  it.each([
    ['a body', OK, '\r\nlong'],
    ['a body of chunks of one byte', CHUNKED, '1\r\na\r\n'],
    ['a body behind a length', `${OK}Content-Length: 999999999999\r\n\r\n`, 'long'],
  ])('is cut where enough was read: %s', async (_name, head, again) => {
    receiver.behave = (socket) => flood(socket, head, again);
    const result = await test.send(url);
    expect(result).toMatchObject({ kind: 'answered', status: 200, truncated: true });
    expect(result.kind === 'answered' && result.body.length).toBe(RESPONSE_BYTES_MAX);
    await allClosed();
  });

  it.each([
    ['a header', `${OK}X: `, 'a'],
    ['headers', OK, 'X: a\r\n'],
    ['headers of one letter', OK, 'a:\r\n'],
    ['white space in a header', `${OK}X:`, ' '],
    ['a reason', 'HTTP/1.1 200 ', 'a'],
    ['empty lines', '', '\r\n'],
    ['zeros of a chunk’s length', CHUNKED, '0'],
    ['a chunk’s extension', `${CHUNKED}1;a=`, 'b'],
    ['trailers', `${CHUNKED}0\r\n`, 'X: a\r\n'],
    ['1xx answers', '', 'HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n'],
  ])('is a reset long before the deadline: %s', async (_name, head, again) => {
    receiver.behave = (socket) => flood(socket, head, again);
    expect(await test.send(url)).toMatchObject(reset);
    await allClosed();
  });

  it('may have some 1xx answers, and not one too many', async () => {
    const hints = (count: number) => 'HTTP/1.1 103 Early Hints\r\n\r\n'.repeat(count) + answer('ok');
    receiver.behave = (socket) => socket.write(hints(INTERIM_ANSWERS_MAX));
    expect(brief(await test.send(url))).toBe('200 "ok"');
    receiver.behave = (socket) => socket.write(hints(INTERIM_ANSWERS_MAX + 1));
    expect(await test.send(url)).toMatchObject(reset);
  });

  it.each([
    ['of headers of 100 kB', answer('ok', `X: ${'a'.repeat(100_000)}\r\n`)],
    ['of 10,000 headers', answer('ok', 'a: b\r\n'.repeat(10_000))],
  ])('is not taken %s', async (_name, text) => {
    receiver.behave = (socket) => socket.write(text);
    expect(await test.send(url)).toEqual({ ...reset, message: expect.stringContaining('too long') });
    await allClosed();
  });

  it.each([
    ['gzip', gzipSync],
    ['br', (bytes: Buffer) => brotliCompressSync(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: 1 } })],
    ['deflate', deflateSync],
    ['gzip, gzip', (bytes: Buffer) => gzipSync(gzipSync(bytes))],
    ['zstd', () => Buffer.from('28b52ffd', 'hex')],
  ])('is not unpacked: a bomb in %s is kept as it came', async (encoding, pack) => {
    const packed = pack(Buffer.alloc(20_000_000));
    receiver.behave = (socket) => {
      socket.write(`${OK}Content-Encoding: ${encoding}\r\nContent-Length: ${packed.length}\r\n\r\n`);
      socket.write(packed);
    };
    const result = await test.send(url);
    expect(result).toMatchObject({ kind: 'answered', status: 200, truncated: packed.length > RESPONSE_BYTES_MAX });
    expect(result.kind === 'answered' && result.body.equals(packed.subarray(0, RESPONSE_BYTES_MAX))).toBe(true);
  });
});

describe('the deadline', () => {
  it.each([
    ['nothing', ''],
    ['half a status line', 'HTTP/1.'],
    ['headers without end', `${OK}X: a\r\n`],
    ['a body without end', `${OK}Content-Length: 100\r\n\r\nabc`],
  ])('ends an exchange in which the receiver stops after %s', async (_name, text) => {
    const stalled = Promise.withResolvers<void>();
    receiver.behave = (socket) => socket.write(text, () => stalled.resolve());
    const result = test.send(url, { timeoutMs: 3_000 });
    await stalled.promise;
    clock.advance(3_050);
    expect(await result).toMatchObject({ kind: 'failed', errorClass: 'timeout' });
    await allClosed();
    expect(clock.pending).toBe(0);
  });

  it('ends an exchange whose receiver sends a byte a second', async () => {
    receiver.behave = (socket) => {
      socket.write(`${OK}Content-Length: 1000\r\n\r\n`);
      const drip = () => {
        if (socket.destroyed) return;
        clock.advance(1_000);
        socket.write('a', () => setImmediate(drip));
      };
      drip();
    };
    expect(await test.send(url)).toMatchObject({ kind: 'failed', errorClass: 'timeout' });
    await allClosed();
  });

  it('ends an exchange whose request is not read', async () => {
    receiver.onConnection = (socket) => socket.pause();
    const result = test.send(url, { body: Buffer.alloc(20_000_000) });
    await eventually(
      async () => receiver.connections,
      (count) => count === 1,
    );
    clock.advance(10_050);
    expect(await result).toMatchObject({ kind: 'failed', errorClass: 'timeout' });
    for (const socket of receiver.open) socket.resume();
    await allClosed();
  });

  it('counts: a 2xx after it changes nothing', async () => {
    const asked = Promise.withResolvers<Socket>();
    receiver.behave = (socket) => asked.resolve(socket);
    let results = 0;
    const result = test.send(url).finally(() => {
      results += 1;
    });
    const socket = await asked.promise;
    clock.advance(10_050);
    socket.write(answer('late'));
    expect(await result).toMatchObject({ kind: 'failed', errorClass: 'timeout' });
    receiver.behave = (next) => next.write(answer('next'));
    expect(brief(await test.send(url))).toBe('200 "next"');
    expect(results).toBe(1);
  });
});

describe('a healthy receiver beside hostile ones', () => {
  it('is served while they stall, flood, lie and reset', async () => {
    const healthy = await startRawReceiver((socket, received) => socket.write(answer(received.split(' ')[1] ?? '')));
    const behaviours = [
      () => {},
      (socket: Socket) => socket.write(`${OK}Content-Length: 9\r\n\r\nabc`),
      (socket: Socket) => flood(socket, `${OK}X: `, 'a'),
      (socket: Socket) => flood(socket, OK, '\r\nlong'),
      (socket: Socket) => socket.resetAndDestroy(),
      (socket: Socket) => flood(socket, '', 'HTTP/1.1 103 E\r\n\r\n'),
    ];
    receiver.behave = (socket, _received, number) => behaviours[number % behaviours.length]?.(socket);
    const hostile = Array.from({ length: 120 }, () => test.send(url));
    for (let n = 0; n < 100; n += 1) {
      const result = await test.send(`http://127.0.0.1:${healthy.port}/${n}`);
      expect(brief(result)).toBe(`200 "/${n}"`);
    }
    // All on one connection, and without the clock having moved: no request of it waited for another receiver's.
    expect(healthy.connections).toBe(1);
    clock.advance(10_050);
    const results = (await Promise.all(hostile)).map(brief).map((text) => text.split(' ')[0]);
    expect(new Set(results)).toEqual(new Set(['timeout', 'reset', '200']));
    await allClosed();
    await healthy.stop();
  });
});
