import type { Distribution } from './figures.ts';
import type { GeneratorCalls, LoadReport } from './generator.ts';
import type { Part } from './part.ts';
import { machineTime, processorTimeOf } from './processor-time.ts';
import type { LoadShape } from './scenarios.ts';
import type { SinkCalls } from './sink.ts';
import type { TallyReport } from './tally.ts';

/** Who is measured, and how to publish there. */
export interface Target {
  pid: number;
  port: number;
  /** Where single publishes and batches go. */
  paths: { single: string; batch: string };
  headers: Readonly<Record<string, string>>;
}

/** The paths of the API (and of the relay, which knows only the first). */
export const API_PATHS: Target['paths'] = { single: '/api/v1/events', batch: '/api/v1/events/batch' };

/** The generator and the sink, which every measurement uses. */
export interface Stage {
  generator: Part<GeneratorCalls>;
  sink: Part<SinkCalls>;
  /** Number of the last measurement. */
  run: number;
}

export interface Measurement {
  /** Accepted and delivered to one webhook each. */
  deliveries: number;
  /** From the first publish to the last arrival of all deliveries. */
  deliveriesPerSecond: number;
  /** Events published until the last answer. */
  publishedPerSecond: number;
  /** Publish to received. */
  latency: Distribution | undefined;
  /** Publish to its answer. */
  answer: Distribution | undefined;
  /** How late the generator was in an open loop. */
  lateness: Distribution | undefined;
  /** Processor time of the target for one delivery; undefined where the system does not tell. */
  nodeUs: number | undefined;
  postgresUs: number | undefined;
  /** Share of the machine's processor time that went to processes outside the bench, 0..1. */
  otherLoad: number | undefined;
  /** What makes the figures worthless. Empty when each accepted event arrived exactly once at each webhook. */
  faults: string[];
}

const IDLE_MS_MAX = 10_000;
const WAIT_MS_MAX = 120_000;

/** Publishes for so many seconds, waits until all has arrived, and holds the two against each other. */
export async function measure(
  stage: Stage,
  target: Target,
  load: LoadShape,
  eventType: string,
  seconds: number,
): Promise<Measurement> {
  stage.run += 1;
  const { run } = stage;
  const path = load.batchSize === 1 ? target.paths.single : target.paths.batch;
  const { batchSize, webhooks, connections, requestsPerSecond } = load;
  const wanted = Math.ceil((seconds * load.deliveriesPerSecondMax) / webhooks);
  const eventsMax = Math.ceil(wanted / batchSize) * batchSize;
  await stage.sink.call('begin', { run, eventsMax, webhooks });

  const before = { target: processorTimeOf(target.pid), bench: processorTimeOf(process.pid), machine: machineTime() };
  const sent = await stage.generator.call('run', {
    run,
    request: { port: target.port, path, eventType, batchSize, headers: target.headers },
    connections,
    eventsMax,
    durationMs: seconds * 1000,
    ...(requestsPerSecond !== undefined && { requestsPerSecond }),
  });
  const came = await stage.sink.call('finish', {
    published: sent.published,
    refused: sent.refused,
    idleMs: IDLE_MS_MAX,
    waitMs: WAIT_MS_MAX,
  });
  const after = { target: processorTimeOf(target.pid), bench: processorTimeOf(process.pid), machine: machineTime() };

  const targetTime = difference(before.target, after.target);
  const benchTime = difference(before.bench, after.bench);
  const machineMs = after.machine.totalMs - before.machine.totalMs;
  const busyMs = after.machine.busyMs - before.machine.busyMs;
  return {
    deliveries: came.arrived,
    deliveriesPerSecond: came.arrived / ((came.lastArrivalUs - sent.startUs) / 1_000_000),
    publishedPerSecond: sent.published / ((sent.endUs - sent.startUs) / 1_000_000),
    latency: came.latency,
    answer: sent.answer,
    lateness: sent.lateness,
    nodeUs: targetTime && (targetTime.nodeMs * 1000) / came.arrived,
    postgresUs: targetTime && (targetTime.postgresMs * 1000) / came.arrived,
    otherLoad: benchTime && Math.max(0, busyMs - benchTime.nodeMs - benchTime.postgresMs) / machineMs,
    faults: faultsOf(sent, came),
  };
}

function faultsOf(sent: LoadReport, came: TallyReport): string[] {
  const faults: string[] = [];
  if (sent.refused.length > 0) {
    faults.push(`${sent.refused.length} of ${sent.published} events were not accepted: ${sent.problems.join('; ')}`);
  }
  if (came.arrived === 0) faults.push('nothing arrived');
  if (came.missing > 0) faults.push(`${came.missing} of ${came.expected} deliveries are missing`);
  if (came.duplicates > 0) faults.push(`${came.duplicates} deliveries came again`);
  if (came.strays > 0) faults.push(`${came.strays} arrivals belong to no accepted event`);
  return faults;
}

function difference(before: ReturnType<typeof processorTimeOf>, after: ReturnType<typeof processorTimeOf>) {
  if (before === undefined || after === undefined) return undefined;
  return { nodeMs: after.nodeMs - before.nodeMs, postgresMs: after.postgresMs - before.postgresMs };
}
