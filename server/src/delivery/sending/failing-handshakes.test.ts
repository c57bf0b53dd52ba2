import tls from 'node:tls';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { eventually } from '../../testing/eventually.ts';
import { ManualClock } from '../../testing/manual-clock.ts';
import { CERTIFICATE } from '../../webhooks/auth/certificate-fixture.ts';
import { openTestConnections } from './connections-fixture.ts';
import { answer, type Behaviour, type RawReceiver, startRawReceiver } from './raw-receiver-fixture.ts';

const cleanUps: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
});

async function start(behave: Behaviour, options: { tls?: boolean } = {}): Promise<RawReceiver> {
  const receiver = await startRawReceiver(behave, options);
  cleanUps.push(() => receiver.stop());
  return receiver;
}

function open(clock = new ManualClock()) {
  const test = openTestConnections({ clock });
  cleanUps.push(() => test.connections.stop());
  return test;
}

const failed = (errorClass: string) => expect.objectContaining({ kind: 'failed', errorClass });

const isClosed = (receiver: RawReceiver) =>
  eventually(
    async () => receiver.open.size,
    (count) => count === 0,
  );

describe('a certificate for another name', () => {
  beforeAll(() => tls.setDefaultCACertificates([...tls.getCACertificates('default'), CERTIFICATE]));

  it('fails 10,000 handshakes, and after them as much is open and in memory as after 1,000', async () => {
    const receiver = await start((socket) => socket.write(answer('')), { tls: true });
    const { connections, send } = open();
    const url = `https://other.test:${receiver.port}/`;
    const handshake = async (count: number) => {
      for (let n = 0; n < count; n += AT_ONCE) {
        const batch = Array.from({ length: AT_ONCE }, () => send(url));
        for (const result of await Promise.all(batch)) expect(result).toEqual(failed('tls'));
      }
      await isClosed(receiver);
      expect(connections.gauges).toEqual({ open: 0, idle: 0, origins: 0 });
      return whatIsLeft();
    };
    const early = await handshake(1_000);
    const late = await handshake(9_000);
    expect(late.resources).toEqual(early.resources);
    expect(late.heapBytes - early.heapBytes).toBeLessThan(HEAP_GROWTH_BYTES_MAX);
    expect(late.rssBytes - early.rssBytes).toBeLessThan(RSS_GROWTH_BYTES_MAX);
    // Ten thousand handshakes are minutes of work for a busy machine.
  }, 300_000);
});

const AT_ONCE = 50;

/** Measured: 0.2 MB, and none from there to 26,000 handshakes. */
const HEAP_GROWTH_BYTES_MAX = 1_000_000;

/** Measured: 45 MB, which is V8 making its young generation larger, and 1 MB from 16,000 to 26,000 handshakes. */
const RSS_GROWTH_BYTES_MAX = 100_000_000;

interface Left {
  /** What keeps the event loop alive, by kind. */
  resources: Record<string, number>;
  heapBytes: number;
  /** The TLS library's memory is not in the heap. */
  rssBytes: number;
}

async function whatIsLeft(): Promise<Left> {
  // Sockets give their memory back in the turns of the event loop after they closed.
  for (let turn = 0; turn < 10; turn += 1) await new Promise<void>((resolve) => setImmediate(resolve));
  collectGarbage();
  const { heapUsed, external, rss } = process.memoryUsage();
  const resources = Object.groupBy(process.getActiveResourcesInfo().toSorted(), (kind) => kind);
  return {
    resources: Object.fromEntries(Object.entries(resources).map(([kind, all]) => [kind, all?.length ?? 0])),
    heapBytes: heapUsed + external,
    rssBytes: rss,
  };
}

function collectGarbage(): void {
  setFlagsFromString('--expose-gc');
  const gc: () => void = runInNewContext('gc');
  for (let round = 0; round < 3; round += 1) gc();
}

describe('a handshake that never completes', () => {
  /** The head of a record of 122 bytes with a ServerHello (RFC 8446, section 4.1.3), of which half the bytes come. */
  const HALF_SERVER_HELLO = Buffer.concat([
    Buffer.from([0x16, 0x03, 0x03, 0x00, 0x7a, 0x02, 0x00, 0x00, 0x76, 0x03, 0x03]),
    Buffer.alloc(50, 1),
  ]);

  it.each<[string, Behaviour]>([
    ['is silent', () => {}],
    ['sends half a ServerHello', (socket) => socket.write(HALF_SERVER_HELLO)],
  ])('since the receiver %s ends as a timeout at the deadline; others are sent to meanwhile', async (_what, behave) => {
    const clock = new ManualClock();
    const { connections, send, sweep } = open(clock);
    const stuck = await start(behave);
    const well = await start((socket) => socket.write(answer('ok')));
    const results: unknown[] = [];
    for (let n = 0; n < 20; n += 1) {
      send(`https://stuck.test:${stuck.port}/`, { timeoutMs: 10_000 }).then((result) => results.push(result));
    }
    await eventually(
      async () => stuck.open.size,
      (count) => count === 20,
    );
    for (let n = 0; n < 5; n += 1) {
      expect(await send(`http://well.test:${well.port}/`)).toMatchObject({ kind: 'answered', status: 200 });
    }
    clock.advance(9_999);
    sweep();
    expect(await send(`http://well.test:${well.port}/`)).toMatchObject({ kind: 'answered', status: 200 });
    expect(results).toEqual([]);
    expect(connections.gauges).toEqual({ open: 21, idle: 1, origins: 2 });
    clock.advance(1);
    sweep();
    await eventually(
      async () => results.length,
      (count) => count === 20,
    );
    for (const result of results) expect(result).toEqual(failed('timeout'));
    expect(connections.gauges).toEqual({ open: 1, idle: 1, origins: 1 });
    await isClosed(stuck);
  });
});
