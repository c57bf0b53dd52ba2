import type { Clock } from '../../kernel/clock.ts';
import type { EgressGuard } from '../../webhooks/egress/guard.ts';
import { Connection } from './connection.ts';
import type { Exchange } from './exchange.ts';
import { Outbox } from './outbox.ts';

export interface ConnectionsOptions {
  clock: Clock;
  guard: EgressGuard;
  /** Connections to one origin at once (`CONNECTIONS_PER_ORIGIN`). */
  perOriginMax?: number | undefined;
}

/** Connections to one origin at once; more requests wait in line. */
export const CONNECTIONS_PER_ORIGIN = 256;

/** Connections without a request, to all origins together; those idle longest are closed. */
export const IDLE_MAX = 1_024;

/**
 * How long a connection is used again after it was opened, in milliseconds. Its address was judged then; a name that
 * leads elsewhere by now is followed after this time at the latest.
 */
export const CONNECTION_AGE_MS_MAX = 120_000;

/**
 * The kept-alive connections to all origins. An origin is in memory while it has a connection or a request that waits,
 * so ten thousand receivers that were sent to once leave nothing behind.
 */
export class Connections {
  readonly #options: ConnectionsOptions;
  /** TLS connections that were not verified never carry requests that ask for it. */
  readonly #verified = new Map<string, Origin>();
  readonly #unverified = new Map<string, Origin>();
  readonly #all = new Set<Connection>();
  readonly #outbox = new Outbox();
  readonly #perOriginMax: number;
  #idleCount = 0;
  #stopped = false;

  constructor(options: ConnectionsOptions) {
    this.#options = options;
    this.#perOriginMax = options.perOriginMax ?? CONNECTIONS_PER_ORIGIN;
  }

  /** Open connections, those without a request among them, and origins in memory. */
  get gauges(): { open: number; idle: number; origins: number } {
    return { open: this.#all.size, idle: this.#idleCount, origins: this.#verified.size + this.#unverified.size };
  }

  /** Sends an exchange's request on a connection that suits it, or as soon as one is free. */
  run(exchange: Exchange): void {
    const origin = this.#originOf(exchange);
    const idle = this.#takeIdle(origin, exchange);
    if (idle !== undefined) {
      idle.start(exchange);
      return;
    }
    // What is idle here does not suit; it makes room.
    if (origin.open >= this.#perOriginMax) origin.idle[0]?.discard();
    if (origin.open < this.#perOriginMax) this.#open(origin, exchange);
    else {
      origin.line.add(exchange);
      exchange.leaveLine = () => origin.line.delete(exchange);
    }
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all([...this.#all].map((connection) => connection.stop()));
  }

  #originOf(exchange: Exchange): Origin {
    const { origin: url, tls } = exchange.destination;
    const { clientCertificate, verifyTls } = exchange.request;
    const origins = tls && !verifyTls ? this.#unverified : this.#verified;
    const name = clientCertificate == null || !tls ? url : `${url} ${clientCertificate.id}`;
    let origin = origins.get(name);
    if (origin === undefined) {
      origin = { open: 0, idle: [], line: new Set(), name, registry: origins };
      origins.set(name, origin);
    }
    return origin;
  }

  /** The one used last comes first, so that those not needed grow old. */
  #takeIdle(origin: Origin, exchange: Exchange): Connection | undefined {
    for (let at = origin.idle.length - 1; at >= 0; at -= 1) {
      const connection = origin.idle[at];
      if (connection === undefined) break;
      if (exchange.startMs - connection.openedAtMs > CONNECTION_AGE_MS_MAX) connection.discard();
      else if (connection.suits(exchange.request.ipWhitelist ?? null)) {
        this.#removeIdle(origin, at);
        return connection;
      }
    }
    return undefined;
  }

  #removeIdle(origin: Origin, at: number): void {
    if (at === origin.idle.length - 1) origin.idle.pop();
    else origin.idle.splice(at, 1);
    this.#idleCount -= 1;
  }

  #open(origin: Origin, exchange: Exchange): void {
    const connection = new Connection({
      ...this.#options,
      destination: exchange.destination,
      verifyTls: exchange.request.verifyTls,
      clientCertificate: exchange.request.clientCertificate ?? null,
      outbox: this.#outbox,
      onFree: () => this.#free(origin, connection),
      onDead: () => this.#remove(origin, connection),
    });
    origin.open += 1;
    origin.registry.set(origin.name, origin);
    this.#all.add(connection);
    connection.start(exchange);
  }

  /** A connection has carried its exchange to the end. */
  #free(origin: Origin, connection: Connection): void {
    const next = firstOf(origin.line);
    if (next === undefined) {
      origin.idle.push(connection);
      this.#idleCount += 1;
      if (this.#idleCount > IDLE_MAX) this.#closeLongestIdle();
      return;
    }
    if (connection.ageMs > CONNECTION_AGE_MS_MAX || !connection.suits(next.request.ipWhitelist ?? null)) {
      connection.discard();
      return;
    }
    origin.line.delete(next);
    connection.start(next);
  }

  /** A connection will carry nothing more. */
  #remove(origin: Origin, connection: Connection): void {
    if (!this.#all.delete(connection)) return;
    origin.open -= 1;
    const at = origin.idle.indexOf(connection);
    if (at !== -1) this.#removeIdle(origin, at);
    const next = firstOf(origin.line);
    if (next !== undefined && !this.#stopped) {
      origin.line.delete(next);
      this.#open(origin, next);
    } else if (origin.open === 0) origin.registry.delete(origin.name);
  }

  /** An eighth at once, so that the search for them costs little for each. */
  #closeLongestIdle(): void {
    const idle = [...this.#all].filter((connection) => connection.isIdle);
    idle.sort((a, b) => a.idleSinceMs - b.idleSinceMs);
    for (const connection of idle.slice(0, IDLE_MAX / 8)) connection.discard();
  }
}

interface Origin {
  /** With the client certificate, where there is one. */
  readonly name: string;
  /** The map that holds it while it has a connection. */
  readonly registry: Map<string, Origin>;
  open: number;
  /** The one used last is the last. */
  readonly idle: Connection[];
  /** Exchanges that wait for a connection. */
  readonly line: Set<Exchange>;
}

function firstOf<T>(set: ReadonlySet<T>): T | undefined {
  for (const first of set) return first;
  return undefined;
}
