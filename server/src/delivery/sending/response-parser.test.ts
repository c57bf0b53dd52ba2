import http from 'node:http';
import net from 'node:net';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type AnswerSink, ResponseParser } from './response-parser.ts';

/** What a parser tells of bytes that come in pieces, and of the end of the connection. */
function read(pieces: readonly Buffer[], ends = true): unknown[] {
  const told: unknown[] = [];
  const body: Buffer[] = [];
  const sink: AnswerSink = {
    onInterim: (status) => told.push(status),
    onHead: (status, headers) => told.push([status, ...headers]),
    onBody: (part) => body.push(Buffer.from(part)),
    onComplete: (reusable) => told.push(Buffer.concat(body).toString('latin1'), reusable ? 'reusable' : 'not reusable'),
    onFault: (fault) => told.push(fault),
  };
  const parser = new ResponseParser();
  parser.begin(sink);
  for (const piece of pieces) parser.feed(piece);
  if (ends) parser.end();
  return told;
}

const readText = (text: string, ends = true) => read([Buffer.from(text, 'latin1')], ends);

/** The text in pieces that end at these places. */
function cut(text: Buffer, places: readonly number[]): Buffer[] {
  const ends = [...new Set(places.map((place) => place % (text.length + 1)))].sort((a, b) => a - b);
  return [...ends, text.length].map((end, at) => text.subarray(ends[at - 1] ?? 0, end));
}

const CHUNKED = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n';

const GOOD: [string, string, unknown[]][] = [
  ['a length', 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A:\t b c \r\n\r\nok', ['ok', 'reusable']],
  ['a length of 0', 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n', ['', 'reusable']],
  ['no reason', 'HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n', ['', 'reusable']],
  ['a Latin-1 reason', 'HTTP/1.1 200 \xfcber\r\nContent-Length: 0\r\n\r\n', ['', 'reusable']],
  ['chunks', `${CHUNKED}2\r\nok\r\nA\r\n0123456789\r\n0\r\n\r\n`, ['ok0123456789', 'reusable']],
  ['chunks with extensions', `${CHUNKED}2;a="b" ;c\r\nok\r\n0;d\r\n\r\n`, ['ok', 'reusable']],
  ['chunks with trailers', `${CHUNKED}2\r\nok\r\n0\r\nX-A: b\r\nX-C: d\r\n\r\n`, ['ok', 'reusable']],
  [
    'codings before the chunks',
    'HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, Chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n',
    ['ok', 'reusable'],
  ],
  ['all until the end', 'HTTP/1.1 200 OK\r\n\r\nok\r\n\r\n', ['ok\r\n\r\n', 'not reusable']],
  ['HTTP/1.0', 'HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok', ['ok', 'not reusable']],
  ['a close', 'HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 2\r\n\r\nok', ['ok', 'not reusable']],
  ['no body for 204', 'HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n', ['', 'reusable']],
  ['no body for 304', `${CHUNKED.replace('200 OK', '304 No')}`, ['', 'reusable']],
  ['hints before it', 'HTTP/1.1 103 Hints\r\nLink: a\r\n\r\nHTTP/1.1 204 No\r\n\r\n', ['', 'reusable']],
];

describe('an answer', () => {
  it.each(GOOD)('is read with %s', (_name, text, expected) => {
    expect(readText(text).slice(-2)).toEqual(expected);
  });

  it('is not followed by another one that nobody asked for', () => {
    const surplus = 'HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nok';
    expect(readText(surplus).slice(-2)).toEqual(['o', 'not reusable']);
  });

  it('has its headers as they were sent, without the white space around their values', () => {
    const [head] = readText('HTTP/1.1 299 X\r\nX-A:\t b c \r\nx-a:d\r\nX-E:\xa0\r\nContent-Length: 0\r\n\r\n');
    expect(head).toEqual([299, 'X-A', 'b c', 'x-a', 'd', 'X-E', '\xa0', 'Content-Length', '0']);
  });

  it('says how long the connection is kept', () => {
    const parser = new ResponseParser();
    const sink = { onInterim() {}, onHead() {}, onBody() {}, onComplete() {}, onFault() {} };
    for (const [value, seconds] of [
      ['timeout=5', 5],
      ['max=3, timeout=70', 70],
      ['timeout=x', undefined],
    ]) {
      parser.begin(sink);
      parser.feed(Buffer.from(`HTTP/1.1 200 OK\r\nKeep-Alive: ${value}\r\nContent-Length: 0\r\n\r\n`));
      expect(parser.keepAliveSeconds).toBe(seconds);
    }
  });

  it('comes to the same wherever its bytes are cut', () => {
    fc.assert(
      fc.property(fc.constantFrom(...GOOD), fc.array(fc.nat(), { maxLength: 12 }), ([, text], places) => {
        const bytes = Buffer.from(text, 'latin1');
        expect(read(cut(bytes, places))).toEqual(read([bytes]));
        expect(read(Array.from(bytes, (byte) => Buffer.from([byte])))).toEqual(read([bytes]));
      }),
    );
  });

  it.each([
    ['two lengths', 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\ncontent-length: 2\r\n\r\nok'],
    ['a list of lengths', 'HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok'],
    ['a sign', 'HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok'],
    ['chunked twice', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n'],
    ['chunked inside something', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n'],
    ['a space before the colon', 'HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok'],
    ['a lone carriage return', 'HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n'],
    ['a lone line feed in a chunk’s line', `${CHUNKED}2\nok\r\n0\r\n\r\n`],
    ['a lone line feed in the trailers', `${CHUNKED}0\r\nX: a\n\r\n\r\n`],
    ['a chunk of a size with a prefix', `${CHUNKED}0x2\r\nok\r\n0\r\n\r\n`],
    ['a chunk without its end', `${CHUNKED}2\r\nok0\r\n\r\n`],
    ['HTTP/2', 'HTTP/2 200 OK\r\n\r\n'],
    ['two spaces', 'HTTP/1.1  200 OK\r\n\r\n'],
  ])('is refused with %s', (_name, text) => {
    expect(readText(text).at(-1)).toBe('not-http');
  });

  it('of any bytes ends in one way, without an exception', () => {
    const start = fc.constantFrom('', 'HTTP/1.1 200 OK\r\n', CHUNKED, 'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n');
    fc.assert(
      fc.property(start, fc.uint8Array({ maxLength: 200 }), fc.array(fc.nat()), (head, rest, places) => {
        const bytes = Buffer.concat([Buffer.from(head), rest]);
        const told = read(cut(bytes, places));
        expect(told.filter((each) => typeof each === 'string' && /^(reus|not|too|cut)/.test(each)).length).toBe(1);
      }),
    );
  });

  it('of Node’s own server is read as it was meant', async () => {
    const server = http.createServer((request, answer) => {
      const [, status, length, ...parts] = (request.url ?? '').split('/').map(decodeURIComponent);
      if (length !== '') answer.setHeader('content-length', Buffer.byteLength(parts.join('')));
      answer.writeHead(Number(status));
      for (const part of parts) answer.write(part);
      answer.end();
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as net.AddressInfo;
    const ask = (path: string) =>
      new Promise<unknown[]>((resolve, reject) => {
        const pieces: Buffer[] = [];
        const socket = net.connect(port, '127.0.0.1', () => {
          socket.end(`GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
        });
        socket.on('data', (piece: Buffer) => pieces.push(piece)).on('error', reject);
        socket.on('close', () => resolve(read(pieces)));
      });
    try {
      const parts = fc.array(fc.string({ minLength: 1, maxLength: 30 }), { minLength: 1, maxLength: 4 });
      await fc.assert(
        fc.asyncProperty(
          fc.integer({ min: 200, max: 599 }),
          fc.constantFrom('', 'length'),
          parts,
          async (status, length, texts) => {
            const told = await ask(`/${[status, length, ...texts].map((each) => encodeURIComponent(each)).join('/')}`);
            const hasBody = status !== 204 && status !== 304;
            expect(told[0]).toEqual(expect.arrayContaining([status]));
            expect(told.at(-2)).toBe(hasBody ? Buffer.from(texts.join('')).toString('latin1') : '');
            expect(told.at(-1)).toBe('not reusable');
          },
        ),
        { numRuns: 50 },
      );
    } finally {
      server.close();
    }
  });
});
