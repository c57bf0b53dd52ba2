import type { AttemptResult } from '../../src/delivery/outcome.ts';
import type { OutgoingRequest, Sender } from '../../src/delivery/sender.ts';
import { parseId } from '../../src/kernel/ids.ts';
import type { ModelNode } from './model-node.ts';

/** A request that a node has sent. */
export interface SentRequest {
  node: ModelNode;
  /** The node's number when it was sent. */
  nodeId: number;
  /** UUID. */
  deliveryId: string;
  attempt: number;
  /** `webhook-id`. */
  messageId: string;
  /** Which webhook, by its place in the model. */
  webhook: number;
  toFailover: boolean;
  startedAtMs: number;
  deadlineMs: number;
  /** A person took the delivery away from it. */
  cancelled: boolean;
  /** Ends it; does nothing when it has ended. */
  answer(answer: Answer): void;
}

/** What receivers do. */
export type Answer = 'ok' | 'error' | 'gone' | 'busy' | 'reset' | 'timeout';

/** Stands where the network would be: it holds every request until somebody says what comes of it. */
export class Transport {
  /** Requests that have not ended, of nodes that live. */
  readonly underWay = new Set<SentRequest>();
  /** Deliveries of which a request was answered 2xx. */
  readonly succeeded = new Set<string>();
  readonly #onSend: (request: SentRequest) => void;

  constructor(onSend: (request: SentRequest) => void) {
    this.#onSend = onSend;
  }

  senderOf(node: ModelNode): Sender {
    return {
      send: (outgoing, done) => this.#send(node, outgoing, done),
      stop: async () => {
        for (const request of this.of(node)) request.answer('reset');
      },
    };
  }

  of(node: ModelNode): SentRequest[] {
    return [...this.underWay].filter((request) => request.node === node);
  }

  /** Ends the requests whose time is over; true when there were some. */
  timeOut(nowMs: number): boolean {
    const late = [...this.underWay].filter(({ deadlineMs }) => deadlineMs <= nowMs);
    for (const request of late) request.answer('timeout');
    return late.length > 0;
  }

  /** The process is gone: what it sent is never answered. */
  forget(node: ModelNode): void {
    for (const request of this.of(node)) this.underWay.delete(request);
  }

  #send(node: ModelNode, outgoing: OutgoingRequest, done: Parameters<Sender['send']>[1]): void {
    const { clock } = node;
    const startedAtMs = clock.now();
    const request: SentRequest = {
      node,
      nodeId: node.engine.nodeId,
      deliveryId: parseId('delivery', header(outgoing, 'X-Webhook-Delivery')) ?? '',
      attempt: Number(header(outgoing, 'X-Webhook-Attempt')),
      messageId: header(outgoing, 'webhook-id'),
      webhook: Number(outgoing.url.hostname.slice(1).split('.')[0]),
      toFailover: outgoing.url.hostname.startsWith('f'),
      startedAtMs,
      deadlineMs: startedAtMs + outgoing.timeoutMs,
      cancelled: false,
      answer: (answer) => {
        if (!this.underWay.delete(request)) return;
        if (answer === 'ok') this.succeeded.add(request.deliveryId);
        done(RESULTS[answer], clock.now() - startedAtMs);
      },
    };
    this.underWay.add(request);
    this.#onSend(request);
  }
}

function header({ headers }: OutgoingRequest, name: string): string {
  const at = headers.findIndex((each, place) => place % 2 === 0 && each === name);
  return headers[at + 1] ?? '';
}

const answered = (status: number, headers: string[] = []): AttemptResult => ({
  kind: 'answered',
  status,
  headers,
  body: Buffer.alloc(0),
  truncated: false,
});

const RESULTS: Record<Answer, AttemptResult> = {
  ok: answered(204),
  error: answered(500),
  gone: answered(410),
  busy: answered(429, ['Retry-After', '20']),
  reset: { kind: 'failed', errorClass: 'reset', message: 'The connection was closed.' },
  timeout: { kind: 'failed', errorClass: 'timeout', message: 'There was no answer in time.' },
};
