import Fastify from 'fastify';
import { expect, test } from 'vitest';
import type { Capacity } from '../alerts/capacity.ts';
import type { DeliveryEngine } from '../delivery/engine.ts';
import type { EventWriter } from '../events/event-writer.ts';
import type { HttpServer } from '../http/server.ts';
import type { LiveHub } from '../live/hub.ts';
import type { Sandbox } from '../shaping/sandbox/sandbox.ts';
import { type MetricsSnapshot, ProgramMetrics, registerMetricsRoute } from './metrics.ts';

/** The metrics of a process with these gauges. */
function metricsOf(gauges: DeliveryEngine['gauges']): Promise<MetricsSnapshot> {
  const engine = {
    counters: { attempts: 5, delivered: 3, failed: 1, dead: 1 },
    gauges,
    inFlightMax: 8,
  } as DeliveryEngine;
  const live = { figures: { open: 1, cut: 2, backlogBytes: 3 } } as LiveHub;
  const capacity = { isRaised: true } as Capacity;
  const writer = { accepted: 7 } as EventWriter;
  const results = { ok: 9, syntax: 0, failed: 1, limit: 2, output: 0, unavailable: 0 };
  const sandbox: Pick<Sandbox, 'counters' | 'gauges'> = {
    counters: { results, runMs: 1_500, killed: 1, ended: 2 },
    gauges: { waiting: 4, threads: 2 },
  };
  const app = Fastify() as unknown as HttpServer;
  return registerMetricsRoute(app, { engine, writer, live, capacity, sandbox, wholeProgram: undefined })();
}

test('of several processes, what each has is added up, and what each knows of all is counted once', async () => {
  const text = await new ProgramMetrics().text([
    await metricsOf({ inFlight: 2, queued: 10, payloadBytes: 300, lanes: 4, openCircuits: 3 }),
    await metricsOf({ inFlight: 3, queued: 20, payloadBytes: 500, lanes: 6, openCircuits: 3 }),
  ]);
  const value = (name: string) => Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(text)?.[1]);
  expect(value('posthorn_events_accepted_total')).toBe(14);
  expect(value('posthorn_attempts_total')).toBe(10);
  expect(value('posthorn_requests_in_flight')).toBe(5);
  expect(value('posthorn_requests_in_flight_max')).toBe(16);
  expect(value('posthorn_capacity_raised')).toBe(1);
  expect(value('posthorn_streams_open')).toBe(2);
  expect(value('posthorn_streams_cut_total')).toBe(4);
  expect(value('posthorn_stream_backlog_bytes')).toBe(6);
  expect(value('posthorn_deliveries_queued')).toBe(30);
  expect(value('posthorn_payload_bytes')).toBe(800);
  expect(value('posthorn_circuits_open')).toBe(3);
  expect(value('posthorn_lanes')).toBe(6);
  expect(value('posthorn_template_runs_total{result="ok"}')).toBe(18);
  expect(value('posthorn_template_runs_total{result="limit"}')).toBe(4);
  expect(value('posthorn_template_run_seconds_total')).toBe(3);
  expect(value('posthorn_template_runs_waiting')).toBe(8);
  expect(value('posthorn_template_threads')).toBe(4);
  expect(value('posthorn_template_threads_ended_total')).toBe(4);
});
