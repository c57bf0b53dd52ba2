import { execFile } from 'node:child_process';
import { once } from 'node:events';
import net from 'node:net';
import tls from 'node:tls';
import { promisify } from 'node:util';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { eventually } from '../testing/eventually.ts';
import { CERTIFICATE } from '../webhooks/auth/certificate-fixture.ts';
import { createEgressGuard, type Resolve } from '../webhooks/egress/guard.ts';
import { parseEgressProxy } from '../webhooks/egress/proxy.ts';
import type { AttemptResult } from './outcome.ts';
import { answer, type Behaviour, type RawReceiver, startRawReceiver } from './sending/raw-receiver-fixture.ts';
import { loopbackGuard, openTestSender, requestTo, type TestSender, toLoopback } from './sending/sender-fixture.ts';

const cleanUps: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
});

const echo: Behaviour = (socket, received) => socket.write(answer(received.split(' ')[1] ?? ''));

async function start(options: { tls?: boolean } = {}): Promise<RawReceiver> {
  const receiver = await startRawReceiver(echo, options);
  cleanUps.push(() => receiver.stop());
  return receiver;
}

function open(guard = loopbackGuard()): TestSender {
  const test = openTestSender({ guard });
  cleanUps.push(() => test.sender.stop());
  return test;
}

const ok = (body: string) => expect.objectContaining({ status: 200, body: Buffer.from(body) });
const failed = (errorClass: string) => expect.objectContaining({ kind: 'failed', errorClass });

describe('a destination that deliveries may not reach', () => {
  const strict = (resolve: Resolve = toLoopback) => createEgressGuard({ allow: [], requireHttps: true, resolve });

  it('is an attempt of class blocked, without a packet to whoever listens there', async () => {
    const receiver = await start();
    const { send } = open(strict());
    for (const host of [
      '127.0.0.1',
      '2130706433',
      '0x7f.1',
      '0177.0.0.1',
      '１２７.0.0.1',
      '0.0.0.0',
      '[::ffff:127.0.0.1]',
      '[::7f00:1]',
      '[::ffff:0:7f00:1]',
      '[64:ff9b::7f00:1]',
      '[2002:7f00:1::1]',
      '[2001:0:4136:e378:8000:63bf:80ff:fffe]',
      'localhost',
      'loc%61lhost.',
      'name.example',
    ]) {
      for (const scheme of ['http', 'https']) {
        expect(await send(`${scheme}://${host}:${receiver.port}/`), host).toEqual(failed('blocked'));
      }
    }
    expect(receiver.connections).toBe(0);
  });

  it('is answered with the same text whether something listens there or not, and tells no address', async () => {
    const receiver = await start();
    const { send } = open(strict((_h, _o, callback) => callback(null, [{ address: '10.1.2.3', family: 4 }])));
    for (const host of ['127.0.0.1', 'name.example', '169.254.169.254']) {
      const listening = await send(`http://${host}:${receiver.port}/`);
      const silent = await send(`http://${host}:1/`);
      expect(listening).toEqual(silent);
      expect(JSON.stringify(listening)).not.toMatch(/10\.1\.2\.3|\d{4,}/);
    }
  });

  it('tells the person that a name has no address: an attempt of class dns', async () => {
    const none: Resolve = (_h, _o, callback) => callback(Object.assign(new Error('secret'), { code: 'ENOTFOUND' }), []);
    expect(await open(strict(none)).send('https://nowhere.example/')).toEqual({
      kind: 'failed',
      errorClass: 'dns',
      message: 'The host name could not be resolved. (ENOTFOUND)',
    });
  });

  it('may be followed by redirects, which are not followed', async () => {
    const [receiver, other] = [await start(), await start()];
    receiver.behave = (socket) =>
      socket.write(answer('', `Location: http://127.0.0.1:${other.port}/\r\n`, '307 Temporary Redirect'));
    const result = await open().send(`http://127.0.0.1:${receiver.port}/`);
    expect(result).toMatchObject({ kind: 'answered', status: 307 });
    expect(other.connections).toBe(0);
  });
});

describe('TLS', () => {
  beforeAll(() => tls.setDefaultCACertificates([...tls.getCACertificates('default'), CERTIFICATE]));

  it('sends to receivers whose certificate holds the name or the address', async () => {
    const receiver = await start({ tls: true });
    const { send } = open();
    for (let n = 0; n < 3; n += 1) expect(await send(`https://receiver.test:${receiver.port}/`)).toEqual(ok('/'));
    expect(await send(`https://receiver.test.:${receiver.port}/dot`)).toEqual(ok('/dot'));
    expect(await send(`https://127.0.0.1:${receiver.port}/`)).toEqual(ok('/'));
    expect(receiver.connections).toBe(3);
  });

  it('refuses a certificate for another name, and lets it pass where nobody wants it verified', async () => {
    const receiver = await start({ tls: true });
    const { send } = open();
    const url = `https://other.test:${receiver.port}/`;
    expect(await send(url, { verifyTls: false })).toEqual(ok('/'));
    // The connection that was not verified, and its session, are of no use to those who want it verified.
    expect(await send(url)).toEqual(failed('tls'));
    expect(await send(url, { verifyTls: false })).toEqual(ok('/'));
    expect(receiver.connections).toBe(1);
  });

  it('ends in class tls or reset where no TLS is spoken, or it breaks off', async () => {
    const receiver = await start();
    const { send } = open();
    receiver.behave = (socket) => socket.write('HTTP/1.1 400 Bad Request\r\n\r\n');
    expect(await send(`https://receiver.test:${receiver.port}/`)).toEqual(failed('tls'));
    receiver.behave = (socket) => socket.end();
    expect(await send(`https://receiver.test:${receiver.port}/`)).toEqual(failed('reset'));
    receiver.behave = (socket) => socket.resetAndDestroy();
    expect(await send(`https://receiver.test:${receiver.port}/`)).toEqual(failed('reset'));
    await eventually(
      async () => receiver.open.size,
      (count) => count === 0,
    );
  });
});

describe('an egress proxy', () => {
  /** Opens tunnels to whatever it is asked for, and writes down what that was. */
  async function startProxy() {
    const asked: string[] = [];
    const sockets = new Set<net.Socket>();
    const server = net.createServer((socket) => {
      sockets.add(socket);
      socket.on('error', () => {});
      socket.once('data', (head) => {
        const request = head.toString('latin1');
        asked.push(request);
        const [host, port] = (request.split(' ')[1] ?? '').split(':');
        const beyond = net.connect(Number(port), host, () => {
          socket.write('HTTP/1.1 200 Connection established\r\n\r\n');
          socket.pipe(beyond).pipe(socket);
        });
        sockets.add(beyond);
        beyond.on('error', () => socket.destroy());
      });
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    cleanUps.push(async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
    });
    const { port } = server.address() as net.AddressInfo;
    return { asked, proxy: parseEgressProxy(`http://user:hidden@127.0.0.1:${port}`) };
  }

  it('is asked for the judged address, and the receiver gets the name, over http and https', async () => {
    tls.setDefaultCACertificates([...tls.getCACertificates('default'), CERTIFICATE]);
    const heads: string[] = [];
    const { asked, proxy } = await startProxy();
    const { send } = open(loopbackGuard({ ...(proxy && { proxy }) }));
    for (const scheme of ['http', 'https']) {
      const receiver = await start({ tls: scheme === 'https' });
      receiver.behave = (socket, received) => {
        heads.push(received);
        socket.write(answer('ok'));
      };
      for (let n = 0; n < 3; n += 1) {
        expect(await send(`${scheme}://receiver.test:${receiver.port}/`)).toEqual(ok('ok'));
      }
      expect(asked.pop()).toContain(`CONNECT 127.0.0.1:${receiver.port} HTTP/1.1\r\n`);
      expect(heads.pop()).toContain(`host: receiver.test:${receiver.port}\r\n`);
    }
    expect(asked).toEqual([]);
  });

  it('is not asked for what may not be reached', async () => {
    const { asked, proxy } = await startProxy();
    const guard = createEgressGuard({ allow: [], requireHttps: true, resolve: toLoopback, proxy });
    for (const host of ['127.0.0.1', 'name.example']) {
      expect(await open(guard).send(`https://${host}/`)).toEqual(failed('blocked'));
    }
    expect(asked).toEqual([]);
  });

  it('that fails is class connect, in words that hold no credentials', async () => {
    const proxy = parseEgressProxy('http://user:hidden@127.0.0.1:1');
    const result = await open(loopbackGuard({ ...(proxy && { proxy }) })).send('http://127.0.0.1:8080/');
    expect(result).toEqual({
      kind: 'failed',
      errorClass: 'connect',
      message: 'No connection to the egress proxy could be made.',
    });
  });

  it('is not taken from the environment', async () => {
    const [receiver, proxy] = [await start(), await start()];
    const program = `
      import { createSender } from ${JSON.stringify(new URL('./sender.ts', import.meta.url))};
      import { createEgressGuard } from ${JSON.stringify(new URL('../webhooks/egress/guard.ts', import.meta.url))};
      import { systemClock as clock } from ${JSON.stringify(new URL('../kernel/clock.ts', import.meta.url))};
      const guard = createEgressGuard({ allow: ['127.0.0.1'], requireHttps: false, clock });
      const request = { method: 'POST', headers: [], body: null, timeoutMs: 5000, verifyTls: true };
      const url = new URL('http://127.0.0.1:${receiver.port}/direct');
      createSender({ clock, guard }).send({ ...request, url }, (result) => {
        console.log(result.kind === 'answered' ? result.body.toString() : result.message);
        process.exit();
      });
      setInterval(() => {}, 1000);
    `;
    const address = `http://127.0.0.1:${proxy.port}`;
    const variables = Object.fromEntries(
      ['HTTP_PROXY', 'HTTPS_PROXY', 'ALL_PROXY', 'http_proxy', 'https_proxy', 'all_proxy'].map((name) => [
        name,
        address,
      ]),
    );
    const { stdout } = await promisify(execFile)(
      process.execPath,
      ['--use-env-proxy', '--input-type=module', '--eval', program],
      { env: { ...process.env, ...variables, NO_PROXY: '', no_proxy: '', NODE_USE_ENV_PROXY: '1' } },
    );
    expect(stdout.trim()).toBe('/direct');
    expect(proxy.connections).toBe(0);
  });
});

it('tells a result once, and after stop() nothing is open', async () => {
  const receiver = await start();
  receiver.behave = () => {};
  const { sender } = open();
  const results: AttemptResult[] = [];
  for (let n = 0; n < 5; n += 1) {
    sender.send(requestTo(`http://127.0.0.1:${receiver.port}/`), (result) => results.push(result));
  }
  await eventually(
    async () => receiver.open.size,
    (count) => count === 5,
  );
  await sender.stop();
  expect(results).toHaveLength(5);
  await eventually(
    async () => receiver.open.size,
    (count) => count === 0,
  );
});
