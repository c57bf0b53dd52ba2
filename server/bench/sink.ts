import { type AddressInfo, createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { nowUs } from './clock.ts';
import { createMessageReader } from './http-messages.ts';
import { answerCalls } from './part.ts';
import { readMarker } from './publish-request.ts';
import { Tally, type TallyOptions, type TallyReport } from './tally.ts';

/**
 * The receiver of all webhooks: webhook number n posts to `/w/n`. It answers 200 at once and writes down what came, when.
 */
export type SinkCalls = {
  /** Returns the port, on 127.0.0.1. */
  listen(input: null): Promise<number>;
  /** Starts counting for a run. */
  begin(options: TallyOptions): void;
  /** Waits for the rest of the run and reports. */
  finish(options: FinishOptions): Promise<TallyReport>;
};

export interface FinishOptions {
  /** Events 0 to `published - 1` were sent. */
  published: number;
  /** Those of them that were not accepted. */
  refused: number[];
  /** Stop waiting after so long without an arrival. */
  idleMs: number;
  /** Stop waiting in any case. */
  waitMs: number;
}

/** Arrivals are still counted for so long after the last expected one: a duplicate comes late. */
const SETTLE_MS = 250;
const POLL_MS = 20;
const OK = Buffer.from('HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok');

let webhooks = 1;
let tally = new Tally({ run: 0, eventsMax: 0, webhooks });

const server = createServer({ noDelay: true }, (socket) => {
  const read = createMessageReader(({ head, body }) => {
    tally.record(webhookOf(head), readMarker(body), nowUs());
    socket.write(OK);
  });
  socket.on('data', (bytes) => {
    try {
      read(bytes as Buffer);
    } catch {
      // A request that cannot be read counts as one without a marker, and so fails the run.
      tally.record(0, undefined, nowUs());
      socket.destroy();
    }
  });
  // A connection that breaks needs no care of its own: what it did not bring is missing.
  socket.on('error', () => socket.destroy());
});

answerCalls({
  async listen() {
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', 1024, resolve));
    return (server.address() as AddressInfo).port;
  },
  begin(options) {
    tally = new Tally(options);
    webhooks = options.webhooks;
  },
  async finish({ published, refused, idleMs, waitMs }) {
    const expected = (published - refused.length) * webhooks;
    const startUs = nowUs();
    let progress = { arrived: tally.arrived, atUs: startUs };
    while (tally.arrived < expected) {
      await sleep(POLL_MS);
      const now = nowUs();
      if (tally.arrived !== progress.arrived) progress = { arrived: tally.arrived, atUs: now };
      if (now - progress.atUs > idleMs * 1000 || now - startUs > waitMs * 1000) break;
    }
    await sleep(SETTLE_MS);
    return tally.report(published, new Set(refused));
  },
} satisfies SinkCalls);

function webhookOf(head: string): number {
  return Number(/^[A-Z]+ \/w\/(\d+) /.exec(head)?.[1]);
}
