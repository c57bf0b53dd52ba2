import { once } from 'node:events';
import net from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { connectThroughProxy } from './connect-judged.ts';
import { type EgressProxy, EgressProxyError, parseEgressProxy } from './proxy.ts';

describe('parseEgressProxy', () => {
  it.each([
    ['http://proxy.internal:3128', { host: 'proxy.internal', port: 3128, authorization: undefined }],
    ['http://proxy.internal/', { host: 'proxy.internal', port: 80, authorization: undefined }],
    ['HTTP://[::1]:8080', { host: '::1', port: 8080, authorization: undefined }],
    ['http://user:p%40ss@10.0.0.1:3128', { host: '10.0.0.1', port: 3128, authorization: 'Basic dXNlcjpwQHNz' }],
    ['http://user@10.0.0.1:3128', { host: '10.0.0.1', port: 3128, authorization: 'Basic dXNlcjo=' }],
  ])('reads %s', (text, proxy) => {
    expect(parseEgressProxy(text)).toEqual(proxy);
  });

  it.each([
    '',
    'proxy.internal:3128',
    'https://proxy.internal:3128',
    'socks5://proxy.internal:1080',
    'http://',
    'http://proxy.internal:0',
    'http://proxy.internal:99999',
    'http://proxy.internal/path',
    'http://proxy.internal?x=1',
    'http://a%3Ab:c@proxy.internal',
    'http://%FF:c@proxy.internal',
    'http://proxy.internal\r\nX: y',
  ])('refuses %j', (text) => {
    expect(parseEgressProxy(text)).toBeUndefined();
  });
});

describe('a tunnel through a proxy', () => {
  const servers: net.Server[] = [];
  const sockets: net.Socket[] = [];
  afterEach(async () => {
    for (const socket of sockets.splice(0)) socket.destroy();
    await Promise.all(servers.splice(0).map((server) => new Promise((closed) => server.close(closed))));
  });

  /** A proxy that gives each request to `answer`. */
  async function startProxy(answer: (request: string, socket: net.Socket) => void): Promise<EgressProxy> {
    const server = net.createServer((socket) => {
      sockets.push(socket);
      socket.on('data', (data) => answer(data.toString('latin1'), socket));
      socket.on('error', () => {});
    });
    servers.push(server);
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return { host: '127.0.0.1', port: (server.address() as net.AddressInfo).port, authorization: 'Basic c2VjcmV0' };
  }

  function open(proxy: EgressProxy, addresses: string[]): Promise<net.Socket | string> {
    return new Promise((settle) => {
      connectThroughProxy(proxy, addresses, 8443, (result) => {
        if (result.ok) sockets.push(result.socket);
        else expect(result.error).toBeInstanceOf(EgressProxyError);
        settle(result.ok ? result.socket : result.error.message);
      });
    });
  }

  it('names the judged address, IPv6 in brackets, and brings the credentials', async () => {
    const requests: string[] = [];
    const proxy = await startProxy((request, socket) => {
      requests.push(request);
      socket.write('HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n');
    });
    expect(await open(proxy, ['192.0.2.1'])).toBeInstanceOf(net.Socket);
    expect(await open(proxy, ['2001:db8::1'])).toBeInstanceOf(net.Socket);
    expect(requests).toEqual([
      'CONNECT 192.0.2.1:8443 HTTP/1.1\r\nHost: 192.0.2.1:8443\r\nProxy-Authorization: Basic c2VjcmV0\r\n\r\n',
      'CONNECT [2001:db8::1]:8443 HTTP/1.1\r\nHost: [2001:db8::1]:8443\r\nProxy-Authorization: Basic c2VjcmV0\r\n\r\n',
    ]);
  });

  it('asks for the next address when one cannot be reached', async () => {
    const proxy = await startProxy((request, socket) => {
      if (request.includes('192.0.2.2')) socket.write('HTTP/1.0 200 OK\r\n\r\n');
      else socket.end('HTTP/1.1 502 Bad Gateway\r\n\r\n');
    });
    expect(await open(proxy, ['192.0.2.1', '192.0.2.2'])).toBeInstanceOf(net.Socket);
  });

  it.each([
    ['HTTP/1.1 407 Proxy Authentication Required\r\n\r\n', 'The egress proxy answered 407.'],
    ['SSH-2.0-OpenSSH\r\n\r\n', 'The answer of the egress proxy is not HTTP.'],
    ['HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK', 'The egress proxy sent more than its answer.'],
    [`HTTP/1.1 200 OK\r\nX: ${'x'.repeat(20_000)}`, 'The answer of the egress proxy is too long.'],
  ])('fails on %.30j without telling who or what the proxy is', async (answer, message) => {
    const proxy = await startProxy((_request, socket) => socket.write(answer));
    expect(await open(proxy, ['192.0.2.1'])).toBe(message);
  });

  it('fails when the proxy closes, and when nobody listens', async () => {
    const closing = await startProxy((_request, socket) => socket.end());
    expect(await open(closing, ['192.0.2.1'])).toBe('The egress proxy closed the connection.');
    const dead = { ...closing, port: 1 };
    expect(await open(dead, ['192.0.2.1'])).toBe('No connection to the egress proxy could be made.');
  });

  it('is dropped when it is stopped', async () => {
    const closed = Promise.withResolvers<void>();
    const proxy = await startProxy((_request, socket) => {
      socket.on('close', () => closed.resolve());
      stop();
    });
    const stop = connectThroughProxy(proxy, ['192.0.2.1'], 443, () => expect.unreachable());
    await closed.promise;
  });
});
