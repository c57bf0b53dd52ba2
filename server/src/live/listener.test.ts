import { once } from 'node:events';
import http, { type ServerResponse } from 'node:http';
import net, { type AddressInfo } from 'node:net';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { firstIdAt } from '../kernel/ids.ts';
import { eventually } from '../testing/eventually.ts';
import { ManualClock } from '../testing/manual-clock.ts';
import { BACKLOG_BYTES_MAX, Listener } from './listener.ts';
import type { Message } from './message.ts';

let server: http.Server;
let onResponse: (response: ServerResponse) => void = () => {};
const sockets: net.Socket[] = [];
const clock = new ManualClock();

beforeAll(async () => {
  server = http.createServer((_request, response) => onResponse(response));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
});
afterAll(() => server.close());
afterEach(() => {
  for (const socket of sockets.splice(0)) socket.destroy();
});

/** A listener whose client reads nothing until it is told to. */
async function makeListener() {
  const calls = { slow: 0, closed: 0 };
  const made = new Promise<Listener>((resolve) => {
    onResponse = (response) => {
      const onSlow = () => {
        calls.slow += 1;
      };
      const onClose = () => {
        calls.closed += 1;
      };
      response.writeHead(200);
      resolve(new Listener({ response, wants: () => true, clock, onSlow, onClose }));
    };
  });
  const socket = net.connect((server.address() as AddressInfo).port, '127.0.0.1');
  socket.on('error', () => {});
  sockets.push(socket);
  socket.pause();
  socket.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
  return { listener: await made, socket, calls };
}

const message = (bytes: number): Message => ({
  id: firstIdAt(clock.now()),
  type: 'delivery.delivered',
  webhookId: null,
  owner: null,
  eventType: 'a.b',
  status: 'delivered',
  text: `event: delivery.delivered\ndata: ${'x'.repeat(bytes)}\n`,
});

test('who does not read is cut off, and what waited for him is let go', async () => {
  const { listener, calls } = await makeListener();
  let sentBytes = 0;
  while (!listener.closed && sentBytes < 100_000_000) {
    listener.send([message(100_000)]);
    sentBytes += 100_000;
    expect(listener.backlogBytes).toBeLessThanOrEqual(BACKLOG_BYTES_MAX);
    await new Promise(setImmediate);
  }
  expect(sentBytes).toBeLessThan(100_000_000);
  expect(calls.slow).toBe(1);
  await eventually(
    async () => calls.closed,
    (closed) => closed === 1,
  );
  expect(listener.backlogBytes).toBe(0);
  listener.send([message(10)]);
  listener.end('stopping');
  expect(calls).toEqual({ slow: 1, closed: 1 });
});

/** Fills what the system keeps of a connection, so that something waits in memory. */
async function fill(listener: Listener): Promise<void> {
  for (let still = 0, sent = 0; still < 20 && sent < 2_000; sent += 1) {
    still = listener.backlogBytes === 0 ? 0 : still + 1;
    if (still === 0) listener.send([message(100_000)]);
    await new Promise(setImmediate);
  }
  expect(listener.closed).toBe(false);
  expect(listener.backlogBytes).toBeGreaterThan(0);
}

test('who reads nothing from one heartbeat to the next is cut off', async () => {
  const { listener, calls } = await makeListener();
  for (let count = 0; count < 3; count += 1) {
    listener.beat(undefined);
    await eventually(
      async () => listener.backlogBytes,
      (bytes) => bytes === 0,
    );
  }
  expect(calls.slow).toBe(0);
  await fill(listener);
  listener.beat(undefined);
  expect(calls.slow).toBe(0);
  listener.beat(undefined);
  expect(calls.slow).toBe(1);
});

test('who is sent what he missed has half a minute to read a page of it', async () => {
  const { listener, calls, socket } = await makeListener();
  await fill(listener);
  const read = listener.read();
  clock.advance(29_999);
  expect(calls.slow).toBe(0);
  socket.resume();
  await read;
  expect(listener.closed).toBe(false);
  clock.advance(60_000);
  expect(calls.slow).toBe(0);

  const slow = await makeListener();
  await fill(slow.listener);
  const reading = slow.listener.read();
  clock.advance(30_000);
  await reading;
  expect(slow.calls.slow).toBe(1);
});
