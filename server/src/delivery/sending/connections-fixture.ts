import type { Clock } from '../../kernel/clock.ts';
import { ManualClock } from '../../testing/manual-clock.ts';
import type { EgressGuard } from '../../webhooks/egress/guard.ts';
import type { AttemptResult } from '../outcome.ts';
import type { OutgoingRequest } from '../sender.ts';
import { Connections } from './connections.ts';
import { Destinations } from './destination.ts';
import { Exchange } from './exchange.ts';
import { loopbackGuard, requestTo } from './sender-fixture.ts';

/** Connections, with the exchanges that run on them. */
export interface TestConnections {
  connections: Connections;
  send(url: string, changes?: Partial<OutgoingRequest>): Promise<AttemptResult>;
  /** Ends the exchanges whose time is over. */
  sweep(): void;
}

/** @param options a clock that stands still, and a guard that lets requests go to loopback, by default. */
export function openTestConnections(options: { clock?: Clock; guard?: EgressGuard } = {}): TestConnections {
  const { clock = new ManualClock() } = options;
  const { guard = loopbackGuard({ clock }) } = options;
  const connections = new Connections({ clock, guard });
  const destinations = new Destinations(guard);
  const running = new Set<Exchange>();
  return {
    connections,
    send: (url, changes = {}) =>
      new Promise((settle) => {
        const request = requestTo(url, changes);
        const exchange = new Exchange(clock, request, destinations.of(request.url), (result) => {
          running.delete(exchange);
          settle(result);
        });
        running.add(exchange);
        connections.run(exchange);
      }),
    sweep: () => {
      for (const exchange of running) exchange.sweep(clock.monotonicMs());
    },
  };
}
