import { type Audience, prepareAudience } from './audience.ts';
import { API_PATHS, type Extent, type Measurement, measure, type Stage, type Target } from './measure.ts';
import type { Posthorn } from './posthorn.ts';
import { compareRecords } from './records.ts';
import { type LoadShape, type Scenario, SINGLE } from './scenarios.ts';

/** Everything that is running. */
export interface Running {
  stage: Stage;
  sinkPort: number;
  sink: Target;
  relay: Target;
  relayIsWarm: boolean;
  /** Undefined when no chosen scenario needs it. */
  posthorn: Posthorn | undefined;
  /** Audiences made so far: each has a name of its own. */
  audiences: number;
  /** Of the single publishes that other scenarios are compared with, once it is there. */
  single: Audience | undefined;
}

/** One measurement, and that which it is compared with. */
export interface Round {
  base: Measurement | undefined;
  measured: Measurement;
}

/** One line of what a staged scenario found. */
export interface Figure {
  what: string;
  measured: string;
  /** From ARCHITECTURE.md, "Speed and size"; undefined where there is none. */
  goal?: string;
  met?: boolean;
}

export interface ScenarioResult {
  scenario: Scenario;
  /** Empty where the figures say it all. */
  rounds: Round[];
  figures: Figure[];
  /** Why the scenario failed; empty when it did not. */
  faults: string[];
  /** Attempts that failed and were made again: nothing is lost, but the rates are those of the waiting between them. */
  failedAttempts: number;
  /** As in a measurement, over the whole scenario. */
  otherLoad: number | undefined;
}

export function noResult(scenario: Scenario): ScenarioResult {
  return { scenario, rounds: [], figures: [], faults: [], failedAttempts: 0, otherLoad: undefined };
}

/** Single publishes to a webhook of their own: what a delivery takes on this Posthorn, with what its tables hold now. */
export async function publishSingle(
  running: Running,
  seconds: number,
  what: string,
  result: ScenarioResult,
): Promise<Measurement> {
  const target = targetOf(posthornOf(running));
  if (running.single === undefined) {
    running.single = await newAudience(running, SINGLE);
    await publish(running, target, SINGLE, running.single, warmUp(SINGLE, seconds), 'warm-up', result);
  }
  return publish(running, target, SINGLE, running.single, { seconds }, what, result);
}

/** Measures, and keeps what is wrong and what arrived. */
export async function publish(
  running: Running,
  target: Target,
  load: LoadShape,
  audience: Audience,
  extent: Extent,
  what: string,
  result: ScenarioResult,
): Promise<Measurement> {
  const measurement = await measure(running.stage, target, load, audience, extent);
  result.faults.push(...measurement.faults.map((fault) => `${what}: ${fault}`));
  audience.arrived += measurement.deliveries;
  return measurement;
}

/** Holds the rows against what arrived in all measurements of an audience. */
export async function checkRecords(running: Running, audience: Audience, result: ScenarioResult): Promise<void> {
  const expected = { delivered: audience.arrived, waiting: 0 };
  const { faults, failedAttempts } = await compareRecords(posthornOf(running), audience.webhookIds, expected);
  result.faults.push(...faults);
  result.failedAttempts += failedAttempts - audience.failedAttempts;
  audience.failedAttempts = failedAttempts;
}

export function newAudience(running: Running, load: LoadShape): Promise<Audience> {
  running.audiences += 1;
  return prepareAudience(posthornOf(running), running.sinkPort, `bench-${running.audiences}`, load);
}

/**
 * A warm-up is not measured: code is compiled, pools open their connections, caches are filled. It takes twice as long as
 * a measurement, since V8 goes on making hot code faster for some ten thousand events; or, where webhooks take turns, each webhook's, and so many of each tenant's that
 * every process has seen the tenant.
 */
export function warmUp({ audience, webhooks }: LoadShape, seconds: number): Extent {
  if (audience === 'shared') return { seconds: Math.min(2 * seconds, WARM_UP_SECONDS_MAX) };
  return { seconds: WARM_UP_SECONDS_MAX, events: (audience === 'tenants' ? 10 : 1) * webhooks };
}

const WARM_UP_SECONDS_MAX = 60;

export function posthornOf({ posthorn }: Running): Posthorn {
  if (posthorn === undefined) throw new Error('Posthorn is not running.');
  return posthorn;
}

export function targetOf({ pid, port }: Posthorn): Target {
  return { pid, port, paths: API_PATHS };
}
