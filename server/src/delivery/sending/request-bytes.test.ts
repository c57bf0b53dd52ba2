import { describe, expect, it } from 'vitest';
import { Destinations } from './destination.ts';
import { requestBytes } from './request-bytes.ts';
import { loopbackGuard, requestTo } from './sender-fixture.ts';

const destinations = new Destinations(loopbackGuard());
const written = (url: string, changes: Parameters<typeof requestTo>[1] = {}) => {
  const request = requestTo(url, changes);
  return requestBytes(request, destinations.of(request.url)).toString('latin1');
};

describe('a request', () => {
  it('goes out as one piece: its line, its headers in their order, its length and its body', () => {
    expect(written('http://receiver.example:8080/a%20b?c=d', { headers: ['X-A', 'b\xfc', 'x-c', ''] })).toBe(
      'POST /a%20b?c=d HTTP/1.1\r\nhost: receiver.example:8080\r\nconnection: keep-alive\r\n' +
        'X-A: b\xfc\r\nx-c: \r\ncontent-length: 7\r\n\r\n{"a":1}',
    );
  });

  it('without a body says so, but for a GET, which has none', () => {
    const head = ' / HTTP/1.1\r\nhost: [::1]\r\nconnection: keep-alive\r\n';
    expect(written('http://[::1]:80', { body: null })).toBe(`POST${head}content-length: 0\r\n\r\n`);
    expect(written('http://[::1]', { body: null, method: 'GET' })).toBe(`GET${head}\r\n`);
  });

  it.each([
    ['X-A', 'a\r\nX-B: c'],
    ['X-A', 'a\nb'],
    ['X-A', 'a\0'],
    ['X-A', '\u0100'],
    ['X-A\r\nX-B', 'a'],
    ['X A', 'a'],
    ['X:A', 'a'],
    ['', 'a'],
  ])('does not go out with the header %j: %j', (name, value) => {
    expect(() => written('http://receiver.example/', { headers: [name, value] })).toThrow(RangeError);
  });
});
