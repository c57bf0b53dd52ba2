import { errorCode } from '../db/pool.ts';
import type { Clock } from '../kernel/clock.ts';
import type { IdSource } from '../kernel/ids.ts';
import type { Logger } from '../kernel/logger.ts';
import type { WebhookTarget } from '../webhooks/target.ts';
import { type AttemptResult, decideOutcome } from './outcome.ts';
import { recordedResult } from './recorded-result.ts';
import type { AttemptRecord } from './recorder.ts';
import { prepareRequest } from './request.ts';
import type { Sender } from './sender.ts';
import type { DeliveryTask, Trigger } from './task.ts';

/** Where an attempt goes, and what for. */
export type Route =
  | { kind: 'usual' }
  | { kind: 'test' }
  | { kind: 'failover'; url: URL }
  /** It tries whether a webhook with an open circuit is back; `againMs` until the next one may. */
  | { kind: 'probe'; againMs: number };

/** An attempt that has ended and was not recorded yet. */
export interface AttemptEnd {
  record: AttemptRecord;
  route: Route;
}

export interface AttemptsOptions {
  sender: Sender;
  clock: Clock;
  newId: IdSource;
  logger: Logger;
  /** In [0, 1), for the jitter of retries. */
  random: () => number;
  /** Attempts that no delivery has more of. */
  attemptsMax?: number | undefined;
}

/** Makes attempts: builds and signs the request, sends it, and decides what its result means for the delivery. */
export class Attempts {
  readonly #options: AttemptsOptions;

  constructor(options: AttemptsOptions) {
    this.#options = options;
  }

  /** Calls `onEnd` once, possibly before it returns: a request that cannot be built has ended at once. */
  make(task: DeliveryTask, target: WebhookTarget, route: Route, onEnd: (end: AttemptEnd) => void): void {
    const { sender, clock, logger } = this.#options;
    const number = task.attemptCount + 1;
    const url = route.kind === 'failover' ? route.url : target.url;
    let request: ReturnType<typeof prepareRequest>;
    try {
      request = prepareRequest(task, target, url, number, clock.now());
    } catch (error) {
      // A fault of ours is an attempt like any other: it is seen, retried and capped, and the lane goes on.
      logger.error({ code: errorCode(error), delivery_id: task.id }, 'a request could not be built');
      const result = { kind: 'failed', errorClass: 'internal', message: 'The request could not be built.' } as const;
      onEnd(this.#end(task, target, route, number, '{}', result, 0));
      return;
    }
    sender.send(request, (result, durationMs) => {
      onEnd(this.#end(task, target, route, number, request.recordedHeaders, result, durationMs));
    });
  }

  #end(
    task: DeliveryTask,
    target: WebhookTarget,
    route: Route,
    number: number,
    requestHeaders: string,
    result: AttemptResult,
    durationMs: number,
  ): AttemptEnd {
    const { clock, newId, random, attemptsMax } = this.#options;
    const endedAtMs = clock.now();
    const trigger: Trigger = route.kind === 'failover' ? 'failover' : task.trigger;
    const outcome = decideOutcome({
      result,
      policy: target.retryPolicy,
      attemptsMax,
      attemptNumber: number,
      trigger,
      probeAgainMs: route.kind === 'probe' ? route.againMs : undefined,
      hasFailover: target.failoverUrl !== null,
      nowMs: endedAtMs,
      random: random(),
    });
    const parksKey = outcome.status === 'dead' && task.orderNumber !== null && target.ordering?.onDead === 'park';
    const answer = recordedResult(result);
    const record: AttemptRecord = {
      task,
      id: newId(),
      number,
      trigger,
      outcome,
      parksKey,
      url: route.kind === 'failover' ? route.url.href : target.url.href,
      method: target.method,
      envelope: target.envelope,
      requestHeaders,
      responseStatus: answer.responseStatus,
      responseHeaders: answer.responseHeaders,
      responseBody: answer.responseBody,
      responseTruncated: answer.responseTruncated,
      errorClass: answer.errorClass,
      errorMessage: answer.errorMessage,
      durationMs,
      endedAtMs,
    };
    return { record, route };
  }
}
