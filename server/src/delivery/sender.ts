import type { Clock } from '../kernel/clock.ts';
import type { ClientCertificate } from '../webhooks/auth/credentials.ts';
import type { EgressGuard } from '../webhooks/egress/guard.ts';
import type { IpWhitelist } from '../webhooks/egress/ip-whitelist.ts';
import type { AttemptResult } from './outcome.ts';
import { Connections } from './sending/connections.ts';
import { Destinations } from './sending/destination.ts';
import { Exchange } from './sending/exchange.ts';

/** One request to a receiver, ready to go. */
export interface OutgoingRequest {
  /** Never changed: what is known of a URL is kept for as long as the object lives. */
  url: URL;
  method: string;
  /** Header name and value in turn. */
  headers: string[];
  /** The same for those of all requests to a webhook, in one array for all of them. They come after the others. */
  fixedHeaders?: readonly string[];
  /** null: a request without a body. */
  body: Buffer | null;
  /** For the whole exchange, from the name lookup to the last byte of the answer. */
  timeoutMs: number;
  verifyTls: boolean;
  /** Canonical CIDRs; the receiver's addresses must all be in them. Null or absent: any that deliveries may reach. */
  ipWhitelist?: IpWhitelist | null;
  /** Connections that were made with it carry requests with it alone. Null or absent: none. */
  clientCertificate?: ClientCertificate | null;
}

export interface Sender {
  /** Calls `done` exactly once, within the timeout and a sweep interval, whatever the receiver does. */
  send(request: OutgoingRequest, done: (result: AttemptResult, durationMs: number) => void): void;
  stop(): Promise<void>;
}

/** How often deadlines are looked at: one timer for all requests, since a timer a request costs more than it is worth. */
const SWEEP_MS = 50;

/**
 * Sends over kept-alive HTTP/1.1 connections. Redirects are not followed and content is not decompressed: both would
 * let a receiver choose what this process does next.
 */
export function createSender(options: {
  clock: Clock;
  guard: EgressGuard;
  /** Connections to one receiver at once (`CONNECTIONS_PER_ORIGIN`). */
  connectionsMax?: number | undefined;
}): Sender {
  const { clock, guard, connectionsMax } = options;
  const connections = new Connections({ clock, guard, perOriginMax: connectionsMax });
  const destinations = new Destinations(guard);
  const exchanges = new Set<Exchange>();
  let cancelSweep: (() => void) | undefined;

  const sweep = () => {
    const now = clock.monotonicMs();
    for (const exchange of exchanges) exchange.sweep(now);
    cancelSweep = exchanges.size > 0 ? clock.after(SWEEP_MS, sweep) : undefined;
  };

  return {
    send(request, done) {
      const destination = destinations.of(request.url);
      if (destination.refusal !== undefined) {
        done({ kind: 'failed', errorClass: 'blocked', message: destination.refusal }, 0);
        return;
      }
      const exchange = new Exchange(clock, request, destination, (result, durationMs) => {
        exchanges.delete(exchange);
        done(result, durationMs);
      });
      exchanges.add(exchange);
      cancelSweep ??= clock.after(SWEEP_MS, sweep);
      connections.run(exchange);
    },
    async stop() {
      cancelSweep?.();
      await connections.stop();
    },
  };
}
