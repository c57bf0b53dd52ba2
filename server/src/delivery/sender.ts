import { Agent, type Dispatcher } from 'undici';
import type { Clock } from '../kernel/clock.ts';
import type { EgressGuard } from '../webhooks/egress/guard.ts';
import { failureOf } from './failure.ts';
import type { AttemptResult } from './outcome.ts';

/** One request to a receiver, ready to go. */
export interface OutgoingRequest {
  url: URL;
  method: Dispatcher.HttpMethod;
  /** Header name and value in turn. */
  headers: string[];
  /** null: a request without a body. */
  body: Buffer | null;
  /** For the whole exchange, from the name lookup to the last byte of the answer. */
  timeoutMs: number;
  verifyTls: boolean;
}

export interface Sender {
  /** Calls `done` exactly once, within the timeout and a sweep interval, whatever the receiver does. */
  send(request: OutgoingRequest, done: (result: AttemptResult, durationMs: number) => void): void;
  stop(): Promise<void>;
}

/** What is kept of an answer's body; the rest is not even read. */
export const RESPONSE_BYTES_MAX = 65_536;

/** How often deadlines are looked at: one timer for all requests, since a timer a request costs more than it is worth. */
const SWEEP_MS = 50;

/** Header bytes of an answer; more is a failed attempt. */
const RESPONSE_HEADER_BYTES_MAX = 32_768;

const CONNECTIONS_PER_ORIGIN = 256;

/**
 * Sends over kept-alive HTTP/1.1 connections. Redirects are not followed and content is not decompressed: both would
 * let a receiver choose what this process does next.
 */
export function createSender(options: { clock: Clock; guard: EgressGuard }): Sender {
  const { clock, guard } = options;
  const exchanges = new Set<Exchange>();
  let cancelSweep: (() => void) | undefined;

  const openAgent = (verifyTls: boolean) =>
    new Agent({
      connections: CONNECTIONS_PER_ORIGIN,
      pipelining: 1,
      allowH2: false,
      keepAliveTimeout: 30_000,
      // The exchange's own deadline is the only clock that decides.
      headersTimeout: 0,
      bodyTimeout: 0,
      maxHeaderSize: RESPONSE_HEADER_BYTES_MAX,
      connect: { rejectUnauthorized: verifyTls, lookup: guard.lookup, timeout: 60_000, autoSelectFamily: true },
    });
  const verifying = openAgent(true);
  const trusting = openAgent(false);

  const sweep = () => {
    const now = clock.monotonicMs();
    for (const exchange of exchanges) if (exchange.deadlineMs <= now) exchange.timeOut();
    cancelSweep = exchanges.size > 0 ? clock.after(SWEEP_MS, sweep) : undefined;
  };

  return {
    send(request, done) {
      // A name is judged when it is looked up; an address is never looked up, so it is judged here.
      const refusal = guard.judgeLiteral(request.url.hostname);
      if (refusal !== undefined) {
        done({ kind: 'failed', errorClass: 'blocked', message: refusal }, 0);
        return;
      }
      const exchange = new Exchange(clock, request.timeoutMs, (result, durationMs) => {
        exchanges.delete(exchange);
        done(result, durationMs);
      });
      exchanges.add(exchange);
      cancelSweep ??= clock.after(SWEEP_MS, sweep);
      const agent = request.verifyTls ? verifying : trusting;
      try {
        agent.dispatch(
          {
            origin: request.url.origin,
            path: request.url.pathname + request.url.search,
            method: request.method,
            headers: request.headers,
            body: request.body,
          },
          exchange,
        );
      } catch (error) {
        exchange.onResponseError(undefined, error);
      }
    },
    async stop() {
      cancelSweep?.();
      await Promise.all([verifying.destroy(), trusting.destroy()]);
    },
  };
}

/** One request under way. It ends once: with an answer, a failure or its deadline; what comes later is ignored. */
class Exchange implements Dispatcher.DispatchHandler {
  readonly deadlineMs: number;
  readonly #startMs: number;
  readonly #clock: Clock;
  readonly #done: (result: AttemptResult, durationMs: number) => void;
  #controller: Dispatcher.DispatchController | undefined;
  #status = 0;
  #headers: string[] = [];
  #chunks: Buffer[] = [];
  #bytes = 0;
  #ended = false;

  constructor(clock: Clock, timeoutMs: number, done: (result: AttemptResult, durationMs: number) => void) {
    this.#clock = clock;
    this.#startMs = clock.monotonicMs();
    this.deadlineMs = this.#startMs + timeoutMs;
    this.#done = done;
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    // It waited for a connection until after its deadline.
    if (this.#ended) controller.abort(new Error('The attempt has ended.'));
  }

  onResponseStart(controller: Dispatcher.DispatchController, status: number): void {
    this.#controller = controller;
    // 1xx answers come before the real one.
    if (status < 200) return;
    this.#status = status;
    this.#headers = readHeaders(controller.rawHeaders);
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (this.#ended) return;
    const room = RESPONSE_BYTES_MAX - this.#bytes;
    if (chunk.length <= room) {
      this.#chunks.push(chunk);
      this.#bytes += chunk.length;
      return;
    }
    this.#chunks.push(chunk.subarray(0, room));
    this.#answer(true);
    controller.abort(new Error('The answer is longer than what is kept of it.'));
  }

  onResponseEnd(): void {
    this.#answer(false);
  }

  onResponseError(_controller: unknown, error: unknown): void {
    this.#end(failureOf(error));
  }

  timeOut(): void {
    const answered = this.#status === 0 ? 'no answer' : 'no complete answer';
    this.#end({ kind: 'failed', errorClass: 'timeout', message: `There was ${answered} within the timeout.` });
    this.#controller?.abort(new Error('The attempt has timed out.'));
  }

  #answer(truncated: boolean): void {
    const [first] = this.#chunks;
    const body = this.#chunks.length === 1 && first !== undefined ? first : Buffer.concat(this.#chunks);
    this.#end({ kind: 'answered', status: this.#status, headers: this.#headers, body, truncated });
  }

  #end(result: AttemptResult): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#done(result, Math.max(0, Math.round(this.#clock.monotonicMs() - this.#startMs)));
  }
}

function readHeaders(raw: Dispatcher.DispatchController['rawHeaders']): string[] {
  if (!Array.isArray(raw)) return [];
  return raw.map((part) => (typeof part === 'string' ? part : part.toString('latin1')));
}
