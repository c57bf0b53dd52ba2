import type net from 'node:net';
import type { Clock } from '../../kernel/clock.ts';
import type { ClientCertificate } from '../../webhooks/auth/credentials.ts';
import type { ConnectResult, EgressGuard } from '../../webhooks/egress/guard.ts';
import { type IpWhitelist, isWithinWhitelist } from '../../webhooks/egress/ip-whitelist.ts';
import type { Destination } from './destination.ts';
import type { Carrier, Exchange } from './exchange.ts';
import type { Outbox, Sends } from './outbox.ts';
import { requestBytes } from './request-bytes.ts';
import { ResponseParser } from './response-parser.ts';
import { startTls } from './start-tls.ts';

export interface ConnectionOptions {
  clock: Clock;
  guard: EgressGuard;
  destination: Destination;
  verifyTls: boolean;
  clientCertificate: ClientCertificate | null;
  outbox: Outbox;
  /** It has carried its exchange to the end and may carry another one. */
  onFree: () => void;
  /** It will carry nothing more. May be called more than once. */
  onDead: () => void;
}

/** How long a connection without a request is kept; a receiver's `Keep-Alive: timeout` can only make it shorter. */
const KEEP_ALIVE_MS = 30_000;

/** How much earlier than the receiver an idle connection is given up, so that no request meets its end. */
const KEEP_ALIVE_MARGIN_MS = 1_000;

/** One connection to an origin, which carries one exchange at a time, over HTTP/1.1. It connects for the first. */
export class Connection implements Carrier, Sends {
  readonly #options: ConnectionOptions;
  readonly #parser = new ResponseParser();
  #socket: net.Socket | undefined;
  #exchange: Exchange | undefined;
  /** Its request, until the outbox sends it. */
  #unsent: Buffer | undefined;
  #stopConnecting: (() => void) | undefined;
  /** The judged addresses of the host at the time of connecting. */
  #addresses: readonly string[] = [];
  #suitsWhitelist: IpWhitelist | null = null;
  #keepAliveMs = KEEP_ALIVE_MS;
  openedAtMs: number;
  idleSinceMs = 0;
  #dead = false;

  constructor(options: ConnectionOptions) {
    this.#options = options;
    this.openedAtMs = options.clock.monotonicMs();
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
    this.#exchange = exchange;
    exchange.carrier = this;
    if (this.#socket === undefined) this.#connect(exchange);
    else this.#send(exchange);
  }

  release(): void {
    const keepAliveMs = this.#keptForMs();
    // What was answered before it was all read may never be.
    const isSent = this.#unsent === undefined && this.#socket?.writableLength === 0;
    if (this.#socket === undefined || !isSent || keepAliveMs <= 0) {
      this.discard();
      return;
    }
    this.#exchange = undefined;
    if (keepAliveMs !== this.#keepAliveMs) {
      this.#keepAliveMs = keepAliveMs;
      this.#socket.setTimeout(keepAliveMs);
    }
    this.idleSinceMs = this.#options.clock.monotonicMs();
    this.#options.onFree();
  }

  discard(): void {
    if (this.#dead) return;
    this.#dead = true;
    this.#exchange = undefined;
    this.#stopConnecting?.();
    this.#parser.abandon();
    this.#socket?.destroy();
    this.#options.onDead();
  }

  /** Ends what it carries as a failure of ours; resolves when the socket is closed. */
  async stop(): Promise<void> {
    const socket = this.#socket;
    const closed = socket?.closed === false && new Promise((resolve) => socket.once('close', resolve));
    if (this.#exchange === undefined) this.discard();
    else this.#exchange.onError(new Error('The sender stops.'));
    await closed;
  }

  #keptForMs(): number {
    const seconds = this.#parser.keepAliveSeconds;
    if (seconds === undefined) return KEEP_ALIVE_MS;
    return Math.min(KEEP_ALIVE_MS, seconds * 1_000 - KEEP_ALIVE_MARGIN_MS);
  }

  flush(): void {
    const bytes = this.#unsent;
    this.#unsent = undefined;
    if (bytes !== undefined && !this.#dead) this.#socket?.write(bytes);
  }

  #send(exchange: Exchange): void {
    try {
      this.#unsent = requestBytes(exchange.request, exchange.destination);
      this.#parser.begin(exchange);
      this.#options.outbox.add(this);
    } catch (error) {
      exchange.onError(error);
    }
  }

  #connect(exchange: Exchange): void {
    const { clock, guard, destination, verifyTls, clientCertificate } = this.#options;
    const { host, port, tls } = destination;
    const ipWhitelist = exchange.request.ipWhitelist ?? null;
    const connected = (result: ConnectResult) => {
      this.#stopConnecting = undefined;
      if (!result.ok) {
        exchange.onError(result.error);
        return;
      }
      this.#addresses = result.addresses;
      this.#suitsWhitelist = ipWhitelist;
      this.openedAtMs = clock.monotonicMs();
      this.#listen(result.socket);
      this.#send(exchange);
    };
    const onread = tls ? undefined : readingInto(RECEIVED, (bytes) => this.#receive(bytes));
    this.#stopConnecting = guard.connect({ host, port, ipWhitelist, onread }, (result) => {
      if (!result.ok || !tls) connected(result);
      else {
        const { addresses } = result;
        this.#stopConnecting = startTls(result.socket, { host, verifyTls, clientCertificate }, (secured) =>
          connected('socket' in secured ? { ok: true, socket: secured.socket, addresses } : { ok: false, ...secured }),
        );
      }
    });
  }

  #listen(socket: net.Socket): void {
    this.#socket = socket;
    socket.setNoDelay(true);
    // Node looks at it at every read and write; only silence without an exchange counts.
    socket.setTimeout(KEEP_ALIVE_MS, () => {
      if (this.#exchange === undefined) this.discard();
    });
    socket.on('data', (bytes: Buffer) => this.#receive(bytes));
    socket.on('end', () => this.#ended());
    socket.on('close', () => this.#ended());
    socket.on('error', (error) => {
      if (this.#exchange === undefined) this.discard();
      else this.#exchange.onError(error);
    });
  }

  #receive(bytes: Buffer): void {
    // What comes while nothing was asked would be taken for the next answer.
    if (this.#exchange === undefined) this.discard();
    else if (this.#exchange.receive(bytes.length)) this.#parser.feed(bytes);
  }

  #ended(): void {
    if (this.#exchange === undefined) this.discard();
    else this.#parser.end();
  }
}

/**
 * What a connection receives is looked at at once, so all that are not encrypted read into the same memory: one of its
 * own for each read would be allocated, cut and freed again.
 */
const RECEIVED = Buffer.allocUnsafeSlow(65_536);

function readingInto(buffer: Buffer, receive: (bytes: Buffer) => void): net.OnReadOpts {
  return {
    buffer,
    callback: (length) => {
      receive(buffer.subarray(0, length));
      return true;
    },
  };
}
