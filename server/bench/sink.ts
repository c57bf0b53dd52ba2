import { type AddressInfo, createServer, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { nowUs } from './clock.ts';
import { createMessageReader } from './http-messages.ts';
import { answerCalls } from './part.ts';
import { readMarker } from './publish-request.ts';
import { type Publishes, Tally, type TallyOptions, type TallyReport } from './tally.ts';

/**
 * The receiver of all webhooks: webhook number n posts to `/w/n`. It answers 200 at once and writes down what came, when.
 * What is posted to `/never` gets no answer, and what is posted to `/late` one after 16 seconds; neither is counted.
 */
export type SinkCalls = {
  /** Returns the port, on 127.0.0.1. */
  listen(input: null): Promise<number>;
  /** Starts counting for a run. */
  begin(options: TallyOptions): void;
  /** Different deliveries that arrived so far. */
  arrived(input: null): number;
  /** The sender was killed: what arrives from here on comes from its next life. */
  beginLife(input: null): void;
  /** Waits for the rest of the run and reports. */
  finish(options: FinishOptions): Promise<TallyReport>;
  /** Requests that have no answer yet. */
  hanging(input: null): number;
  /** Closes the connections of requests that have no answer yet. */
  hangUp(input: null): void;
};

export interface FinishOptions extends Publishes {
  /** Stop waiting after so long without an arrival. */
  idleMs: number;
  /** Stop waiting in any case. */
  waitMs: number;
}

/** Arrivals are still counted for so long after the last expected one: a duplicate comes late. */
const SETTLE_MS = 250;
const POLL_MS = 20;
/** A second more than a webhook's default timeout. */
const LATE_MS = 16_000;
const OK = Buffer.from('HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok');

let tally = new Tally({ run: 0, eventsMax: 0, webhooks: 1, byTurns: false });
const hanging = new Set<Socket>();

const server = createServer({ noDelay: true }, (socket) => {
  const read = createMessageReader(({ head, body }) => {
    const place = /^[A-Z]+ \/(?:w\/(\d+)|(never|late)) /.exec(head);
    if (place?.[2] !== undefined) {
      keepWaiting(socket, place[2] === 'late');
      return;
    }
    tally.record(Number(place?.[1]), readMarker(body), nowUs());
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
  },
  arrived() {
    return tally.arrived;
  },
  beginLife() {
    tally.beginLife();
  },
  async finish({ idleMs, waitMs, ...publishes }) {
    const expected = tally.expected(publishes);
    const startUs = nowUs();
    let progress = { arrived: tally.arrived, atUs: startUs };
    while (tally.arrived < expected) {
      await sleep(POLL_MS);
      const now = nowUs();
      if (tally.arrived !== progress.arrived) progress = { arrived: tally.arrived, atUs: now };
      if (now - progress.atUs > idleMs * 1000 || now - startUs > waitMs * 1000) break;
    }
    await sleep(SETTLE_MS);
    return tally.report(publishes);
  },
  hanging() {
    return hanging.size;
  },
  hangUp() {
    for (const socket of hanging) socket.destroy();
  },
} satisfies SinkCalls);

function keepWaiting(socket: Socket, answersLate: boolean): void {
  hanging.add(socket);
  const answer = answersLate
    ? setTimeout(() => {
        hanging.delete(socket);
        socket.write(OK);
      }, LATE_MS)
    : undefined;
  socket.once('close', () => {
    clearTimeout(answer);
    hanging.delete(socket);
  });
}
