import { AggregatorRegistry, Counter, collectDefaultMetrics, Gauge, Registry } from 'prom-client';
import { Type } from 'typebox';
import type { Capacity } from '../alerts/capacity.ts';
import type { DeliveryEngine } from '../delivery/engine.ts';
import type { EventWriter } from '../events/event-writer.ts';
import type { HttpServer } from '../http/server.ts';
import type { LiveHub } from '../live/hub.ts';
import { RUN_OUTCOMES, type Sandbox } from '../shaping/sandbox/sandbox.ts';

/** The metrics of one process, as they travel between processes. */
export type MetricsSnapshot = Awaited<ReturnType<Registry['getMetricsAsJSON']>>;

/**
 * `GET /metrics` in the Prometheus text format: no tenant, URL or event type is in a label, so it may be scraped openly.
 *
 * One process of several answers for all of them with `wholeProgram`. Returns what reads this process's own.
 */
export function registerMetricsRoute(
  app: HttpServer,
  deps: {
    engine: DeliveryEngine;
    writer: EventWriter;
    live: LiveHub;
    capacity: Capacity;
    sandbox: Pick<Sandbox, 'counters' | 'gauges'>;
    wholeProgram: (() => Promise<string>) | undefined;
  },
): () => Promise<MetricsSnapshot> {
  const { engine, writer, live, capacity, sandbox } = deps;
  const registry = new Registry();
  collectDefaultMetrics({ register: registry, prefix: 'posthorn_' });

  counter(registry, 'posthorn_events_accepted_total', 'Events committed since the start.', () => writer.accepted);
  counter(
    registry,
    'posthorn_deliveries_filtered_total',
    'Deliveries that filters of webhooks spared, since the start.',
    () => writer.filtered,
  );
  counter(
    registry,
    'posthorn_attempts_total',
    'Delivery attempts recorded since the start.',
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
    'posthorn_requests_in_flight_max',
    'Requests to receivers that may be under way.',
    () => engine.inFlightMax,
  );
  gauge(
    registry,
    'posthorn_capacity_raised',
    '1 while an alert has raised the requests that may be under way.',
    () => (capacity.isRaised ? 1 : 0),
    'max',
  );
  gauge(registry, 'posthorn_streams_open', 'Live streams that are open.', () => live.figures.open);
  gauge(
    registry,
    'posthorn_stream_backlog_bytes',
    'Bytes that wait for listeners of live streams to read.',
    () => live.figures.backlogBytes,
  );
  counter(
    registry,
    'posthorn_streams_cut_total',
    'Live streams cut off because the listener did not read.',
    () => live.figures.cut,
  );
  gauge(
    registry,
    'posthorn_deliveries_queued',
    'Deliveries in memory that are not under way.',
    () => engine.gauges.queued,
  );
  gauge(
    registry,
    'posthorn_payload_bytes',
    'Payload bytes of the deliveries in memory or under way.',
    () => engine.gauges.payloadBytes,
  );
  gauge(
    registry,
    'posthorn_circuits_open',
    'Webhooks whose circuit is not closed.',
    () => engine.gauges.openCircuits,
    'max',
  );
  gauge(
    registry,
    'posthorn_lanes',
    'Webhooks with deliveries in memory or waiting; of several processes, those of the one that knows most.',
    () => engine.gauges.lanes,
    'max',
  );
  registerSandboxMetrics(registry, sandbox);

  app.get(
    '/metrics',
    {
      config: { permission: 'public' },
      schema: {
        tags: ['Operations'],
        summary: 'Prometheus metrics',
        response: { 200: { description: 'Text format 0.0.4.', content: { 'text/plain': { schema: Type.String() } } } },
      },
    },
    async (_request, reply) => {
      const text = await (deps.wholeProgram?.() ?? registry.metrics());
      return reply.type(registry.contentType).send(text);
    },
  );
  return () => registry.getMetricsAsJSON();
}

/** Of templates and transforms. A program that takes the others' time shows in what waits, and in threads that ended. */
function registerSandboxMetrics(registry: Registry, { counters, gauges }: Pick<Sandbox, 'counters' | 'gauges'>): void {
  new Counter({
    name: 'posthorn_template_runs_total',
    help: 'Runs of templates and transforms by result: ok, or the kind of their fault.',
    labelNames: ['result'],
    registers: [registry],
    collect() {
      this.reset();
      for (const result of RUN_OUTCOMES) this.inc({ result }, counters.results[result]);
    },
  });
  counter(
    registry,
    'posthorn_template_run_seconds_total',
    'Time that templates and transforms ran, without what they waited for their turn.',
    () => counters.runMs / 1000,
  );
  gauge(
    registry,
    'posthorn_template_runs_waiting',
    'Runs and checks of templates and transforms that wait for their turn, or are under way.',
    () => gauges.waiting,
  );
  gauge(registry, 'posthorn_template_threads', 'Threads that run templates and transforms.', () => gauges.threads);
  counter(
    registry,
    'posthorn_template_threads_ended_total',
    'Threads that ended, because a template or transform hung, broke them or used up their memory.',
    () => counters.ended,
  );
}

/**
 * Adds up the metrics of several processes. What processes that have ended had counted is kept in it, because a total
 * that falls is read as one that began anew, and its rest would be counted twice.
 */
export class ProgramMetrics {
  #ended: Promise<MetricsSnapshot> = Promise.resolve([]);

  /** A process has ended; these were the last metrics seen of it. */
  keepCountsOf(last: MetricsSnapshot): void {
    const counts = last.filter(({ type }) => COUNTING.includes(String(type)));
    this.#ended = this.#ended.then((ended) => AggregatorRegistry.aggregate([ended, counts]).getMetricsAsJSON());
  }

  async text(running: MetricsSnapshot[]): Promise<string> {
    return AggregatorRegistry.aggregate([await this.#ended, ...running]).metrics();
  }
}

const COUNTING = ['counter', 'histogram', 'summary'];

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

/**
 * `aggregator`: what the figures of several processes make together. `max` is for what each of them knows of the whole,
 * such as the open circuits: their sum would count it once for every process.
 */
function gauge(
  registry: Registry,
  name: string,
  help: string,
  read: () => number,
  aggregator: 'sum' | 'max' = 'sum',
): void {
  new Gauge({
    name,
    help,
    registers: [registry],
    aggregator,
    collect() {
      this.set(read());
    },
  });
}
