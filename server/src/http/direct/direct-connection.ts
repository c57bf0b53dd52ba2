import { STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import type { Clock } from '../../kernel/clock.ts';
import { ANSWER_HEADER_LINES } from '../security-headers.ts';
import type { ReadingRoom } from './reading-room.ts';
import { type DirectHead, readDirectHead } from './request-head.ts';

/** A request that was read straight from its socket. */
export interface DirectRequest {
  /** For the answer's `x-request-id`, and what is logged. */
  id: string;
  /** Names in lower case. */
  headers: DirectHead['headers'];
  body: Buffer;
}

export interface DirectAnswer {
  status: number;
  /** Besides those that every answer has. */
  headers?: Readonly<Record<string, string>>;
  /** JSON text. */
  body: string;
}

/** The one route that is served straight from the socket. */
export interface DirectRoute {
  /** `POST /path HTTP/1.1`, to the letter. */
  requestLine: string;
  bodyBytesMax: number;
  newRequestId(): string;
  /**
   * Answers a request, once, now or later; or returns false and has done nothing: the HTTP server gets the request.
   */
  handle(request: DirectRequest, answer: (answer: DirectAnswer) => void): boolean;
}

export interface DirectConnectionOptions {
  socket: Socket;
  clock: Clock;
  route: DirectRoute;
  /** Shared by all connections. */
  room: ReadingRoom;
  /** Nothing more happens here; `remains`: the socket is open, and what came and was not answered can be read from it. */
  onLeave: (remains: boolean) => void;
}

/** How long a connection may be without a request. */
export const IDLE_MS_MAX = 65_000;

/** For how long the rest of a request is waited for. Then it is the HTTP server that waits, and that knows what to say. */
export const READING_MS_MAX = 30_000;

/** How long answers may wait for a caller to read them; there are far more than fit into the system's buffers by then. */
export const UNREAD_MS_MAX = 60_000;

/** Bytes of a head; the HTTP server takes longer ones. */
const HEAD_BYTES_MAX = 4_096;
const END_OF_HEAD = Buffer.from('\r\n\r\n');

/**
 * Serves requests of one route on one connection, one at a time. All else that comes is not for it: then it leaves the
 * connection, with what came, to someone else.
 */
export class DirectConnection {
  readonly #options: DirectConnectionOptions;
  #state: 'idle' | 'reading' | 'answering' | 'unread' | 'left' = 'idle';
  /** When the state began, but for answering. */
  #sinceMs: number;
  /** What came of the request so far, or, while one is answered, of the next ones. */
  #parts: Buffer[] = [];
  #received = 0;
  #expected = 0;
  /** Bytes for which it has room while the rest of a request is to come. */
  #reserved = 0;
  /** A connection's heads are mostly the same, so the last one is read once. */
  #headText = '';
  #head: DirectHead | undefined;
  #closing = false;

  constructor(options: DirectConnectionOptions) {
    this.#options = options;
    this.#sinceMs = options.clock.monotonicMs();
    const { socket } = options;
    socket.setNoDelay(true);
    socket.on('data', this.#onData);
    socket.on('end', this.#onEnd);
    socket.on('close', this.#onClose);
    socket.on('error', this.#onError);
  }

  /** Takes no further request, and ends when the one under way is answered. */
  close(): void {
    this.#closing = true;
    if (this.#state === 'idle') this.destroy();
  }

  destroy(): void {
    this.#options.socket.destroy();
  }

  /**
   * Ends it when it was idle, or its answers were unread, for too long, and leaves it when a request takes too long to
   * come.
   */
  sweep(nowMs: number): void {
    const ms = nowMs - this.#sinceMs;
    if (this.#state === 'idle' && ms >= IDLE_MS_MAX) this.destroy();
    else if (this.#state === 'unread' && ms >= UNREAD_MS_MAX) this.destroy();
    else if (this.#state === 'reading' && ms >= READING_MS_MAX) this.#leave(Buffer.concat(this.#parts));
  }

  readonly #onData = (bytes: Buffer): void => {
    if (this.#state === 'idle') this.#begin(bytes);
    else if (this.#state === 'reading') this.#continue(bytes);
    else {
      // One that does not wait for its answer waits with the next request: nobody reads on until then.
      this.#parts.push(bytes);
      this.#options.socket.pause();
    }
  };

  #begin(bytes: Buffer): void {
    const end = bytes.indexOf(END_OF_HEAD);
    const head = end === -1 || end > HEAD_BYTES_MAX ? undefined : this.#headOf(bytes.toString('latin1', 0, end));
    if (head === undefined || head.bodyBytes > this.#options.route.bodyBytesMax) {
      this.#leave(bytes);
      return;
    }
    this.#head = head;
    this.#expected = end + END_OF_HEAD.length + head.bodyBytes;
    if (bytes.length >= this.#expected) {
      this.#take(bytes);
      return;
    }
    if (!this.#options.room.take(head.bodyBytes)) {
      this.#leave(bytes);
      return;
    }
    this.#reserved = head.bodyBytes;
    this.#state = 'reading';
    this.#sinceMs = this.#options.clock.monotonicMs();
    this.#parts = [bytes];
    this.#received = bytes.length;
  }

  #giveRoomBack(): void {
    if (this.#reserved === 0) return;
    this.#options.room.giveBack(this.#reserved);
    this.#reserved = 0;
  }

  #headOf(text: string): DirectHead | undefined {
    if (text === this.#headText) return this.#head;
    this.#headText = text;
    return readDirectHead(text, this.#options.route.requestLine);
  }

  #continue(bytes: Buffer): void {
    this.#parts.push(bytes);
    this.#received += bytes.length;
    if (this.#received < this.#expected) return;
    const all = Buffer.concat(this.#parts);
    this.#parts = [];
    this.#take(all);
  }

  /** A whole request is there. */
  #take(bytes: Buffer): void {
    const head = this.#head as DirectHead;
    const { route } = this.#options;
    this.#giveRoomBack();
    this.#state = 'answering';
    const id = route.newRequestId();
    const body = bytes.subarray(this.#expected - head.bodyBytes, this.#expected);
    // What comes behind it has to be known before it is answered, and given away with it when it is not.
    if (bytes.length > this.#expected) this.#parts.push(bytes.subarray(this.#expected));
    if (!route.handle({ id, headers: head.headers, body }, (answer) => this.#answer(id, answer))) this.#leave(bytes);
  }

  #answer(id: string, { status, headers, body }: DirectAnswer): void {
    const { socket, clock } = this.#options;
    if (socket.destroyed) return;
    let head = `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nx-request-id: ${id}\r\n`;
    for (const name in headers) head += `${name}: ${headers[name]}\r\n`;
    head += `${ANSWER_HEADER_LINES}content-type: application/json; charset=utf-8\r\ncontent-length: ${Buffer.byteLength(body)}\r\n`;
    head += `date: ${dateOf(clock.now())}\r\n`;
    if (this.#closing) {
      socket.end(`${head}connection: close\r\n\r\n${body}`);
      return;
    }
    const keep = `connection: keep-alive\r\nkeep-alive: timeout=${IDLE_MS_MAX / 1000}\r\n\r\n`;
    // One that does not read its answers gets no more of them: they would pile up here.
    if (socket.write(head + keep + body)) {
      this.#goOn();
      return;
    }
    this.#state = 'unread';
    this.#sinceMs = clock.monotonicMs();
    socket.once('drain', () => this.#goOn());
  }

  /** With what came while a request was answered, or idle. */
  #goOn(): void {
    this.#state = 'idle';
    this.#sinceMs = this.#options.clock.monotonicMs();
    if (this.#closing) {
      this.#options.socket.end();
      return;
    }
    if (this.#parts.length === 0) return;
    const bytes = Buffer.concat(this.#parts);
    this.#parts = [];
    this.#options.socket.resume();
    this.#begin(bytes);
  }

  /** Its side is closed: there will be no further request. */
  readonly #onEnd = (): void => {
    if (this.#state === 'answering' || this.#state === 'unread') this.#closing = true;
    else this.#options.socket.end();
  };

  readonly #onClose = (): void => {
    this.#giveRoomBack();
    this.#state = 'left';
    this.#options.onLeave(false);
  };

  readonly #onError = (): void => this.destroy();

  #leave(unread: Buffer): void {
    const { socket, onLeave } = this.#options;
    this.#giveRoomBack();
    this.#state = 'left';
    socket.off('data', this.#onData);
    socket.off('end', this.#onEnd);
    socket.off('close', this.#onClose);
    socket.off('error', this.#onError);
    socket.pause();
    socket.unshift(unread);
    onLeave(true);
  }
}

let dateSecond = Number.NaN;
let dateText = '';

/** An HTTP date (RFC 9110, section 5.6.7), made once a second. */
function dateOf(nowMs: number): string {
  const second = Math.floor(nowMs / 1000);
  if (second !== dateSecond) {
    dateSecond = second;
    dateText = new Date(nowMs).toUTCString();
  }
  return dateText;
}
