import { errorCode } from '../db/pool.ts';
import type { Clock } from '../kernel/clock.ts';
import type { IdSource } from '../kernel/ids.ts';
import type { Logger } from '../kernel/logger.ts';
import { formName } from '../shaping/body-form.ts';
import { faultText, ProgramError, type ProgramFault, type ProgramInput, type Shaped } from '../shaping/program.ts';
import type { Sandbox } from '../shaping/sandbox/sandbox.ts';
import { namedTemplate, type Shaping, type ShapingProgram, shapingOf } from '../shaping/shaping.ts';
import type { EgressGuard } from '../webhooks/egress/guard.ts';
import type { WebhookTarget } from '../webhooks/target.ts';
import { type Batch, batchForm } from './batches/batch.ts';
import type { TooLarge } from './batches/too-large.ts';
import { compressBody } from './compress.ts';
import { type AttemptResult, decideOutcome, type Failure, isOwnFault } from './outcome.ts';
import { recordedResult } from './recorded-result.ts';
import type { AttemptRecord } from './recorder.ts';
import { type PreparedRequest, prepareBatch, prepareRequest, type ShapedRequest } from './request.ts';
import type { Sender } from './sender.ts';
import type { DeliveryTask, EventInHand, Trigger } from './task.ts';
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

/** The webhook's transform wants nothing to be sent; there was no attempt. */
export interface Cancelled {
  records: null;
  route: Route;
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
   * of asking for one, for webhooks that need it. Webhooks with a template or transform have no batches.
   */
  make(
    load: Load,
    target: WebhookTarget,
    route: Route,
    token: TokenResult | undefined,
    onEnd: (end: AttemptEnd | Cancelled) => void,
  ): void {
    const sent: Sent = {
      load,
      target,
      route,
      token: token?.ok ? token.token : undefined,
      url: route.kind === 'failover' ? route.url : target.url,
      template: null,
      recordedHeaders: [],
      recordedBody: null,
      onEnd,
    };
    if (token?.ok === false) onEnd(this.#end(sent, token.failure, token.durationMs));
    else if (target.shaping === null || load.batch !== undefined) this.#send(sent, undefined);
    else this.#shape(sent, target.shaping);
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
    const { load, target } = sent;
    const { event, attemptCount } = onlyTask(load);
    const found = shapingOf(shaping, event.type);
    if (found === undefined) {
      const name = namedTemplate(shaping) ?? '';
      this.#fail(sent, 'template', `There is no template "${name}" for events of the type ${event.type}.`);
      return;
    }
    const { program, contentType, template } = found;
    this.#options.sandbox.run(target.tenantId, program, inputOf(event, attemptCount + 1), (result) => {
      const shapedBy: Sent = { ...sent, template };
      if (!result.ok) this.#failed(shapedBy, result.fault);
      else this.#shaped(shapedBy, result.shaped, contentType);
    });
  }

  #shaped(sent: Sent, { body, headers, url, cancel }: Shaped, contentType: string): void {
    const { load, route, onEnd } = sent;
    if (cancel === true) {
      // A test has somebody waiting for its attempt.
      if (onlyTask(load).trigger === 'test') {
        this.#fail(sent, 'template', 'The transform cancels the delivery of this event.');
      } else onEnd({ records: null, route });
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
    this.#fail(sent, fault.kind === 'unavailable' ? 'internal' : 'template', faultText(fault));
  }

  /** A fault of ours is an attempt like any other: it is seen, retried and capped, and the lane goes on. */
  #fault(sent: Sent, error: unknown): void {
    const [task] = sent.load.tasks;
    this.#options.logger.error({ code: errorCode(error), delivery_id: task?.id }, 'a request could not be built');
    this.#fail(sent, 'internal', 'The request could not be built.');
  }

  /** There was no request. */
  #fail(sent: Sent, errorClass: 'blocked' | 'internal' | 'template', message: string): void {
    const result: Failure = { kind: 'failed', errorClass, message };
    sent.onEnd(this.#end({ ...sent, recordedHeaders: [], recordedBody: null }, result, 0));
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
    { load, target, route, url, template, recordedBody }: Sent,
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
      url: url.href,
      method: target.method,
      envelope: formName(load.batch === undefined ? target : batchForm(target)),
      requestHeaders,
      requestBody: recordedBody,
      templateId: template?.id ?? null,
      templateVersion: template?.version ?? null,
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
