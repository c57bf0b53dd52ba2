import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Database } from '../db/pool.ts';
import { type Authenticate, type Caller, requireAccess } from '../http/caller.ts';
import type { RouteAccess } from '../http/permissions.ts';
import type { Clock } from '../kernel/clock.ts';
import { AppError } from '../kernel/errors.ts';
import { timeOfId } from '../kernel/ids.ts';
import type { Logger } from '../kernel/logger.ts';
import type { TenantDirectory } from '../tenants/directory.ts';
import { RESUMABLE_MS } from './entries.ts';
import type { Wanted } from './filter.ts';
import { Listener } from './listener.ts';
import { Tail } from './tail.ts';

/** Streams of a tenant on one process, and of all tenants. */
export const STREAMS_OF_TENANT_MAX = 20;
export const STREAMS_MAX = 500;

/** Bytes that wait in memory for all listeners together to read: who has most of it is cut off. */
const BACKLOG_SUM_MAX = 33_554_432;

/** Under the two minutes after which the server cuts a silent connection, and what proxies wait for (often a minute). */
export const HEARTBEAT_MS = 15_000;

/** Rows that a resumed stream is sent of what it missed. */
const CAUGHT_UP_MAX = 10_000;

/** So far ahead of this node's clock another node's may be; a later id is none that a stream has given. */
const AHEAD_MS_MAX = 60_000;

/** Tails and resumed streams that read from the database at the same time. */
const READERS_MAX = 2;

export interface LiveHubOptions {
  db: Database;
  clock: Clock;
  logger: Logger;
  authenticate: Authenticate;
  tenants: Pick<TenantDirectory, 'get'>;
}

/** Who may listen, as the route says. */
export const STREAM_ACCESS = { permission: 'read', portal: 'read' } as const satisfies RouteAccess;

interface Connection {
  caller: Caller;
  listener: Listener;
  /** What of the request says who is asking. */
  asked: Parameters<Authenticate>[0];
  tail: Tail;
}

/** The open streams of this node. */
export class LiveHub {
  readonly #options: LiveHubOptions;
  readonly #connections = new Set<Connection>();
  readonly #tails = new Map<string, Tail>();
  readonly #waiting: (() => void)[] = [];
  #reading = 0;
  #cut = 0;
  #stopped = false;
  #cancelBeat: (() => void) | undefined;

  constructor(options: LiveHubOptions) {
    this.#options = options;
  }

  /** For the metrics. */
  get figures(): { open: number; cut: number; backlogBytes: number } {
    return { open: this.#connections.size, cut: this.#cut, backlogBytes: this.#backlogBytes() };
  }

  /**
   * Answers a request with a stream.
   *
   * @param last the id of the last message that the listener has; undefined: it begins now.
   * @throws AppError 429 where too many are open, 503 while the program stops.
   */
  open(request: FastifyRequest, reply: FastifyReply, wants: Wanted, last: string | undefined): void {
    const { caller, headers, ip } = request;
    this.#refuseOneTooMany(caller.tenantId);
    const headersSent = reply.getHeaders();
    reply.hijack();
    const response = reply.raw;
    // Gone while it was asked who it is: nobody would be told of its end any more.
    if (response.destroyed || response.socket === null || response.socket.destroyed) return;
    response.writeHead(200, {
      ...(headersSent as Record<string, string>),
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-store',
      // nginx would hold messages back until its buffer is full.
      'x-accel-buffering': 'no',
    });
    response.write(`retry: ${RETRY_MS}\n\n`);
    const listener = new Listener({
      response,
      wants,
      clock: this.#options.clock,
      onSlow: () => {
        this.#cut += 1;
        this.#options.logger.info(
          { tenant_id: caller.tenantId },
          'a listener of the live stream did not read; it is cut off',
        );
      },
      onClose: () => this.#forget(connection),
    });
    const tail = this.#tailOf(caller);
    const asked = { headers: credentialsOf(headers), ip };
    const connection: Connection = { caller, listener, asked, tail };
    this.#connections.add(connection);
    this.#beatLater();
    void this.#follow(connection, last);
  }

  /** What callers may do has changed, of one tenant or of any: whoever may not listen any more is sent away. */
  async recheck(tenantId?: string): Promise<void> {
    const judged = new Map<string, Promise<boolean>>();
    for (const connection of this.#connections) {
      if (tenantId !== undefined && connection.caller.tenantId !== tenantId) continue;
      // One question for all streams of a credential: each refusal counts against its address.
      const key = JSON.stringify(connection.asked);
      let mayListen = judged.get(key);
      if (mayListen === undefined) {
        mayListen = this.#mayListen(connection);
        judged.set(key, mayListen);
      }
      if (!(await mayListen)) connection.listener.end('access_ended');
    }
  }

  /** Ends all streams, and opens none. */
  stop(): void {
    this.#stopped = true;
    this.#cancelBeat?.();
    for (const { listener } of this.#connections) listener.end('stopping');
    for (const tail of this.#tails.values()) tail.stop();
  }

  #refuseOneTooMany(tenantId: string): void {
    if (this.#stopped) {
      throw new AppError({ code: 'unavailable', message: 'The server stops.', retryAfterSeconds: 1 });
    }
    let ofTenant = 0;
    for (const { caller } of this.#connections) if (caller.tenantId === tenantId) ofTenant += 1;
    if (ofTenant < STREAMS_OF_TENANT_MAX && this.#connections.size < STREAMS_MAX) return;
    throw new AppError({
      code: 'too_many_streams',
      message:
        ofTenant < STREAMS_OF_TENANT_MAX
          ? 'Too many live streams are open on this server.'
          : `Too many live streams are open: a tenant has at most ${STREAMS_OF_TENANT_MAX}.`,
      retryAfterSeconds: 30,
    });
  }

  /** Sends what was missed, page by page as it is read, and then what happens. */
  async #follow({ listener, tail }: Connection, last: string | undefined): Promise<void> {
    try {
      await tail.noteListener();
    } catch {
      // The database is away; the client comes back.
      listener.cut();
      return;
    }
    let at = last === undefined || last > tail.mark ? tail.mark : last;
    const nowMs = this.#options.clock.now();
    const isTooOld = timeOfId(at) < nowMs - RESUMABLE_MS;
    const isOfStream = last !== undefined && timeOfId(last) < nowMs + AHEAD_MS_MAX;
    listener.begin(at, isOfStream && !isTooOld);
    if (isTooOld) {
      listener.gap(at, tail.mark, 'too_old');
      at = tail.mark;
    }
    for (let rows = 0; !listener.closed && at < tail.mark; ) {
      if (rows >= CAUGHT_UP_MAX) {
        listener.gap(at, tail.mark, 'too_much');
        at = tail.mark;
        break;
      }
      try {
        const page = await tail.read(at, tail.mark);
        listener.send(page.messages);
        at = page.upTo;
        rows += page.messages.length;
        await listener.read();
      } catch {
        // The client comes back with the last id that it has.
        listener.cut();
      }
    }
    if (!listener.closed) tail.add(listener);
  }

  #tailOf({ tenantId, environmentId }: Caller): Tail {
    const known = this.#tails.get(environmentId);
    if (known !== undefined) return known;
    const { db, clock, logger } = this.#options;
    const tail = new Tail(
      { tenantId, environmentId },
      { db, clock, logger, reading: (read) => this.#inTurn(read), onSent: () => this.#cutSlowest() },
    );
    this.#tails.set(environmentId, tail);
    return tail;
  }

  #forget(connection: Connection): void {
    this.#connections.delete(connection);
    const { tail, caller } = connection;
    tail.remove(connection.listener);
    for (const other of this.#connections) if (other.tail === tail) return;
    tail.stop();
    this.#tails.delete(caller.environmentId);
  }

  async #inTurn<T>(read: () => Promise<T>): Promise<T> {
    if (this.#reading >= READERS_MAX) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    else this.#reading += 1;
    try {
      return await read();
    } finally {
      // Whoever waits takes over the place.
      const next = this.#waiting.shift();
      if (next === undefined) this.#reading -= 1;
      else next();
    }
  }

  #beatLater(): void {
    if (this.#stopped) return;
    this.#cancelBeat ??= this.#options.clock.after(HEARTBEAT_MS, () => {
      this.#cancelBeat = undefined;
      for (const { listener, tail } of this.#connections) listener.beat(tail.has(listener) ? tail.mark : undefined);
      // One that fails is repeated with the next beat.
      for (const tail of this.#tails.values()) void tail.noteListener().catch(() => {});
      // Keys and tokens expire without a notice.
      void this.recheck();
      if (this.#connections.size > 0) this.#beatLater();
    });
  }

  #backlogBytes(): number {
    let sum = 0;
    for (const { listener } of this.#connections) sum += listener.backlogBytes;
    return sum;
  }

  #cutSlowest(): void {
    while (this.#backlogBytes() > BACKLOG_SUM_MAX) {
      const all = [...this.#connections].map(({ listener }) => listener);
      all.reduce((most, each) => (each.backlogBytes > most.backlogBytes ? each : most)).cut();
    }
  }

  async #mayListen({ caller, asked }: Connection): Promise<boolean> {
    try {
      const now = await this.#options.authenticate(asked);
      requireAccess(now, STREAM_ACCESS);
      const { tenantId, environmentId, owner } = now;
      if (tenantId !== caller.tenantId || environmentId !== caller.environmentId || owner !== caller.owner)
        return false;
      if (now.role === 'operator') return true;
      return (await this.#options.tenants.get(tenantId))?.suspended === false;
    } catch (error) {
      // While the database is away nobody can be judged; the next heartbeat asks again.
      return !(error instanceof AppError && [401, 403, 404].includes(error.status));
    }
  }
}

/** After so long a client that was cut off comes back. */
const RETRY_MS = 3_000;

function credentialsOf(headers: FastifyRequest['headers']): FastifyRequest['headers'] {
  const named = ['authorization', 'x-api-key', 'x-tenant-id', 'x-environment'] as const;
  return Object.fromEntries(named.flatMap((name) => (headers[name] === undefined ? [] : [[name, headers[name]]])));
}
