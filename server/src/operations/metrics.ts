import { Counter, collectDefaultMetrics, Gauge, Registry } from 'prom-client';
import type { DeliveryEngine } from '../delivery/engine.ts';
import type { EventWriter } from '../events/event-writer.ts';
import type { HttpServer } from '../http/server.ts';

/** `GET /metrics` in the Prometheus text format: no tenant, URL or event type is in a label, so it may be scraped openly. */
export function registerMetricsRoute(app: HttpServer, deps: { engine: DeliveryEngine; writer: EventWriter }): void {
  const { engine, writer } = deps;
  const registry = new Registry();
  collectDefaultMetrics({ register: registry, prefix: 'posthorn_' });

  counter(registry, 'posthorn_events_accepted_total', 'Events committed by this process.', () => writer.accepted);
  counter(
    registry,
    'posthorn_attempts_total',
    'Delivery attempts recorded by this process.',
    () => engine.counters.attempts,
  );
  new Counter({
    name: 'posthorn_attempt_results_total',
    help: 'Delivery attempts by what became of the delivery: delivered, failed (a retry follows), dead.',
    labelNames: ['result'],
    registers: [registry],
    collect() {
      this.reset();
      for (const result of ['delivered', 'failed', 'dead'] as const) this.inc({ result }, engine.counters[result]);
    },
  });
  gauge(registry, 'posthorn_requests_in_flight', 'Requests to receivers under way.', () => engine.gauges.inFlight);
  gauge(
    registry,
    'posthorn_deliveries_queued',
    'Deliveries in memory that are not under way.',
    () => engine.gauges.queued,
  );
  gauge(registry, 'posthorn_circuits_open', 'Webhooks whose circuit is not closed.', () => engine.gauges.openCircuits);
  gauge(registry, 'posthorn_lanes', 'Webhooks with deliveries in memory or waiting.', () => engine.gauges.lanes);

  app.get(
    '/metrics',
    { config: { permission: 'public' }, schema: { tags: ['Operations'], summary: 'Prometheus metrics' } },
    async (_request, reply) => reply.type(registry.contentType).send(await registry.metrics()),
  );
}

function counter(registry: Registry, name: string, help: string, read: () => number): void {
  new Counter({
    name,
    help,
    registers: [registry],
    collect() {
      this.reset();
      this.inc(read());
    },
  });
}

function gauge(registry: Registry, name: string, help: string, read: () => number): void {
  new Gauge({
    name,
    help,
    registers: [registry],
    collect() {
      this.set(read());
    },
  });
}
