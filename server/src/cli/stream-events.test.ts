import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { systemClock } from '../kernel/clock.ts';
import { createApiClient } from './api-client.ts';
import { streamEvents } from './stream-events.ts';

const samples = ['a', 'b', 'c'].map((eventType) => ({ eventType, data: Buffer.from('{"n":1.0}') }));

function* inTurn() {
  for (;;) yield* samples;
}

let server: Server;
let bodies: string[];
let status: number;

beforeEach(async () => {
  bodies = [];
  status = 202;
  server = createServer(async (request, response) => {
    bodies.push(await text(request));
    const answer = { event_id: 'evt_1', event_type: 'a', deliveries: 0, duplicate: false };
    response.writeHead(status).end(JSON.stringify(status === 202 ? answer : { error: { code: 'no', message: 'No.' } }));
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
});

afterEach(() => {
  server.close();
  server.closeAllConnections();
});

function start(signal: AbortSignal, perSecond: number, onPublished: () => void): Promise<void> {
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const connection = { url, key: 'k', keySource: '', tenant: undefined, environment: undefined };
  return streamEvents({
    client: createApiClient(connection),
    clock: systemClock,
    events: inTurn(),
    perSecond,
    signal,
    onPublished,
  });
}

test('events are published one after the other, as they are spelled, until the signal; each accepted one is counted', async () => {
  const stop = new AbortController();
  let published = 0;
  await start(stop.signal, 500, () => {
    published += 1;
    if (published === 7) stop.abort();
  });
  expect(bodies.length).toBe(published);
  expect([...bodies].sort().slice(0, 1)).toEqual(['{"event_type":"a","data":{"n":1.0}}']);
  const types = bodies.map((body) => (JSON.parse(body) as { event_type: string }).event_type).sort();
  expect(new Set(types)).toEqual(new Set(['a', 'b', 'c']));
});

test('a request that fails ends the stream with its failure', async () => {
  status = 422;
  await expect(start(new AbortController().signal, 500, () => {})).rejects.toThrow('No. (422 no)');
});

test('a signal that came before ends it without a request', async () => {
  await start(AbortSignal.abort(), 500, () => {});
  expect(bodies).toEqual([]);
});

test('it ends after the last event, when all have their answers', async () => {
  let published = 0;
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const client = createApiClient({ url, key: 'k', keySource: '', tenant: undefined, environment: undefined });
  const onPublished = () => {
    published += 1;
  };
  const signal = new AbortController().signal;
  await streamEvents({ client, clock: systemClock, events: samples, perSecond: 500, signal, onPublished });
  expect([bodies.length, published]).toEqual([3, 3]);
});
