import type { Clock } from '../../kernel/clock.ts';
import { failureOf } from '../failure.ts';
import type { AttemptResult } from '../outcome.ts';
import type { OutgoingRequest } from '../sender.ts';
import type { Destination } from './destination.ts';
import type { AnswerFault, AnswerSink } from './response-parser.ts';

/** What is kept of an answer's body; the rest is not even read. */
export const RESPONSE_BYTES_MAX = 65_536;

/** Answers before the real one (1xx; RFC 9110, section 15.2). An honest receiver sends one or two. */
export const INTERIM_ANSWERS_MAX = 32;

/**
 * Bytes that are read for one answer: chunks without end that hold next to nothing would keep a processor busy until the
 * deadline. There is room for the longest headers that are taken, and for a full body that comes in chunks of one byte.
 */
const RECEIVED_BYTES_MAX = 589_824;

/** The connection that an exchange runs on, as far as the exchange knows it. */
export interface Carrier {
  /** The exchange ended with a complete answer: the connection may carry another one. */
  release(): void;
  /** The exchange ended in another way: nothing may travel on the connection again. */
  discard(): void;
}

/** One request under way. It ends once: with an answer, a failure or its deadline; what comes later is ignored. */
export class Exchange implements AnswerSink {
  readonly request: OutgoingRequest;
  readonly destination: Destination;
  /** undefined: it waits for a connection. */
  carrier: Carrier | undefined;
  /** Takes it from the line when it ends before a connection was free. */
  leaveLine: (() => void) | undefined;
  readonly #deadlineMs: number;
  readonly #startMs: number;
  readonly #clock: Clock;
  readonly #done: (result: AttemptResult, durationMs: number) => void;
  #status = 0;
  #headers: readonly string[] = [];
  #chunks: Buffer[] = [];
  #bytes = 0;
  #interim = 0;
  #received = 0;
  #ended = false;

  constructor(
    clock: Clock,
    request: OutgoingRequest,
    destination: Destination,
    done: (result: AttemptResult, durationMs: number) => void,
  ) {
    this.#clock = clock;
    this.request = request;
    this.destination = destination;
    this.#startMs = clock.monotonicMs();
    this.#deadlineMs = this.#startMs + request.timeoutMs;
    this.#done = done;
  }

  get startMs(): number {
    return this.#startMs;
  }

  /** Ends it when its time is over. */
  sweep(nowMs: number): void {
    if (nowMs < this.#deadlineMs) return;
    const answered = this.#status === 0 ? 'no answer' : 'no complete answer';
    this.#fail('timeout', `There was ${answered} within the timeout.`);
  }

  /** Bytes come in for it; false: these were too many, and it has ended. */
  receive(bytes: number): boolean {
    this.#received += bytes;
    if (this.#received <= RECEIVED_BYTES_MAX) return true;
    this.#fail('reset', 'The answer is too long.');
    return false;
  }

  onInterim(status: number): void {
    this.#interim += 1;
    if (status < 100) this.#fail('reset', 'The receiver answered with a status that does not exist.');
    else if (status === 101) this.#fail('reset', 'The receiver wants to speak another protocol.');
    else if (this.#interim > INTERIM_ANSWERS_MAX) this.#fail('reset', 'The receiver sent too many 1xx answers.');
  }

  onHead(status: number, headers: readonly string[]): void {
    this.#status = status;
    this.#headers = headers;
  }

  onBody(part: Buffer): void {
    const room = RESPONSE_BYTES_MAX - this.#bytes;
    if (part.length <= room) {
      // A chunk of one byte costs a hundred: they are put together from time to time.
      if (this.#chunks.length === CHUNKS_MAX) this.#chunks = [Buffer.concat(this.#chunks)];
      this.#chunks.push(Buffer.from(part));
      this.#bytes += part.length;
      return;
    }
    this.#chunks.push(Buffer.from(part.subarray(0, room)));
    this.#end(this.#answer(true), false);
  }

  onComplete(reusable: boolean): void {
    this.#end(this.#answer(false), reusable);
  }

  onFault(fault: AnswerFault): void {
    this.#fail('reset', FAULTS[fault]);
  }

  /** The connection broke, or none could be made. */
  onError(error: unknown): void {
    if (!this.#ended) this.#end(failureOf(error), false);
  }

  #fail(errorClass: 'timeout' | 'reset', message: string): void {
    this.#end({ kind: 'failed', errorClass, message }, false);
  }

  #answer(truncated: boolean): AttemptResult {
    const [first] = this.#chunks;
    const body = this.#chunks.length === 1 && first !== undefined ? first : Buffer.concat(this.#chunks);
    return { kind: 'answered', status: this.#status, headers: this.#headers, body, truncated };
  }

  #end(result: AttemptResult, mayReuse: boolean): void {
    if (this.#ended) return;
    this.#ended = true;
    const { carrier } = this;
    // Before the result is told: whoever is told may send the next request at once, on this very connection.
    if (carrier === undefined) this.leaveLine?.();
    else if (mayReuse) carrier.release();
    else carrier.discard();
    this.#done(result, Math.max(0, Math.round(this.#clock.monotonicMs() - this.#startMs)));
  }
}

const CHUNKS_MAX = 64;

const FAULTS: Record<AnswerFault, string> = {
  'not-http': 'What the receiver answered is not HTTP.',
  'too-long': 'The headers of the answer are too long.',
  'cut-off': 'The receiver closed the connection before its answer was complete.',
};
