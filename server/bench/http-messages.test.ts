import { expect, test } from 'vitest';
import { createMessageReader, type HttpMessage, statusOf } from './http-messages.ts';

const TWO = Buffer.from(
  'HTTP/1.1 202 Accepted\r\ncontent-length: 5\r\nx-a: b\r\n\r\nh\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n',
);

function readIn(pieces: Buffer[]): { head: string; body: string }[] {
  const messages: HttpMessage[] = [];
  const read = createMessageReader((message) => messages.push(message));
  for (const piece of pieces) read(piece);
  return messages.map(({ head, body }) => ({ head, body: body.toString() }));
}

test('messages are the same however the stream was cut', () => {
  const expected = [
    { head: 'HTTP/1.1 202 Accepted\r\ncontent-length: 5\r\nx-a: b', body: 'h\r\n\r\n' },
    { head: 'HTTP/1.1 204 No Content', body: '' },
  ];
  expect(readIn([TWO])).toEqual(expected);
  expect(readIn(Array.from(TWO, (byte) => Buffer.of(byte)))).toEqual(expected);
  for (let cut = 1; cut < TWO.length; cut++) {
    expect(readIn([TWO.subarray(0, cut), TWO.subarray(cut)])).toEqual(expected);
  }
});

test('a chunked message is refused, not misread', () => {
  expect(() =>
    readIn([Buffer.from('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n')]),
  ).toThrow('chunked');
});

test('a head without end is refused', () => {
  expect(() => readIn([Buffer.alloc(70_000, 'x')])).toThrow('64 KB');
});

test('the status is that of the first line', () => {
  expect(statusOf('HTTP/1.1 202 Accepted\r\nx: HTTP/1.1 500')).toBe(202);
  expect(() => statusOf('SSH-2.0-OpenSSH')).toThrow('Not an HTTP response');
});
