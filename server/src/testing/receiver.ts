import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';

/** A request as the receiver got it. */
export interface ReceivedRequest {
  method: string;
  path: string;
  headers: http.IncomingHttpHeaders;
  body: Buffer;
  /** Closes the connection without an answer. */
  reset(): void;
  respond(status: number, headers?: http.OutgoingHttpHeaders, body?: string): void;
}

/** A real webhook receiver on a loopback port. It answers 200 unless told otherwise. */
export interface Receiver {
  url: string;
  /** Every request so far. */
  requests: ReceivedRequest[];
  /** What to do with requests from now on; a handler that does nothing lets the sender wait. */
  onRequest: (request: ReceivedRequest) => void;
  /** Resolves when at least `count` requests have come. */
  received(count: number): Promise<ReceivedRequest[]>;
  stop(): Promise<void>;
}

export async function startReceiver(): Promise<Receiver> {
  const waiting: { count: number; resolve: () => void }[] = [];
  const receiver: Receiver = {
    url: '',
    requests: [],
    onRequest: (request) => request.respond(200),
    received: (count) =>
      new Promise((resolve) => {
        waiting.push({ count, resolve: () => resolve(receiver.requests) });
        wake();
      }),
    async stop() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
  const wake = () => {
    for (const waiter of waiting) if (receiver.requests.length >= waiter.count) waiter.resolve();
  };
  const server = http.createServer((incoming, response) => {
    const chunks: Buffer[] = [];
    incoming.on('data', (chunk: Buffer) => chunks.push(chunk));
    incoming.on('end', () => {
      const request: ReceivedRequest = {
        method: incoming.method ?? '',
        path: incoming.url ?? '',
        headers: incoming.headers,
        body: Buffer.concat(chunks),
        reset: () => incoming.socket.destroy(),
        respond: (status, headers = {}, body = '') => response.writeHead(status, headers).end(body),
      };
      receiver.requests.push(request);
      receiver.onRequest(request);
      wake();
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  receiver.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return receiver;
}
