import type { Audience } from './audience.ts';
import type { Distribution } from './figures.ts';
import type { GeneratorCalls, LoadReport } from './generator.ts';
import type { Part } from './part.ts';
import { difference, processorTimeOf, watchOtherLoad } from './processes.ts';
import type { LoadShape } from './scenarios.ts';
import type { SinkCalls } from './sink.ts';
import type { TallyReport } from './tally.ts';

/** Who is measured, and how to publish there. */
export interface Target {
  pid: number;
  port: number;
  /** Where single publishes and batches go. */
  paths: { single: string; batch: string };
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

/** How long the end of a run is waited for: without an arrival, and in all. */
export const IDLE_MS_MAX = 10_000;
export const WAIT_MS_MAX = 120_000;

export interface Extent {
  /** Publish for so long at most. */
  seconds: number;
  /** Publish so many events at most; undefined: what the load says for so many seconds. */
  events?: number;
}

/** Publishes for so many seconds, waits until all has arrived, and holds the two against each other. */
export async function measure(
  stage: Stage,
  target: Target,
  load: LoadShape,
  audience: Audience,
  { seconds, events }: Extent,
): Promise<Measurement> {
  stage.run += 1;
  const { run } = stage;
  const path = load.batchSize === 1 ? target.paths.single : target.paths.batch;
  const { batchSize, webhooks, connections, requestsPerSecond } = load;
  const byTurns = load.audience !== 'shared';
  const wanted = events ?? Math.ceil((seconds * load.deliveriesPerSecondMax) / (byTurns ? 1 : webhooks));
  const eventsMax = Math.ceil(wanted / batchSize) * batchSize;
  await stage.sink.call('begin', { run, eventsMax, webhooks, byTurns });

  const otherLoad = watchOtherLoad();
  const before = processorTimeOf(target.pid);
  const sent = await stage.generator.call('run', {
    run,
    request: {
      port: target.port,
      path,
      eventType: audience.eventType,
      batchSize,
      headers: audience.headers,
      turns: webhooks,
    },
    connections,
    eventsMax,
    durationMs: seconds * 1000,
    ...(requestsPerSecond !== undefined && { requestsPerSecond }),
  });
  const came = await stage.sink.call('finish', {
    published: sent.published,
    refused: sent.refused,
    unanswered: sent.unanswered,
    idleMs: IDLE_MS_MAX,
    waitMs: WAIT_MS_MAX,
  });
  const used = difference(before, processorTimeOf(target.pid));

  return {
    deliveries: came.arrived,
    deliveriesPerSecond: came.arrived / ((came.lastArrivalUs - sent.startUs) / 1_000_000),
    publishedPerSecond: sent.published / ((sent.endUs - sent.startUs) / 1_000_000),
    latency: came.latency,
    answer: sent.answer,
    lateness: sent.lateness,
    nodeUs: used && (used.nodeMs * 1000) / came.arrived,
    postgresUs: used && (used.postgresMs * 1000) / came.arrived,
    otherLoad: otherLoad(),
    faults: faultsOf(sent, came),
  };
}

function faultsOf(sent: LoadReport, came: TallyReport): string[] {
  const faults = [...publishFaults(sent), ...arrivalFaults(came)];
  if (came.arrived === 0) faults.push('nothing arrived');
  return faults;
}

/** All publishes must be accepted. */
export function publishFaults(sent: LoadReport): string[] {
  const failed = sent.refused.length + sent.unanswered.length;
  if (failed === 0) return [];
  return [`${failed} of ${sent.published} events were not accepted: ${sent.problems.join('; ')}`];
}

/** Each accepted event must arrive exactly once at each of its webhooks. */
export function arrivalFaults(came: TallyReport): string[] {
  const faults: string[] = [];
  if (came.missing > 0) faults.push(`${came.missing} of ${came.expected} deliveries are missing`);
  if (came.duplicates > 0) faults.push(`${came.duplicates} deliveries came again`);
  if (came.strays > 0) faults.push(`${came.strays} arrivals belong to no accepted event`);
  return faults;
}
