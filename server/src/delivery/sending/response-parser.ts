import { type Framing, readFields, readFraming } from './response-head.ts';

/** Who is told what an answer says. After `onFault` and `onComplete` nothing more comes, nor after `abandon`. */
export interface AnswerSink {
  /** Another answer before the real one: 101 to 199, or a status below 100, which does not exist. */
  onInterim(status: number): void;
  /** Header name and value in turn, as received. */
  onHead(status: number, headers: readonly string[]): void;
  /** A part of the body. Its memory is that of what was fed, and written anew afterwards: who keeps it copies it. */
  onBody(part: Buffer): void;
  /** `reusable`: the connection may carry another request. */
  onComplete(reusable: boolean): void;
  onFault(fault: AnswerFault): void;
}

/**
 * - `not-http`: what came is no HTTP/1.x answer (RFC 9112)
 * - `too-long`: its headers are longer than is taken
 * - `cut-off`: the connection ended before the answer did
 */
export type AnswerFault = 'not-http' | 'too-long' | 'cut-off';

/** Bytes of a status line with its headers, and more of all 1xx answers before it. */
const HEAD_BYTES_MAX = 32_768;
const HEADS_EXTRA_BYTES = 8_192;

/** Longer heads are read anew each time: a thousand idle connections keep one each. */
const HEAD_KEPT_MAX = 2_048;

/** Bytes of a chunk's extensions, and of all trailers. */
const CHUNK_LINE_BYTES_MAX = 1_024;
const TRAILER_BYTES_MAX = 8_192;

/** A chunk's size stays under 2^53. */
const CHUNK_DIGITS_MAX = 13;

const EMPTY: Buffer = Buffer.alloc(0);
const HTTP = Buffer.from('HTTP/1.');
const END_OF_HEAD = Buffer.from('\r\n\r\n');
const [TAB, LF, CR, SPACE, SEMICOLON] = [0x09, 0x0a, 0x0d, 0x20, 0x3b];

const STATUS_LINE = /^HTTP\/1\.([01]) ([0-9]{3})(?: [\t\x20-\x7e\x80-\xff]*)?$/;

type State =
  | 'head'
  | 'length'
  | 'until-close'
  | 'chunk-size'
  | 'chunk-extension'
  | 'chunk-size-lf'
  | 'chunk-data'
  | 'chunk-data-cr'
  | 'chunk-data-lf'
  | 'trailer-start'
  | 'trailer'
  | 'trailer-lf'
  | 'last-lf'
  /** The answer is complete, and nobody was told yet. */
  | 'over'
  | 'idle';

/**
 * Reads the answers on one connection, one at a time, from bytes cut anywhere (RFC 9112).
 *
 * It is strict where receivers, proxies and attackers could understand different things: no bare line feeds, folded
 * headers or control characters, no two lengths, no length beside chunks, no sign or prefix in a number. All that it
 * keeps is a head that is not complete yet. Heads, chunk lines and trailers are bounded here, bodies by whoever is told.
 */
export class ResponseParser {
  #sink: AnswerSink | undefined;
  #state: State = 'idle';
  /** The beginning of a head that is not complete yet. */
  #pending = EMPTY;
  #pendingBytes = 0;
  #headsBytes = 0;
  /** Bytes to come of the body or the chunk. */
  #left = 0;
  /** Digits so far of a chunk's size, and bytes so far of its line or of the trailers. */
  #digits = 0;
  #lineBytes = 0;
  #keepsAlive = false;
  /** A receiver's answers often have the same head, so the last one is read once. */
  #lastText = '';
  #lastHead: Head | undefined;
  #keepAliveSeconds: number | undefined;

  /** For how long the receiver keeps an idle connection, by its last answer (`Keep-Alive: timeout=`). */
  get keepAliveSeconds(): number | undefined {
    return this.#keepAliveSeconds;
  }

  /** An answer is expected. */
  begin(sink: AnswerSink): void {
    this.#sink = sink;
    this.#state = 'head';
    this.#pendingBytes = 0;
    this.#headsBytes = 0;
  }

  /** Forgets the answer that it is in the middle of. */
  abandon(): void {
    this.#sink = undefined;
    this.#state = 'idle';
    this.#pending = EMPTY;
  }

  /** Bytes have come. Whoever is told of an answer's end may begin the next one at once. */
  feed(bytes: Buffer): void {
    let at = 0;
    while (this.#state !== 'idle') {
      if (this.#state === 'over') {
        // What comes behind an answer was not asked for.
        this.#complete(this.#keepsAlive && at === bytes.length);
        return;
      }
      if (at === bytes.length) return;
      at = this.#read(bytes, at);
    }
  }

  /** The receiver has closed its side. */
  end(): void {
    if (this.#state === 'until-close') this.#complete(false);
    else if (this.#state !== 'idle') this.#fail('cut-off');
  }

  #read(bytes: Buffer, at: number): number {
    switch (this.#state) {
      case 'head':
        return this.#readHead(bytes, at);
      case 'length':
      case 'chunk-data':
        return this.#readBody(bytes, at);
      case 'until-close':
        this.#sink?.onBody(at === 0 ? bytes : bytes.subarray(at));
        return bytes.length;
      default:
        this.#readFraming(bytes[at] as number);
        return at + 1;
    }
  }

  #readHead(bytes: Buffer, from: number): number {
    const end = this.#pendingBytes === 0 ? bytes.indexOf(END_OF_HEAD, from) : -1;
    return end === -1 ? this.#gatherHead(bytes, from) : this.#takeHead(bytes, from, end);
  }

  /** The head comes in pieces, and its end may be cut too. */
  #gatherHead(bytes: Buffer, from: number): number {
    const before = this.#pendingBytes;
    const taken = Math.min(bytes.length - from, HEAD_BYTES_MAX + END_OF_HEAD.length - before);
    if (this.#pending.length < before + taken) {
      const larger = Buffer.allocUnsafe(2 * (before + taken));
      this.#pending.copy(larger, 0, 0, before);
      this.#pending = larger;
    }
    bytes.copy(this.#pending, before, from, from + taken);
    const gathered = this.#pending.subarray(0, before + taken);
    const end = gathered.indexOf(END_OF_HEAD, Math.max(0, before - END_OF_HEAD.length + 1));
    if (end !== -1) {
      this.#pendingBytes = 0;
      this.#pending = EMPTY;
      return from + this.#takeHead(gathered, 0, end) - before;
    }
    this.#pendingBytes = gathered.length;
    if (!couldBeHttp(gathered)) this.#fail('not-http');
    else if (Math.max(gathered.length, this.#headsBytes + gathered.length - HEADS_EXTRA_BYTES) > HEAD_BYTES_MAX) {
      this.#fail('too-long');
    }
    return from + taken;
  }

  /** Takes a head that ends at `end`; returns where what follows it begins. */
  #takeHead(bytes: Buffer, from: number, end: number): number {
    const next = end + END_OF_HEAD.length;
    this.#headsBytes += next - from;
    if (end - from > HEAD_BYTES_MAX || this.#headsBytes > HEAD_BYTES_MAX + HEADS_EXTRA_BYTES) this.#fail('too-long');
    else {
      const head = this.#headOf(bytes.toString('latin1', from, end));
      if (head === undefined) this.#fail('not-http');
      else this.#takeAnswer(head);
    }
    return next;
  }

  #headOf(text: string): Head | undefined {
    if (text === this.#lastText) return this.#lastHead;
    const head = readHead(text);
    if (text.length <= HEAD_KEPT_MAX) {
      this.#lastText = text;
      this.#lastHead = head;
    }
    return head;
  }

  #takeAnswer({ status, isHttp11, headers, framing }: Head): void {
    if (status < 200) {
      // 100 is for a request that asks whether to go on (RFC 9110, section 10.1.1), which none of ours does.
      if (status === 100) this.#fail('not-http');
      else this.#sink?.onInterim(status);
      return;
    }
    if (framing === undefined) {
      this.#fail('not-http');
      return;
    }
    this.#keepsAlive = isHttp11 && !framing.closes;
    this.#keepAliveSeconds = framing.keepAliveSeconds;
    this.#sink?.onHead(status, headers);
    if (this.#state !== 'head') return;
    if (status === 204 || status === 304 || framing.length === 0) this.#state = 'over';
    else if (framing.chunked) this.#beginChunk();
    else if (framing.length === undefined) this.#state = 'until-close';
    else {
      this.#left = framing.length;
      this.#state = 'length';
    }
  }

  #readBody(bytes: Buffer, from: number): number {
    const to = Math.min(bytes.length, from + this.#left);
    this.#left -= to - from;
    const inChunk = this.#state === 'chunk-data';
    this.#sink?.onBody(from === 0 && to === bytes.length ? bytes : bytes.subarray(from, to));
    if (this.#left === 0 && this.#state !== 'idle') this.#state = inChunk ? 'chunk-data-cr' : 'over';
    return to;
  }

  #beginChunk(): void {
    this.#state = 'chunk-size';
    this.#left = 0;
    this.#digits = 0;
    this.#lineBytes = 0;
  }

  /** A byte between the data of chunks, or of the trailers, which are dropped. */
  #readFraming(byte: number): void {
    const next = this.#nextState(byte);
    if (next === undefined) this.#fail('not-http');
    else if (next === 'chunk-size' && this.#state !== 'chunk-size') this.#beginChunk();
    else this.#state = next;
  }

  #nextState(byte: number): State | undefined {
    switch (this.#state) {
      case 'chunk-size':
        return this.#nextInSize(byte);
      case 'chunk-extension':
        return this.#nextInLine(byte, CHUNK_LINE_BYTES_MAX, 'chunk-extension', 'chunk-size-lf');
      case 'chunk-size-lf':
        if (byte !== LF) return undefined;
        this.#lineBytes = 0;
        return this.#left === 0 ? 'trailer-start' : 'chunk-data';
      case 'chunk-data-cr':
        return byte === CR ? 'chunk-data-lf' : undefined;
      case 'chunk-data-lf':
        return byte === LF ? 'chunk-size' : undefined;
      case 'trailer-start':
        if (byte === CR) return 'last-lf';
        return this.#nextInLine(byte, TRAILER_BYTES_MAX, 'trailer', 'trailer-lf');
      case 'trailer':
        return this.#nextInLine(byte, TRAILER_BYTES_MAX, 'trailer', 'trailer-lf');
      case 'trailer-lf':
        return byte === LF ? 'trailer-start' : undefined;
      default:
        return byte === LF ? 'over' : undefined;
    }
  }

  #nextInSize(byte: number): State | undefined {
    const digit = hexDigit(byte);
    if (digit === undefined) {
      if (this.#digits === 0) return undefined;
      if (byte === CR) return 'chunk-size-lf';
      return byte === SEMICOLON || byte === SPACE || byte === TAB ? 'chunk-extension' : undefined;
    }
    this.#digits += 1;
    this.#left = this.#left * 16 + digit;
    return this.#digits > CHUNK_DIGITS_MAX ? undefined : 'chunk-size';
  }

  /** `inIt` until the end of the line, then `atItsEnd`. */
  #nextInLine(byte: number, bytesMax: number, inIt: State, atItsEnd: State): State | undefined {
    this.#lineBytes += 1;
    if (byte === CR) return atItsEnd;
    return (byte < SPACE && byte !== TAB) || this.#lineBytes > bytesMax ? undefined : inIt;
  }

  #complete(reusable: boolean): void {
    const sink = this.#sink;
    this.abandon();
    sink?.onComplete(reusable);
  }

  #fail(fault: AnswerFault): void {
    const sink = this.#sink;
    this.abandon();
    sink?.onFault(fault);
  }
}

interface Head {
  status: number;
  isHttp11: boolean;
  /** Header name and value in turn. */
  headers: readonly string[];
  /** undefined: they contradict each other. */
  framing: Framing | undefined;
}

function readHead(text: string): Head | undefined {
  const lines = text.split('\r\n');
  const statusLine = STATUS_LINE.exec(lines[0] as string);
  const headers = statusLine === null ? undefined : readFields(lines);
  if (statusLine === null || headers === undefined) return undefined;
  return { status: Number(statusLine[2]), isHttp11: statusLine[1] === '1', headers, framing: readFraming(headers) };
}

function couldBeHttp(head: Buffer): boolean {
  const bytes = Math.min(head.length, HTTP.length);
  return head.compare(HTTP, 0, bytes, 0, bytes) === 0;
}

function hexDigit(byte: number): number | undefined {
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30;
  const letter = byte | 0x20;
  return letter >= 0x61 && letter <= 0x66 ? letter - 0x57 : undefined;
}
