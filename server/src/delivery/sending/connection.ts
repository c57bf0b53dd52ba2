import type net from 'node:net';
import { Client } from 'undici';
import type { Clock } from '../../kernel/clock.ts';
import type { ConnectResult, EgressGuard } from '../../webhooks/egress/guard.ts';
import { type IpWhitelist, isWithinWhitelist } from '../../webhooks/egress/ip-whitelist.ts';
import type { Destination } from './destination.ts';
import type { Carrier, Exchange } from './exchange.ts';
import { startTls } from './start-tls.ts';

export interface ConnectionOptions {
  clock: Clock;
  guard: EgressGuard;
  destination: Destination;
  verifyTls: boolean;
  /** It has carried its exchange to the end and may carry another one. */
  onFree: () => void;
  /** It will carry nothing more. May be called more than once. */
  onDead: () => void;
}

/** Header bytes of an answer, by undici's measure (names and values); more is a failed attempt. */
const RESPONSE_HEADER_BYTES_MAX = 32_768;

const SLICE_BYTES = 4_096;

/** How long a connection without a request is kept; a receiver's `Keep-Alive: timeout` can only make it shorter. */
const KEEP_ALIVE_MS = 30_000;

/**
 * One connection to an origin, which carries one exchange at a time: an undici Client that connects when it has a
 * request, and again when its socket was closed in between.
 */
export class Connection implements Carrier {
  readonly #options: ConnectionOptions;
  readonly #client: Client;
  #exchange: Exchange | undefined;
  #stopConnecting: (() => void) | undefined;
  /** The judged addresses of the host at the time of connecting. */
  #addresses: readonly string[] = [];
  #suitsWhitelist: IpWhitelist | null = null;
  openedAtMs: number;
  idleSinceMs = 0;
  #dead = false;

  constructor(options: ConnectionOptions) {
    this.#options = options;
    this.openedAtMs = options.clock.monotonicMs();
    this.#client = new Client(options.destination.origin, {
      pipelining: 1,
      allowH2: false,
      keepAliveTimeout: KEEP_ALIVE_MS,
      keepAliveMaxTimeout: KEEP_ALIVE_MS,
      // The exchange's own deadline is the only clock that decides.
      headersTimeout: 0,
      bodyTimeout: 0,
      maxHeaderSize: RESPONSE_HEADER_BYTES_MAX,
      connect: (_target, done) =>
        this.#connect((error, socket) => (socket ? done(null, socket) : done(error ?? new Error(), null))),
    });
    this.#client.on('disconnect', () => this.#disconnected());
  }

  /** Milliseconds that it was in use for when it became idle. */
  get ageMs(): number {
    return this.idleSinceMs - this.openedAtMs;
  }

  get isIdle(): boolean {
    return this.#exchange === undefined && !this.#dead;
  }

  /** Whether a request of a webhook with this whitelist may travel on it as it is connected now. */
  suits(whitelist: IpWhitelist | null): boolean {
    if (whitelist === null || whitelist === this.#suitsWhitelist) return true;
    if (!isWithinWhitelist(whitelist, this.#addresses)) return false;
    this.#suitsWhitelist = whitelist;
    return true;
  }

  start(exchange: Exchange): void {
    const { request, destination } = exchange;
    this.#exchange = exchange;
    exchange.carrier = this;
    const { path } = destination;
    const { method, headers, body } = request;
    this.#client.dispatch({ path, method, headers, body }, exchange);
  }

  release(): void {
    this.#exchange = undefined;
    this.idleSinceMs = this.#options.clock.monotonicMs();
    this.#options.onFree();
  }

  discard(): void {
    if (this.#dead) return;
    this.#dead = true;
    this.#exchange = undefined;
    this.#stopConnecting?.();
    this.#client.destroy(null, ignore);
    this.#options.onDead();
  }

  /** Ends what it carries as a failure of ours; resolves when the socket is closed. */
  async stop(): Promise<void> {
    this.#stopConnecting?.();
    await this.#client.destroy();
  }

  /**
   * undici reads all that a socket has at once, and goes on with it to the end although the headers are too long by
   * then: 160 KB of one-letter headers cost 200 ms, for an error object each. So it gets its bytes in slices, and each
   * is counted.
   */
  #measureReads(socket: net.Socket): void {
    const read = socket.read.bind(socket);
    socket.read = () => {
      const chunk: Buffer | null = read(socket.readableLength > SLICE_BYTES ? SLICE_BYTES : undefined);
      if (chunk === null || this.#exchange === undefined || this.#exchange.receive(chunk.length)) return chunk;
      return null;
    };
  }

  /** The socket is closed. With an exchange that was not sent yet, undici connects anew; without one, that was all. */
  #disconnected(): void {
    if (this.#exchange === undefined) this.discard();
  }

  #connect(done: (error: Error | null, socket?: net.Socket) => void): void {
    const { clock, guard, destination, verifyTls } = this.#options;
    const { host, port, tls } = destination;
    const ipWhitelist = this.#exchange?.request.ipWhitelist ?? null;
    const connected = (result: ConnectResult) => {
      this.#stopConnecting = undefined;
      if (!result.ok) {
        done(result.error);
        return;
      }
      this.#measureReads(result.socket);
      this.#addresses = result.addresses;
      this.#suitsWhitelist = ipWhitelist;
      this.openedAtMs = clock.monotonicMs();
      done(null, result.socket);
    };
    this.#stopConnecting = guard.connect({ host, port, ipWhitelist }, (result) => {
      if (!result.ok || !tls) connected(result);
      else {
        const { addresses } = result;
        this.#stopConnecting = startTls(result.socket, { host, verifyTls }, (secured) =>
          connected('socket' in secured ? { ok: true, socket: secured.socket, addresses } : { ok: false, ...secured }),
        );
      }
    });
  }
}

const ignore = (): void => {};
