import { errorCode } from '../db/pool.ts';
import type { Clock } from '../kernel/clock.ts';
import type { IdSource } from '../kernel/ids.ts';
import type { Logger } from '../kernel/logger.ts';
import { faultText, ProgramError, type ProgramFault, type ProgramInput, type Shaped } from '../shaping/program.ts';
import type { Sandbox } from '../shaping/sandbox/sandbox.ts';
import { namedTemplate, type Shaping, type ShapingProgram, shapingOf } from '../shaping/shaping.ts';
import type { EgressGuard } from '../webhooks/egress/guard.ts';
import type { WebhookTarget } from '../webhooks/target.ts';
import { type AttemptResult, decideOutcome } from './outcome.ts';
import { recordedResult } from './recorded-result.ts';
import type { AttemptRecord } from './recorder.ts';
import { type PreparedRequest, prepareRequest, type ShapedRequest } from './request.ts';
import type { Sender } from './sender.ts';
import type { DeliveryTask, EventInHand, Trigger } from './task.ts';

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

/** The webhook's transform wants nothing to be sent; there was no attempt. */
export interface Cancelled {
  record: null;
  route: Route;
}

export interface AttemptsOptions {
  sender: Sender;
  sandbox: Pick<Sandbox, 'run'>;
  /** Judges the URLs that transforms give, as it does those of webhooks. */
  guard: Pick<EgressGuard, 'judgeUrl'>;
  clock: Clock;
  newId: IdSource;
  logger: Logger;
  /** In [0, 1), for the jitter of retries. */
  random: () => number;
}

/** What an attempt is made of, and what is known of its request so far. */
interface Attempt {
  task: DeliveryTask;
  target: WebhookTarget;
  route: Route;
  number: number;
  url: URL;
  template: ShapingProgram['template'];
  onEnd: (end: AttemptEnd | Cancelled) => void;
}

/** Makes attempts: builds and signs the request, sends it, and decides what its result means for the delivery. */
export class Attempts {
  readonly #options: AttemptsOptions;

  constructor(options: AttemptsOptions) {
    this.#options = options;
  }

  /** Calls `onEnd` once, possibly before it returns: a request that cannot be built has ended at once. */
  make(task: DeliveryTask, target: WebhookTarget, route: Route, onEnd: (end: AttemptEnd | Cancelled) => void): void {
    const url = route.kind === 'failover' ? route.url : target.url;
    const attempt: Attempt = { task, target, route, number: task.attemptCount + 1, url, template: null, onEnd };
    if (target.shaping === null) this.#send(attempt, undefined);
    else this.#shape(attempt, target.shaping);
  }

  #send(attempt: Attempt, shaped: ShapedRequest | undefined): void {
    const { sender, clock, logger } = this.#options;
    const { task, target, url, number } = attempt;
    let request: PreparedRequest;
    try {
      request = prepareRequest(task, target, url, number, clock.now(), shaped);
    } catch (error) {
      if (error instanceof ProgramError) {
        this.#failed(attempt, error.fault);
        return;
      }
      // A fault of ours is an attempt like any other: it is seen, retried and capped, and the lane goes on.
      logger.error({ code: errorCode(error), delivery_id: task.id }, 'a request could not be built');
      this.#fail(attempt, 'internal', 'The request could not be built.');
      return;
    }
    sender.send(request, (result, durationMs) => {
      const { body } = request;
      const sent = shaped === undefined ? null : (body ?? EMPTY);
      attempt.onEnd(this.#end(attempt, { headers: request.recordedHeaders, body: sent }, result, durationMs));
    });
  }

  /** Has the webhook's template or transform make the request, in the sandbox, and goes on when that has. */
  #shape(attempt: Attempt, shaping: Shaping): void {
    const { task, target, number } = attempt;
    const { event } = task;
    const found = shapingOf(shaping, event.type);
    if (found === undefined) {
      const name = namedTemplate(shaping) ?? '';
      this.#fail(attempt, 'template', `There is no template "${name}" for events of the type ${event.type}.`);
      return;
    }
    const { program, contentType, template } = found;
    this.#options.sandbox.run(target.tenantId, program, inputOf(event, number), (result) => {
      const shapedBy: Attempt = { ...attempt, template };
      if (!result.ok) this.#failed(shapedBy, result.fault);
      else this.#shaped(shapedBy, result.shaped, contentType);
    });
  }

  #shaped(attempt: Attempt, { body, headers, url, cancel }: Shaped, contentType: string): void {
    const { task, route } = attempt;
    if (cancel === true) {
      // A test has somebody waiting for its attempt.
      if (task.trigger === 'test') this.#fail(attempt, 'template', 'The transform cancels the delivery of this event.');
      else attempt.onEnd({ record: null, route });
      return;
    }
    const shaped: ShapedRequest = { body: body === null ? null : { body: Buffer.from(body), contentType }, headers };
    if (url === undefined || route.kind === 'failover') {
      this.#send(attempt, shaped);
      return;
    }
    const verdict = this.#options.guard.judgeUrl(url);
    if (verdict.ok) this.#send({ ...attempt, url: verdict.url }, shaped);
    else this.#fail(attempt, 'blocked', `The URL that the transform gives is refused: ${verdict.reason}`);
  }

  #failed(attempt: Attempt, fault: ProgramFault): void {
    this.#fail(attempt, fault.kind === 'unavailable' ? 'internal' : 'template', faultText(fault));
  }

  /** There was no request. */
  #fail(attempt: Attempt, errorClass: 'blocked' | 'internal' | 'template', message: string): void {
    const result = { kind: 'failed', errorClass, message } as const;
    attempt.onEnd(this.#end(attempt, { headers: '{}', body: null }, result, 0));
  }

  #end(
    { task, target, route, number, url, template }: Attempt,
    request: { headers: string; body: Buffer | null },
    result: AttemptResult,
    durationMs: number,
  ): AttemptEnd {
    const { clock, newId, random } = this.#options;
    const endedAtMs = clock.now();
    const trigger: Trigger = route.kind === 'failover' ? 'failover' : task.trigger;
    const outcome = decideOutcome({
      result,
      policy: target.retryPolicy,
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
      url: url.href,
      method: target.method,
      envelope: target.envelope,
      requestHeaders: request.headers,
      requestBody: request.body,
      templateId: template?.id ?? null,
      templateVersion: template?.version ?? null,
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

function inputOf(event: EventInHand, number: number): ProgramInput {
  return {
    eventType: event.type,
    eventId: event.publicId,
    timestamp: event.timestamp,
    data: event.data.toString('utf8'),
    metadata: event.metadata?.toString('utf8') ?? null,
    attempt: number,
  };
}

const EMPTY = Buffer.alloc(0);
