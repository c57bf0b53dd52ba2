import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { eventually } from '../../src/testing/eventually.ts';

/** A delivery's attempt as it arrived. */
export interface Arrival {
  /** `data.n` of the event. */
  event: number;
  /** `X-Webhook-Attempt`. */
  attempt: number;
  /** Which start of the program sent it. */
  life: number;
  /** Milliseconds since the epoch. */
  atMs: number;
  /** When the answer was written; undefined: not yet, or the sender was gone by then. */
  answeredAtMs: number | undefined;
  /** What it is answered with, when its time comes. */
  status: number;
  /** The part of the receiver that it came to, e.g. `/slow`. */
  path: string;
}

/** A webhook receiver that keeps account of what each start of the program sent. */
export interface Ledger {
  url: string;
  arrivals: Arrival[];
  /** What to answer, and after how many milliseconds; they count from `heldUntil` when that is given. */
  onArrival: (arrival: Omit<Arrival, 'status' | 'answeredAtMs'>) => {
    status: number;
    afterMs: number;
    heldUntil?: Promise<void>;
  };
  /**
   * To be called after the program has ended: resolves when all that it sent has been read, and enters what comes from
   * then on under the next life.
   */
  nextLife(): Promise<void>;
  stop(): Promise<void>;
}

export async function startLedger(): Promise<Ledger> {
  let life = 1;
  let connections = 0;
  const answers = new Set<NodeJS.Timeout>();
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const body: { data: { n: number } } = JSON.parse(Buffer.concat(chunks).toString());
      const attempt = Number(request.headers['x-webhook-attempt']);
      const path = request.url ?? '';
      const asked = { event: body.data.n, attempt, life, atMs: Date.now(), path };
      const { status, afterMs, heldUntil } = ledger.onArrival(asked);
      const arrival: Arrival = { ...asked, status, answeredAtMs: undefined };
      ledger.arrivals.push(arrival);
      const answer = () => {
        const timer = setTimeout(() => {
          answers.delete(timer);
          if (!response.destroyed) arrival.answeredAtMs = Date.now();
          response.writeHead(status).end();
        }, afterMs);
        answers.add(timer);
      };
      if (heldUntil === undefined) answer();
      else void heldUntil.then(answer);
    });
  });
  server.on('connection', (socket) => {
    connections += 1;
    socket.on('close', () => {
      connections -= 1;
    });
  });
  const ledger: Ledger = {
    url: '',
    arrivals: [],
    onArrival: () => ({ status: 200, afterMs: 0 }),
    nextLife: async () => {
      await eventually(
        async () => connections,
        (open) => open === 0,
      );
      life += 1;
    },
    stop: async () => {
      for (const answer of answers) clearTimeout(answer);
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  ledger.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return ledger;
}
