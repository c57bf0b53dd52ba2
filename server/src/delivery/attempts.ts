import { errorCode } from '../db/pool.ts';
import type { Clock } from '../kernel/clock.ts';
import type { IdSource } from '../kernel/ids.ts';
import type { Logger } from '../kernel/logger.ts';
import { formName } from '../shaping/body-form.ts';
import type { WebhookTarget } from '../webhooks/target.ts';
import { type Batch, batchForm } from './batch.ts';
import { compressBody } from './compress.ts';
import { type AttemptResult, decideOutcome, type Failure } from './outcome.ts';
import { recordedResult } from './recorded-result.ts';
import type { AttemptRecord } from './recorder.ts';
import { type PreparedRequest, prepareBatch, prepareRequest } from './request.ts';
import type { Sender } from './sender.ts';
import type { DeliveryTask, Trigger } from './task.ts';
import type { Token, TokenResult, Tokens } from './tokens.ts';
import type { TooLarge } from './too-large.ts';

/** Where an attempt goes, and what for. */
export type Route =
  | { kind: 'usual' }
  | { kind: 'test' }
  | { kind: 'failover'; url: URL }
  /** It tries whether a webhook with an open circuit is back; `againMs` until the next one may. */
  | { kind: 'probe'; againMs: number };

/** What one request carries: a delivery, or a batch of them for a webhook that has batching. */
export interface Load {
  tasks: readonly DeliveryTask[];
  batch: Batch | undefined;
}

/** A request that has ended. Its attempts, one for each delivery, were not recorded yet. */
export interface AttemptEnd {
  records: AttemptRecord[];
  route: Route;
  durationMs: number;
  succeeded: boolean;
  /** Nothing is learned of the receiver: it was a fault of ours, or something that is tried in another form at once. */
  tellsNothing: boolean;
}

export interface AttemptsOptions {
  sender: Sender;
  tokens: Tokens;
  tooLarge: TooLarge;
  clock: Clock;
  newId: IdSource;
  logger: Logger;
  /** In [0, 1), for the jitter of retries. */
  random: () => number;
  /** Attempts that no delivery has more of. */
  attemptsMax?: number | undefined;
}

interface Sent {
  load: Load;
  target: WebhookTarget;
  route: Route;
  token: Token | undefined;
  /** For each delivery. */
  recordedHeaders: readonly string[];
}

const PAYLOAD_TOO_LARGE = 413;

/** Makes attempts: builds and signs the request, sends it, and decides what its result means for each delivery. */
export class Attempts {
  readonly #options: AttemptsOptions;

  constructor(options: AttemptsOptions) {
    this.#options = options;
  }

  /**
   * Calls `onEnd` once, possibly before it returns: a request that cannot be built has ended at once. `token`: what came
   * of asking for one, for webhooks that need it.
   */
  make(
    load: Load,
    target: WebhookTarget,
    route: Route,
    token: TokenResult | undefined,
    onEnd: (end: AttemptEnd) => void,
  ): void {
    const { sender } = this.#options;
    const sent: Sent = { load, target, route, token: token?.ok ? token.token : undefined, recordedHeaders: [] };
    if (token?.ok === false) {
      onEnd(this.#end(sent, token.failure, token.durationMs));
      return;
    }
    let request: PreparedRequest;
    try {
      request = this.#prepare(sent);
    } catch (error) {
      onEnd(this.#fault(sent, error));
      return;
    }
    sent.recordedHeaders = request.recordedHeaders;
    const send = () => sender.send(request, (result, durationMs) => onEnd(this.#end(sent, result, durationMs)));
    if (!request.compresses || request.body === null) {
      send();
      return;
    }
    compressBody(request.body, (error, compressed) => {
      if (error !== null) {
        onEnd(this.#fault(sent, error));
        return;
      }
      request.body = compressed;
      send();
    });
  }

  #prepare({ load, target, route, token }: Sent): PreparedRequest {
    const url = route.kind === 'failover' ? route.url : target.url;
    const signing = { nowMs: this.#options.clock.now(), token: token?.value };
    if (load.batch !== undefined) return prepareBatch(load.batch, target, url, signing);
    const [task] = load.tasks;
    if (task === undefined) throw new Error('There is nothing to send.');
    return prepareRequest(task, target, url, task.attemptCount + 1, signing);
  }

  /** A fault of ours is an attempt like any other: it is seen, retried and capped, and the lane goes on. */
  #fault(sent: Sent, error: unknown): AttemptEnd {
    const [task] = sent.load.tasks;
    this.#options.logger.error({ code: errorCode(error), delivery_id: task?.id }, 'a request could not be built');
    const result: Failure = { kind: 'failed', errorClass: 'internal', message: 'The request could not be built.' };
    return this.#end({ ...sent, recordedHeaders: [] }, result, 0);
  }

  #end(sent: Sent, result: AttemptResult, durationMs: number): AttemptEnd {
    const again = this.#isWorthAnother(sent, result);
    // The same for all: what was sent together fails until the same time, and goes together again.
    const random = this.#options.random();
    const records = sent.load.tasks.map((task, at) =>
      this.#record(sent, task, sent.recordedHeaders[at] ?? '{}', { result, durationMs, again, random }),
    );
    return {
      records,
      route: sent.route,
      durationMs,
      succeeded: result.kind === 'answered' && result.status >= 200 && result.status < 300,
      tellsNothing: again || (result.kind === 'failed' && result.errorClass === 'internal'),
    };
  }

  #isWorthAnother({ load, target, route, token }: Sent, result: AttemptResult): boolean {
    if (result.kind !== 'answered' || route.kind === 'test') return false;
    if (token !== undefined && this.#options.tokens.answered(target, token, result.status)) return true;
    if (result.status !== PAYLOAD_TOO_LARGE || load.batch === undefined || load.tasks.length === 1) return false;
    this.#options.tooLarge.note(target.id, load.batch.bytes);
    return true;
  }

  #record(
    { load, target, route }: Sent,
    task: DeliveryTask,
    requestHeaders: string,
    came: { result: AttemptResult; durationMs: number; again: boolean; random: number },
  ): AttemptRecord {
    const { clock, newId, attemptsMax } = this.#options;
    const { result, durationMs, again, random } = came;
    const number = task.attemptCount + 1;
    const endedAtMs = clock.now();
    const trigger: Trigger = route.kind === 'failover' ? 'failover' : task.trigger;
    const outcome = decideOutcome({
      result,
      policy: target.retryPolicy,
      attemptsMax,
      attemptNumber: number,
      trigger,
      probeAgainMs: route.kind === 'probe' ? route.againMs : undefined,
      again,
      hasFailover: target.failoverUrl !== null,
      nowMs: endedAtMs,
      random,
    });
    const parksKey = outcome.status === 'dead' && task.orderNumber !== null && target.ordering?.onDead === 'park';
    const answer = recordedResult(result);
    // It may repeat what the other events said, and these are others' to mask and to erase.
    const keepsBody = load.tasks.length === 1;
    return {
      task,
      id: newId(),
      number,
      trigger,
      outcome,
      parksKey,
      url: route.kind === 'failover' ? route.url.href : target.url.href,
      method: target.method,
      envelope: formName(load.batch === undefined ? target : batchForm(target)),
      requestHeaders,
      responseStatus: answer.responseStatus,
      responseHeaders: answer.responseHeaders,
      responseBody: keepsBody ? answer.responseBody : null,
      responseTruncated: keepsBody ? answer.responseTruncated : (answer.responseBody?.length ?? 0) > 0,
      errorClass: answer.errorClass,
      errorMessage: answer.errorMessage,
      durationMs,
      endedAtMs,
    };
  }
}
