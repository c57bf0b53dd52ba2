import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { systemClock } from '../../kernel/clock.ts';
import { StartupError } from '../../kernel/startup-error.ts';
import { ManualClock } from '../../testing/manual-clock.ts';
import { type ConnectResult, createEgressGuard, EgressBlockedError, type EgressGuard, type Resolve } from './guard.ts';
import { OUTSIDE_WHITELIST } from './ip-whitelist.ts';
import { KEPT_MS, NameLookupError } from './resolver.ts';

const strict = createEgressGuard({ allow: [], requireHttps: true });
const dev = createEgressGuard({ allow: ['127.0.0.0/8', '::1/128', 'localhost'], requireHttps: false });

/** Answers from a list, as a name server under a tenant's control would. */
function answering(...addresses: string[]): Resolve {
  return (_hostname, _options, callback) =>
    callback(
      null,
      addresses.map((address) => ({ address, family: address.includes(':') ? 6 : 4 })),
    );
}

describe('judgeUrl', () => {
  it.each([
    'https://example.com',
    'https://example.com/hook?a=b%20c',
    'https://EXAMPLE.com:8443/',
    'https://example.com./x',
    'https://8.8.8.8/',
    'https://[2606:4700:4700::1111]:444/hook',
    'https://bücher.example/',
    'https://hooks_1.example.com/',
  ])('accepts %s', (url) => {
    expect(strict.judgeUrl(url)).toMatchObject({ ok: true });
  });

  it.each([
    'https://127.0.0.1/',
    'https://127.1/',
    'https://0x7f.1/',
    'https://0177.0.0.1/',
    'https://2130706433/',
    'https://0x7f000001/',
    'https://１２７.0.0.1/',
    'https://①②⑦.0.0.1/',
    'https://127。0。0。1/',
    'https://127.0.0.1./',
    'https://0/',
    'https://169.254.169.254/latest/meta-data/',
    'https://168.63.129.16/',
    'https://[::1]/',
    'https://[::]/',
    'https://[::7f00:1]/',
    'https://[::ffff:127.0.0.1]/',
    'https://[::ffff:0:7f00:1]/',
    'https://[64:ff9b::7f00:1]/',
    'https://[64:ff9b:1::a00:1]/',
    'https://[2002:7f00:1::1]/',
    'https://[2001:0:4136:e378:8000:63bf:80ff:fffe]/',
    'https://[fe80::1]/',
    'https://[fd00:ec2::254]/',
    'https://localhost/',
    'https://LOCALHOST:8080/',
    'https://localhost./',
    'https://localhost%2e/',
    'https://loc%61lhost/',
    'https://api.localhost/',
    'https://metadata.google.internal/',
    'https://metadata/',
    'https://10.0.0.1:8443/',
    'https://%31%32%37.0.0.1/',
    'https://127.0.0.1%2e/',
    'https://127.0.0.1%E3%80%82/',
    'https://0x7f.0x0.0x0.0x1/',
    'https://00000177.1/',
    'https://[::ffff:7f00:0001]/',
    'https://[0:0:0:0:0:ffff:127.0.0.1]/',
    'https://[2606:4700::5efe:7f00:1]/',
    'https://[ff02::1]/',
    'https://100.64.0.1/',
    'https://224.0.0.1/',
    'https://255.255.255.255/',
    'https://198.18.0.1/',
    'https://metadata.goog/',
    'https://METADATA.Google.Internal./',
    'https://instance-data.ec2.internal/',
  ])('refuses the address or name in %s', (url) => {
    expect(strict.judgeUrl(url)).toEqual({
      ok: false,
      reason: expect.stringMatching(/^The destination is not a public/),
    });
  });

  it.each([
    ['', 'absolute URL'],
    ['example.com/hook', 'absolute URL'],
    ['/hook', 'absolute URL'],
    ['https:example.com', 'absolute URL'],
    ['https:///example.com', 'absolute URL'],
    ['ftp://example.com', 'absolute URL'],
    ['file:///etc/passwd', 'absolute URL'],
    ['javascript:alert(1)', 'absolute URL'],
    ['https://', 'absolute URL'],
    ['https://[::1', 'absolute URL'],
    ['https://[fe80::1%25eth0]/', 'absolute URL'],
    ['https://256.1.1.1/', 'absolute URL'],
    ['https://example.com:99999/', 'absolute URL'],
    ['https://user@example.com/', 'user name'],
    ['https://user:pass@example.com/', 'user name'],
    ['https://example.com@127.0.0.1/', 'user name'],
    ['https://example.com/#part', 'fragment'],
    ['https://example.com/#', 'fragment'],
    ['https://example.com:0/', 'port'],
    ['https://example.com:25/', 'port'],
    ['https://example.com:22/', 'port'],
    ['https://exa\nmple.com/', 'control characters'],
    ['https://example.com/a b', 'spaces'],
    [' https://example.com/', 'spaces'],
    ['https://example.com/\u0000', 'control characters'],
    ['https://example.com/\r\nX-Evil: 1', 'control characters'],
    ['https://example.com\\@127.0.0.1/', 'backslashes'],
    ['https://a..example.com/', 'host name'],
    ['https://.example.com/', 'host name'],
    [`https://${'a'.repeat(64)}.example.com/`, 'host name'],
    [`https://example.com/${'a'.repeat(2_048)}`, '2048'],
    ['http://example.com/', 'https://'],
  ])('refuses %j and says why', (url, why) => {
    expect(strict.judgeUrl(url)).toEqual({ ok: false, reason: expect.stringContaining(why) });
  });

  it('allows in dev mode http and loopback, and still nothing else that is private', () => {
    for (const url of ['http://example.com/', 'http://127.0.0.1:9/x', 'http://localhost:3000', 'http://[::1]:3000/']) {
      const port = new URL(url).port;
      expect(dev.judgeUrl(url).ok, url).toBe(port !== '9');
    }
    expect(dev.judgeUrl('http://a.localhost:3000/').ok).toBe(true);
    expect(dev.judgeUrl('http://10.0.0.1/').ok).toBe(false);
    expect(dev.judgeUrl('http://169.254.169.254/').ok).toBe(false);
  });

  it('lets the allow list name hosts and networks, for http too', () => {
    const guard = createEgressGuard({ allow: ['10.0.0.0/8', 'Hooks.internal.', 'fd12::/16'], requireHttps: true });
    expect(guard.judgeUrl('http://10.1.2.3:8080/').ok).toBe(true);
    expect(guard.judgeUrl('http://[::ffff:10.1.2.3]/').ok).toBe(true);
    expect(guard.judgeUrl('http://[fd12::1]/').ok).toBe(true);
    expect(guard.judgeUrl('http://hooks.INTERNAL/').ok).toBe(true);
    expect(guard.judgeUrl('http://hooks.internal.:81/').ok).toBe(true);
    expect(guard.judgeUrl('http://other.internal/').ok).toBe(false);
    expect(guard.judgeUrl('http://192.168.0.1/').ok).toBe(false);
    expect(guard.judgeUrl('https://[2002:a01:203::1]/').ok).toBe(false);
  });

  it('gives out a metadata address only to an entry that names it alone', () => {
    const url = 'http://169.254.169.254/';
    expect(createEgressGuard({ allow: ['169.254.0.0/16'], requireHttps: false }).judgeUrl(url).ok).toBe(false);
    expect(createEgressGuard({ allow: ['0.0.0.0/0'], requireHttps: false }).judgeUrl(url).ok).toBe(false);
    expect(createEgressGuard({ allow: ['169.254.169.254'], requireHttps: false }).judgeUrl(url).ok).toBe(true);
  });

  it('refuses to start with an allow list that it cannot read', () => {
    for (const entry of ['10.0.0.0/99', '10.0.0', '1.2.3.4.5', 'a/b', '10.0.0.0/', 'a..b', '']) {
      expect(() => createEgressGuard({ allow: [entry], requireHttps: true }), entry).toThrow(StartupError);
    }
  });
});

describe('judgeLiteral', () => {
  it('judges IP literals, with and without brackets, and leaves names to the lookup', () => {
    expect(strict.judgeLiteral('127.0.0.1')).toMatch(/loopback/);
    expect(strict.judgeLiteral('[::1]')).toMatch(/loopback/);
    expect(strict.judgeLiteral('::1')).toMatch(/loopback/);
    expect(strict.judgeLiteral('8.8.8.8')).toBeUndefined();
    expect(strict.judgeLiteral('[2606:4700::1]')).toBeUndefined();
    expect(strict.judgeLiteral('example.com')).toBeUndefined();
    expect(dev.judgeLiteral('127.0.0.1')).toBeUndefined();
    expect(dev.judgeLiteral('[::1]')).toBeUndefined();
  });

  it('judges the names whose address is known without asking', () => {
    for (const host of ['localhost', 'LOCALHOST.', 'a.localhost'])
      expect(strict.judgeLiteral(host)).toMatch(/loopback/);
    for (const host of ['metadata', 'metadata.google.internal', 'Metadata.Google.Internal.', 'instance-data']) {
      expect(strict.judgeLiteral(host)).toMatch(/metadata/);
      expect(dev.judgeLiteral(host)).toMatch(/metadata/);
    }
    expect(dev.judgeLiteral('localhost')).toBeUndefined();
  });

  it('narrows by a whitelist', () => {
    expect(strict.judgeLiteral('8.8.8.8', ['8.8.0.0/16'])).toBeUndefined();
    expect(strict.judgeLiteral('8.8.8.8', ['9.0.0.0/8'])).toBe(OUTSIDE_WHITELIST);
    expect(strict.judgeLiteral('[2606:4700::1]', ['2606::/16'])).toBeUndefined();
    // It opens nothing that is closed.
    expect(strict.judgeLiteral('127.0.0.1', ['127.0.0.0/8'])).toMatch(/loopback/);
  });
});

describe('judgeHostByLookup', () => {
  const judge = (resolve: Resolve, host = 'x.example') =>
    createEgressGuard({ allow: [], requireHttps: true, resolve }).judgeHostByLookup(host);

  it('refuses a name of which any address is refused, without telling the address', async () => {
    const reason = await judge(answering('8.8.8.8', '10.1.2.3'));
    expect(reason).toMatch(/private/);
    expect(reason).not.toContain('10.1.2.3');
  });

  it('refuses a name of which any address is outside a whitelist', async () => {
    const guard = createEgressGuard({ allow: [], requireHttps: true, resolve: answering('8.8.8.8', '8.8.4.4') });
    expect(await guard.judgeHostByLookup('x.example', ['8.8.8.8/32'])).toBe(OUTSIDE_WHITELIST);
    expect(await guard.judgeHostByLookup('x.example', ['8.8.0.0/16'])).toBeUndefined();
    expect(await guard.judgeHostByLookup('8.8.8.8', ['9.0.0.0/8'])).toBe(OUTSIDE_WHITELIST);
  });

  it('accepts a name with public addresses, and one that does not resolve', async () => {
    expect(await judge(answering('8.8.8.8', '2606:4700::1'))).toBeUndefined();
    const failing: Resolve = (_h, _o, callback) => callback(Object.assign(new Error(), { code: 'ENOTFOUND' }), []);
    expect(await judge(failing)).toBeUndefined();
  });

  it('does not wait for a name server that never answers', async () => {
    const timers: (() => void)[] = [];
    const clock = {
      ...systemClock,
      after: (_ms: number, task: () => void) => {
        timers.push(task);
        return () => {};
      },
    };
    const guard = createEgressGuard({ allow: [], requireHttps: true, resolve: () => {}, clock });
    const verdict = guard.judgeHostByLookup('slow.example');
    for (const fire of timers) fire();
    expect(await verdict).toBeUndefined();
  });

  it('asks the real resolver by default', async () => {
    expect(await strict.judgeHostByLookup('localhost')).toMatch(/loopback/);
    expect(await dev.judgeHostByLookup('localhost')).toBeUndefined();
  });
});

describe('connect', () => {
  const servers: Server[] = [];
  const sockets: Socket[] = [];
  let port = 0;
  let connections = 0;

  beforeEach(async () => {
    connections = 0;
    const server = createServer((socket) => {
      connections += 1;
      sockets.push(socket);
    });
    servers.push(server);
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    port = typeof address === 'object' && address !== null ? address.port : 0;
  });
  afterEach(async () => {
    for (const socket of sockets.splice(0)) socket.destroy();
    await Promise.all(servers.splice(0).map((server) => new Promise((closed) => server.close(closed))));
  });

  function connect(guard: EgressGuard, host: string, ipWhitelist: string[] | null = null): Promise<ConnectResult> {
    return new Promise((settle) => {
      guard.connect({ host, port, ipWhitelist }, (result) => {
        if (result.ok) sockets.push(result.socket);
        settle(result);
      });
    });
  }

  const guardOn = (resolve: Resolve, allow: string[] = [], clock = systemClock) =>
    createEgressGuard({ allow, requireHttps: true, resolve, clock });

  const blocked = { ok: false, error: expect.any(EgressBlockedError) };

  it('opens no connection to a server that listens where nobody may go, by address or by name', async () => {
    const bad = guardOn(answering('127.0.0.1'));
    const mapped = guardOn(answering('::ffff:127.0.0.1'));
    for (const host of ['127.0.0.1', '::ffff:127.0.0.1', '::ffff:7f00:1', '0.0.0.0', 'localhost', 'a.localhost']) {
      expect(await connect(strict, host), host).toEqual(blocked);
    }
    expect(await connect(bad, 'x.example')).toEqual(blocked);
    expect(await connect(mapped, 'x.example')).toEqual(blocked);
    expect(connections).toBe(0);
  });

  it('answers the same whether something listens there or not', async () => {
    const open = await connect(strict, '127.0.0.1');
    port = 1;
    expect(await connect(strict, '127.0.0.1')).toEqual(open);
  });

  it('refuses a name with one bad address among good ones, wherever it stands', async () => {
    for (const addresses of [
      ['8.8.8.8', '127.0.0.1'],
      ['127.0.0.1', '8.8.8.8'],
      ['8.8.8.8', '::ffff:169.254.169.254'],
      ['2606:4700::1', '8.8.8.8', 'fe80::1'],
    ]) {
      expect(await connect(guardOn(answering(...addresses)), 'x.example'), addresses.join()).toEqual(blocked);
    }
    expect(connections).toBe(0);
  });

  it('connects where the operator allows it, by address, by name and by the name of an address', async () => {
    for (const [guard, host] of [
      [dev, '127.0.0.1'],
      [dev, 'localhost'],
      [guardOn(answering('127.0.0.1'), ['127.0.0.1']), 'x.example'],
      [guardOn(answering('127.0.0.1'), ['x.example']), 'x.example'],
    ] as const) {
      const result = await connect(guard, host);
      expect(result.ok && result.socket.remoteAddress, host).toBe('127.0.0.1');
    }
  });

  it('lets an allowed name lead to a private address, but not to a metadata address, and no other name', async () => {
    expect(await connect(guardOn(answering('127.0.0.1'), ['y.example']), 'x.example')).toEqual(blocked);
    expect(await connect(guardOn(answering('169.254.169.254'), ['x.example']), 'x.example')).toEqual(blocked);
  });

  it('dials what was judged: the name is not looked up again in between', async () => {
    let lookups = 0;
    const rebinding: Resolve = (_h, _o, callback) => {
      lookups += 1;
      callback(null, [{ address: lookups === 1 ? '127.0.0.1' : '127.0.0.2', family: 4 }]);
    };
    const result = await connect(guardOn(rebinding, ['127.0.0.1']), 'x.example');
    expect(result.ok && result.socket.remoteAddress).toBe('127.0.0.1');
    expect(lookups).toBe(1);
  });

  it('follows a name that leads elsewhere when its kept answer is over, and refuses it then', async () => {
    const clock = new ManualClock();
    let address = '127.0.0.1';
    const guard = guardOn((_h, _o, callback) => callback(null, [{ address, family: 4 }]), ['127.0.0.1'], clock);
    expect((await connect(guard, 'x.example')).ok).toBe(true);
    address = '10.0.0.1';
    expect((await connect(guard, 'x.example')).ok).toBe(true);
    clock.advance(KEPT_MS.found);
    expect(await connect(guard, 'x.example')).toEqual(blocked);
  });

  it('refuses a host of which any address is outside the whitelist, literals too', async () => {
    const both = guardOn(answering('127.0.0.1', '127.0.0.2'), ['127.0.0.0/8']);
    const outside = { ok: false, error: expect.objectContaining({ message: OUTSIDE_WHITELIST }) };
    expect(await connect(both, 'x.example', ['127.0.0.1/32'])).toEqual(outside);
    expect(await connect(both, 'x.example', [])).toEqual(outside);
    expect(await connect(dev, '127.0.0.1', ['10.0.0.0/8'])).toEqual(outside);
    expect(connections).toBe(0);
    expect((await connect(both, 'x.example', ['127.0.0.0/30'])).ok).toBe(true);
    expect((await connect(dev, '127.0.0.1', ['127.0.0.1/32'])).ok).toBe(true);
  });

  it('passes the failure of a lookup on', async () => {
    const failing: Resolve = (_h, _o, callback) => callback(Object.assign(new Error(), { code: 'EAI_AGAIN' }), []);
    for (const guard of [guardOn(failing), guardOn(answering())]) {
      expect(await connect(guard, 'x.example')).toEqual({ ok: false, error: expect.any(NameLookupError) });
    }
  });

  it('dials nothing after it was stopped while it looked the name up', async () => {
    let answer = (): void => {};
    const slow: Resolve = (_h, _o, callback) => {
      answer = () => callback(null, [{ address: '127.0.0.1', family: 4 }]);
    };
    const guard = guardOn(slow, ['127.0.0.1']);
    const stop = guard.connect({ host: 'x.example', port, ipWhitelist: null }, () => expect.unreachable());
    stop();
    answer();
    expect((await connect(guard, 'x.example')).ok).toBe(true);
    expect(connections).toBe(1);
  });
});
