import { errorCode } from '../db/pool.ts';
import type { Clock } from '../kernel/clock.ts';
import type { IdSource } from '../kernel/ids.ts';
import type { Logger } from '../kernel/logger.ts';
import { formName } from '../shaping/body-form.ts';
import { faultText, ProgramError, type ProgramFault, type Shaped } from '../shaping/program.ts';
import type { Sandbox } from '../shaping/sandbox/sandbox.ts';
import type { Shaping, ShapingProgram } from '../shaping/shaping.ts';
import type { EgressGuard } from '../webhooks/egress/guard.ts';
import type { WebhookTarget } from '../webhooks/target.ts';
import { type Batch, batchForm } from './batches/batch.ts';
import type { FailedShape } from './batches/batch-shaper.ts';
import type { TooLarge } from './batches/too-large.ts';
import { compressBody } from './compress.ts';
import { type AttemptResult, decideOutcome, type ErrorClass, type Failure, isOwnFault } from './outcome.ts';
import { recordedResult } from './recorded-result.ts';
import type { AttemptRecord } from './recorder.ts';
import { type PreparedRequest, prepareBatch, prepareRequest, type ShapedRequest } from './request.ts';
import type { Sender } from './sender.ts';
import { shapeEvent } from './shape-event.ts';
import type { DeliveryTask, Trigger } from './task.ts';
import type { Token, TokenResult, Tokens } from './tokens.ts';

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

/** The webhook's transform wants nothing to be sent, or the delivery may not go any more; there was no attempt. */
export interface Cancelled {
  records: null;
  route: Route;
  by: 'transform' | 'loss';
}

export interface AttemptsOptions {
  sender: Sender;
  tokens: Tokens;
  tooLarge: TooLarge;
  sandbox: Pick<Sandbox, 'run'>;
  /** Judges the URLs that transforms give, as it does those of webhooks. */
  guard: Pick<EgressGuard, 'judgeUrl'>;
  clock: Clock;
  newId: IdSource;
  logger: Logger;
  /** In [0, 1), for the jitter of retries. */
  random: () => number;
  /** Attempts that no delivery has more of. */
  attemptsMax?: number | undefined;
}

/** What a request is made of, and what is known of it so far. */
interface Sent {
  load: Load;
  target: WebhookTarget;
  route: Route;
  token: Token | undefined;
  url: URL;
  template: ShapingProgram['template'];
  /** For each delivery. */
  recordedHeaders: readonly string[];
  /** What a template made, before compression. */
  recordedBody: Buffer | null;
  mayGo: (task: DeliveryTask) => boolean;
  onEnd: (end: AttemptEnd | Cancelled) => void;
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
   * of asking for one, for webhooks that need it. A batch has been shaped already. `mayGo`: asked when a template has
   * made the request, which takes a while.
   */
  make(
    load: Load,
    target: WebhookTarget,
    route: Route,
    token: TokenResult | undefined,
    mayGo: (task: DeliveryTask) => boolean,
    onEnd: (end: AttemptEnd | Cancelled) => void,
  ): void {
    const sent = sentOf(load, target, route, token, mayGo, onEnd);
    if (token?.ok === false) onEnd(this.#end(sent, token.failure, token.durationMs));
    else if (target.shaping === null || load.batch !== undefined) this.#send(sent, undefined);
    else this.#shape(sent, target.shaping);
  }

  /** The attempt of a delivery that was to go in a batch, and whose event could not be shaped for it. */
  unshaped({ task, fault, template }: FailedShape, target: WebhookTarget, route: Route): AttemptRecord[] {
    const sent = sentOf({ tasks: [task], batch: undefined }, target, route, undefined, ALWAYS, NOBODY);
    return this.#end({ ...sent, template }, failureOf(fault), 0).records;
  }

  #send(sent: Sent, shaped: ShapedRequest | undefined): void {
    let request: PreparedRequest;
    try {
      request = this.#prepare(sent, shaped);
    } catch (error) {
      if (error instanceof ProgramError) this.#failed(sent, error.fault);
      else this.#fault(sent, error);
      return;
    }
    sent.recordedHeaders = request.recordedHeaders;
    if (shaped !== undefined) sent.recordedBody = request.body ?? EMPTY;
    const send = () =>
      this.#options.sender.send(request, (result, durationMs) => sent.onEnd(this.#end(sent, result, durationMs)));
    if (!request.compresses || request.body === null) {
      send();
      return;
    }
    compressBody(request.body, (error, compressed) => {
      if (error !== null) {
        this.#fault(sent, error);
        return;
      }
      request.body = compressed;
      send();
    });
  }

  #prepare({ load, target, url, token }: Sent, shaped: ShapedRequest | undefined): PreparedRequest {
    const signing = { nowMs: this.#options.clock.now(), token: token?.value };
    if (load.batch !== undefined) return prepareBatch(load.batch, target, url, signing);
    const task = onlyTask(load);
    return prepareRequest(task, target, url, task.attemptCount + 1, signing, shaped);
  }

  /** Has the webhook's template or transform make the request, in the sandbox, and goes on when that has. */
  #shape(sent: Sent, shaping: Shaping): void {
    shapeEvent(this.#options.sandbox, onlyTask(sent.load), shaping, ({ result, contentType, template }) => {
      const shapedBy: Sent = { ...sent, template };
      if (!sent.mayGo(onlyTask(sent.load))) sent.onEnd({ records: null, route: sent.route, by: 'loss' });
      else if (!result.ok) this.#failed(shapedBy, result.fault);
      else this.#shaped(shapedBy, result.shaped, contentType);
    });
  }

  #shaped(sent: Sent, { body, headers, url, cancel }: Shaped, contentType: string): void {
    const { load, route, onEnd } = sent;
    if (cancel === true) {
      if (onlyTask(load).trigger === 'test') {
        this.#failed(sent, CANCELS_TEST);
      } else onEnd({ records: null, route, by: 'transform' });
      return;
    }
    const shaped: ShapedRequest = { body: body === null ? null : { body: Buffer.from(body), contentType }, headers };
    if (url === undefined || route.kind === 'failover') {
      this.#send(sent, shaped);
      return;
    }
    const verdict = this.#options.guard.judgeUrl(url);
    const reason = verdict.ok ? reasonAgainst(verdict.url, sent.target) : verdict.reason;
    if (verdict.ok && reason === undefined) this.#send({ ...sent, url: verdict.url }, shaped);
    else this.#fail(sent, 'blocked', `The URL that the transform gives is refused: ${reason}`);
  }

  #failed(sent: Sent, fault: ProgramFault): void {
    const { errorClass, message } = failureOf(fault);
    this.#fail(sent, errorClass, message);
  }

  /** A fault of ours is an attempt like any other: it is seen, retried and capped, and the lane goes on. */
  #fault(sent: Sent, error: unknown): void {
    const [task] = sent.load.tasks;
    this.#options.logger.error({ code: errorCode(error), delivery_id: task?.id }, 'a request could not be built');
    this.#fail(sent, 'internal', 'The request could not be built.');
  }

  /** There was no request, not to a URL that a transform gave either. */
  #fail(sent: Sent, errorClass: ErrorClass, message: string): void {
    const result: Failure = { kind: 'failed', errorClass, message };
    const url = sent.route.kind === 'failover' ? sent.url : sent.target.url;
    sent.onEnd(this.#end({ ...sent, url, recordedHeaders: [], recordedBody: null }, result, 0));
  }

  #end(sent: Sent, result: AttemptResult, durationMs: number): AttemptEnd {
    const again = this.#isWorthAnother(sent, result);
    // The same for all: what was sent together fails until the same time, and goes together again.
    const random = this.#options.random();
    const records = sent.load.tasks.map((task, at) =>
      this.#record(sent, task, at, { result, durationMs, again, random }),
    );
    return {
      records,
      route: sent.route,
      durationMs,
      succeeded: result.kind === 'answered' && result.status >= 200 && result.status < 300,
      tellsNothing: again || (result.kind === 'failed' && isOwnFault(result.errorClass)),
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
    { load, target, route, url, template, recordedHeaders, recordedBody }: Sent,
    task: DeliveryTask,
    at: number,
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
    const { batch } = load;
    const madeBy = batch?.templates === undefined ? template : (batch.templates[at] ?? null);
    const requestHeaders = recordedHeaders[at];
    // Where the request could not be built, nothing was sent of any part.
    const ownPart = batch?.templates === undefined || requestHeaders === undefined ? undefined : batch.parts[at]?.body;
    return {
      task,
      id: newId(),
      number,
      trigger,
      outcome,
      parksKey,
      url: url.href,
      method: target.method,
      envelope: formName(batch === undefined ? target : batchForm(target)),
      requestHeaders: requestHeaders ?? '{}',
      requestBody: ownPart ?? recordedBody,
      templateId: madeBy?.id ?? null,
      templateVersion: madeBy?.version ?? null,
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

function sentOf(
  load: Load,
  target: WebhookTarget,
  route: Route,
  token: TokenResult | undefined,
  mayGo: Sent['mayGo'],
  onEnd: Sent['onEnd'],
): Sent {
  return {
    load,
    target,
    route,
    token: token?.ok ? token.token : undefined,
    url: route.kind === 'failover' ? route.url : target.url,
    template: null,
    recordedHeaders: [],
    recordedBody: null,
    mayGo,
    onEnd,
  };
}

/** A webhook without batching has one delivery in a request. */
function onlyTask({ tasks }: Load): DeliveryTask {
  const [task] = tasks;
  if (task === undefined) throw new Error('There is nothing to send.');
  return task;
}

/** A client certificate proves nothing without TLS, as when a webhook is written (`webhooks/change.ts`). */
function reasonAgainst(url: URL, { credentials }: WebhookTarget): string | undefined {
  const needsTls = credentials.kind === 'certificate' && url.protocol !== 'https:';
  return needsTls ? 'must be an https:// URL for "mtls"' : undefined;
}

function failureOf(fault: ProgramFault): Failure {
  const errorClass = fault.kind === 'unavailable' ? 'internal' : 'template';
  return { kind: 'failed', errorClass, message: faultText(fault) };
}

/** A test has somebody waiting for its attempt. */
export const CANCELS_TEST: ProgramFault = {
  kind: 'output',
  message: 'The transform cancels the delivery of this event.',
};

/** Of what nobody can cancel. */
export const ALWAYS = () => true;
const NOBODY = () => {};
const EMPTY = Buffer.alloc(0);
