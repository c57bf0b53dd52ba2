import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { buffer } from 'node:stream/consumers';
import type { Clock } from '../../kernel/clock.ts';
import { generateSecret } from '../../signing/secrets.ts';
import { judgeSignatures } from '../receive/verdicts.ts';

/** One of the demo's endpoints, on 127.0.0.1. */
export interface DemoReceiver {
  name: string;
  /** What it does with requests, as the rest of a sentence about it. */
  habit: string;
  url: string;
  secret: string;
  /** What it has seen so far; the object is updated in place. */
  seen: { requests: number; retries: number; validSignatures: number };
  stop(): Promise<void>;
}

export interface DemoReceiverOptions {
  clock: Clock;
  /** In [0, 1): decides what the flaky one does with a request. */
  random: () => number;
}

/** Starts a healthy, a flaky and a dead receiver. */
export async function startDemoReceivers(options: DemoReceiverOptions): Promise<DemoReceiver[]> {
  const { clock, random } = options;
  const started: DemoReceiver[] = [];
  try {
    for (const [name, habit, respond] of HABITS) {
      started.push(await startReceiver(name, habit, clock, (response) => respond(response, random)));
    }
  } catch (error) {
    await Promise.all(started.map((receiver) => receiver.stop()));
    throw error;
  }
  return started;
}

type Respond = (response: ServerResponse, random: () => number) => void;

const HABITS: readonly (readonly [name: string, habit: string, respond: Respond])[] = [
  ['healthy', 'answers 200', (response) => response.writeHead(200).end()],
  ['flaky', 'fails every other time: 500, no answer, or a broken connection', respondFlakily],
  ['dead', 'breaks every connection', breakConnection],
];

function respondFlakily(response: ServerResponse, random: () => number): void {
  const choice = random();
  if (choice < 0.5) response.writeHead(200).end();
  else if (choice < 0.75) response.writeHead(500).end('{"error":"out of luck"}');
  else if (choice < 0.875) breakConnection(response);
  // Otherwise no answer: the sender's time runs out, and it closes the connection.
}

function breakConnection(response: ServerResponse): void {
  response.socket?.resetAndDestroy();
}

async function startReceiver(
  name: string,
  habit: string,
  clock: Clock,
  respond: (response: ServerResponse) => void,
): Promise<DemoReceiver> {
  const secret = generateSecret();
  const seen: DemoReceiver['seen'] = { requests: 0, retries: 0, validSignatures: 0 };
  const note = (request: IncomingMessage, body: Buffer) => {
    seen.requests += 1;
    if (Number(request.headers['x-webhook-attempt']) > 1) seen.retries += 1;
    const verdicts = judgeSignatures(request.headersDistinct, body, secret, clock.now());
    if (verdicts.every((verdict) => verdict.valid === true)) seen.validSignatures += 1;
  };
  const server = createServer((request, response) => {
    buffer(request).then(
      (body) => {
        note(request, body);
        respond(response);
      },
      () => response.destroy(),
    );
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    name,
    habit,
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    secret,
    seen,
    stop: async () => {
      server.close();
      server.closeAllConnections();
      await once(server, 'close');
    },
  };
}
