import type { Socket } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import type { Clock } from '../../kernel/clock.ts';
import { eventually } from '../../testing/eventually.ts';
import { ManualClock } from '../../testing/manual-clock.ts';
import type { EgressGuard, Resolve } from '../../webhooks/egress/guard.ts';
import { CONNECTION_AGE_MS_MAX, CONNECTIONS_PER_ORIGIN, IDLE_MAX } from './connections.ts';
import { openTestConnections, type TestConnections } from './connections-fixture.ts';
import { Destinations } from './destination.ts';
import { Exchange } from './exchange.ts';
import { answer, type Behaviour, type RawReceiver, startRawReceiver } from './raw-receiver-fixture.ts';
import { loopbackGuard, requestTo } from './sender-fixture.ts';

const cleanUps: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
});

const echo: Behaviour = (socket, received) => socket.write(answer(received.split(' ')[1] ?? ''));

async function start(behave: Behaviour = echo): Promise<RawReceiver> {
  const receiver = await startRawReceiver(behave);
  cleanUps.push(() => receiver.stop());
  return receiver;
}

function open(options: { clock?: Clock; guard?: EgressGuard } = {}): TestConnections {
  const test = openTestConnections(options);
  cleanUps.push(() => test.connections.stop());
  return test;
}

const ok = (body: string) => expect.objectContaining({ status: 200, body: Buffer.from(body) });
const failed = (errorClass: string) => expect.objectContaining({ kind: 'failed', errorClass });

describe('connections', () => {
  it('carry one request after the other, also one that is sent while the answer before it is being told', async () => {
    const receiver = await start();
    const { connections, send } = open();
    const url = `http://127.0.0.1:${receiver.port}`;
    for (let n = 0; n < 5; n += 1) expect(await send(`${url}/${n}`)).toEqual(ok(`/${n}`));
    const guard = loopbackGuard();
    const destinations = new Destinations(guard);
    const clock = new ManualClock();
    await new Promise<void>((settle) => {
      const chain = (left: number) => {
        const request = requestTo(`${url}/chain`);
        const exchange = new Exchange(clock, request, destinations.of(request.url), () =>
          left === 0 ? settle() : chain(left - 1),
        );
        connections.run(exchange);
      };
      chain(20);
    });
    expect(receiver.connections).toBe(1);
    expect(connections.gauges).toEqual({ open: 1, idle: 1, origins: 1 });
  });

  it('are opened anew when a receiver closes each of them', async () => {
    const receiver = await start((socket, received) => {
      socket.end(answer(received.split(' ')[1] ?? '', received.includes('polite') ? 'Connection: close\r\n' : ''));
    });
    const { connections, send } = open();
    for (const path of ['/polite', '/polite', '/rude', '/polite', '/rude']) {
      const answered = await send(`http://127.0.0.1:${receiver.port}${path}`);
      expect(answered).toEqual(ok(path));
      await eventually(
        async () => connections.gauges.open,
        (count) => count === 0,
      );
    }
    expect(connections.gauges).toEqual({ open: 0, idle: 0, origins: 0 });
  });

  it('serve a line of requests that wait when all of an origin are busy, and forget those that gave up', async () => {
    const held: Socket[] = [];
    const receiver = await start((socket) => held.push(socket));
    const clock = new ManualClock();
    const { connections, send, sweep } = open({ clock });
    const url = `http://127.0.0.1:${receiver.port}/`;
    const first = Array.from({ length: CONNECTIONS_PER_ORIGIN }, () => send(url, { timeoutMs: 60_000 }));
    const hasty = Array.from({ length: 20 }, () => send(url, { timeoutMs: 1_000 }));
    const patient = Array.from({ length: 20 }, () => send(url, { timeoutMs: 60_000 }));
    await eventually(
      async () => held.length,
      (count) => count === CONNECTIONS_PER_ORIGIN,
    );
    clock.advance(1_000);
    sweep();
    for (const result of await Promise.all(hasty)) expect(result).toEqual(failed('timeout'));
    receiver.behave = echo;
    for (const socket of held) socket.write(answer('first'));
    for (const result of await Promise.all(first)) expect(result).toEqual(ok('first'));
    for (const result of await Promise.all(patient)) expect(result).toEqual(ok('/'));
    expect(receiver.connections).toBe(CONNECTIONS_PER_ORIGIN);
    expect(connections.gauges.open).toBe(CONNECTIONS_PER_ORIGIN);
  });

  it('are replaced in the line when the one before it broke', async () => {
    const held: Socket[] = [];
    const receiver = await start((socket) => held.push(socket));
    const { send } = open();
    const url = `http://127.0.0.1:${receiver.port}/`;
    const first = Array.from({ length: CONNECTIONS_PER_ORIGIN }, () => send(url));
    const waiting = Array.from({ length: 20 }, () => send(url));
    await eventually(
      async () => held.length,
      (count) => count === CONNECTIONS_PER_ORIGIN,
    );
    receiver.behave = echo;
    for (const socket of held) socket.resetAndDestroy();
    for (const result of await Promise.all(first)) expect(result).toEqual(failed('reset'));
    for (const result of await Promise.all(waiting)) expect(result).toEqual(ok('/'));
  });

  it('are closed, those idle longest first, when too many are idle, and leave no origin behind', async () => {
    const receiver = await start();
    const { connections, send } = open();
    const names = IDLE_MAX + 200;
    for (let n = 0; n < names; n += 50) {
      const batch = Array.from({ length: 50 }, (_, at) => send(`http://n${n + at}.example:${receiver.port}/`));
      for (const result of await Promise.all(batch)) expect(result).toEqual(ok('/'));
    }
    const { open: left, idle, origins } = connections.gauges;
    expect(idle).toBeLessThanOrEqual(IDLE_MAX);
    expect(left).toBe(idle);
    expect(origins).toBe(left);
    const before = receiver.connections;
    await send(`http://n${names - 1}.example:${receiver.port}/`);
    expect(receiver.connections).toBe(before);
    await send(`http://n0.example:${receiver.port}/`);
    expect(receiver.connections).toBe(before + 1);
    for (const socket of receiver.open) socket.end();
    await eventually(
      async () => connections.gauges,
      (gauges) => gauges.open === 0,
    );
    expect(connections.gauges).toEqual({ open: 0, idle: 0, origins: 0 });
  });
});

describe('a kept-alive connection', () => {
  it('carries no request of a webhook whose whitelist does not hold all of its addresses', async () => {
    const receiver = await start();
    const resolve: Resolve = (_host, _options, callback) =>
      callback(null, [
        { address: '127.0.0.1', family: 4 },
        { address: '127.0.0.2', family: 4 },
      ]);
    const { send } = open({ guard: loopbackGuard({ resolve }) });
    const url = `http://two.example:${receiver.port}/`;
    expect(await send(url)).toEqual(ok('/'));
    expect(await send(url, { ipWhitelist: ['127.0.0.1/32'] })).toEqual(failed('blocked'));
    expect(await send(url, { ipWhitelist: ['10.0.0.0/8'] })).toEqual(failed('blocked'));
    expect(receiver.connections).toBe(1);
    expect(await send(url, { ipWhitelist: ['127.0.0.1/32', '127.0.0.2/32'] })).toEqual(ok('/'));
    expect(await send(url)).toEqual(ok('/'));
    expect(receiver.connections).toBe(1);
  });

  it('that was opened for a whitelist carries the same and no other that is narrower', async () => {
    const receiver = await start();
    const { send } = open();
    const url = `http://127.0.0.1:${receiver.port}/`;
    const whitelist = ['127.0.0.0/8'];
    for (let n = 0; n < 3; n += 1) expect(await send(url, { ipWhitelist: whitelist })).toEqual(ok('/'));
    expect(await send(url, { ipWhitelist: ['127.0.0.2/31'] })).toEqual(failed('blocked'));
    expect(receiver.connections).toBe(1);
  });

  it('is judged again, with its name looked up again, when it has come of age', async () => {
    const receiver = await start();
    const clock = new ManualClock();
    let address = '127.0.0.1';
    const resolve: Resolve = (_host, _options, callback) => callback(null, [{ address, family: 4 }]);
    const { send } = open({ clock, guard: loopbackGuard({ clock, resolve }) });
    const url = `http://moving.example:${receiver.port}/`;
    expect(await send(url)).toEqual(ok('/'));
    address = '10.0.0.1';
    clock.advance(CONNECTION_AGE_MS_MAX);
    expect(await send(url)).toEqual(ok('/'));
    clock.advance(1);
    expect(await send(url)).toEqual(failed('blocked'));
    expect(receiver.connections).toBe(1);
    await eventually(
      async () => receiver.open.size,
      (count) => count === 0,
    );
  });

  it('that the receiver closed while it was idle costs no request: a new one is opened, and judged', async () => {
    const receiver = await start();
    const { send } = open();
    const url = `http://127.0.0.1:${receiver.port}/`;
    for (let n = 1; n <= 5; n += 1) {
      expect(await send(url)).toEqual(ok('/'));
      for (const socket of receiver.open) socket.end();
      await eventually(
        async () => receiver.open.size,
        (count) => count === 0,
      );
    }
    expect(receiver.connections).toBe(5);
  });
});
