import type { AttemptResult } from '../../src/delivery/outcome.ts';
import type { OutgoingRequest, Sender } from '../../src/delivery/sender.ts';
import { parseId } from '../../src/kernel/ids.ts';
import type { ModelNode } from './model-node.ts';

/** A request that a node has sent. */
export interface SentRequest {
  node: ModelNode;
  /** The node's number when it was sent. */
  nodeId: number;
  /** UUIDs; a batch has several. */
  deliveryIds: string[];
  /** Of a batch the highest of its deliveries' numbers. */
  attempt: number;
  /** `webhook-id`. */
  messageId: string;
  /** What a batch says of its events, as it is sent; undefined: it is none. */
  batchOf: string | undefined;
  /** Of the body. */
  bytes: number;
  /** Which webhook, by its place in the model. */
  webhook: number;
  toFailover: boolean;
  startedAtMs: number;
  /** When its turn came: earlier than that where a template shaped it first. */
  begunAtMs: number;
  deadlineMs: number;
  /** Deliveries that a person took away from it. */
  cancelled: Set<string>;
  /** Ends it; does nothing when it has ended. */
  answer(answer: Answer): void;
}

/** What receivers do. `one at a time`: takes a single event, and says of more that they are too large. */
export type Answer = 'ok' | 'error' | 'gone' | 'busy' | 'reset' | 'timeout' | 'too large' | 'one at a time';

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
    const webhook = Number(outgoing.url.hostname.slice(1).split('.')[0]);
    const request: SentRequest = {
      node,
      nodeId: node.engine.nodeId,
      deliveryIds: header(outgoing, 'X-Webhook-Delivery')
        .split(',')
        .map((id) => parseId('delivery', id) ?? ''),
      attempt: Number(header(outgoing, 'X-Webhook-Attempt')),
      messageId: header(outgoing, 'webhook-id'),
      batchOf: header(outgoing, 'X-Webhook-Event-Ids') || undefined,
      bytes: outgoing.body?.length ?? 0,
      webhook,
      toFailover: outgoing.url.hostname.startsWith('f'),
      startedAtMs,
      begunAtMs: outgoing.body === null ? startedAtMs : node.sandbox.begunAt(webhook, outgoing.body, startedAtMs),
      deadlineMs: startedAtMs + outgoing.timeoutMs,
      cancelled: new Set(),
      answer: (answer) => {
        if (!this.underWay.delete(request)) return;
        const result = answer === 'one at a time' ? answerTo(request) : RESULTS[answer];
        if (result === RESULTS.ok) for (const id of request.deliveryIds) this.succeeded.add(id);
        done(result, clock.now() - startedAtMs);
      },
    };
    this.underWay.add(request);
    this.#onSend(request);
  }
}

function header({ headers }: OutgoingRequest, name: string): string {
  const at = headers.findIndex((each, place) => place % 2 === 0 && each === name);
  return at < 0 ? '' : (headers[at + 1] ?? '');
}

const answered = (status: number, headers: string[] = []): AttemptResult => ({
  kind: 'answered',
  status,
  headers,
  body: Buffer.alloc(0),
  truncated: false,
});

const RESULTS: Record<Exclude<Answer, 'one at a time'>, AttemptResult> = {
  ok: answered(204),
  error: answered(500),
  gone: answered(410),
  busy: answered(429, ['Retry-After', '20']),
  reset: { kind: 'failed', errorClass: 'reset', message: 'The connection was closed.' },
  'too large': answered(413),
  timeout: { kind: 'failed', errorClass: 'timeout', message: 'There was no answer in time.' },
};

function answerTo({ deliveryIds }: SentRequest): AttemptResult {
  return RESULTS[deliveryIds.length > 1 ? 'too large' : 'ok'];
}
