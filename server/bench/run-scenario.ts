import { setTimeout as sleep } from 'node:timers/promises';
import { API_PATHS, type Measurement, measure, type Stage, type Target } from './measure.ts';
import type { Posthorn } from './posthorn.ts';
import type { LoadShape, Scenario, TargetName } from './scenarios.ts';

/** Everything that is running. */
export interface Running {
  stage: Stage;
  sinkPort: number;
  sink: Target;
  relay: Target;
  relayIsWarm: boolean;
  /** Undefined when no chosen scenario needs it. */
  posthorn: Posthorn | undefined;
}

/** One measurement, with that of the floor just before it. */
export interface Round {
  floor: Measurement | undefined;
  measured: Measurement;
}

export interface ScenarioResult {
  scenario: Scenario;
  rounds: Round[];
  /** Why the scenario failed; empty when it did not. */
  faults: string[];
  /** Attempts that failed and were made again: nothing is lost, but the rates are those of the waiting between them. */
  failedAttempts: number;
}

/** Not measured: code is compiled, pools open their connections. */
const WARM_UP_SECONDS = 0.5;

/** Warms up, then measures floor and target by turns, so that both see the same neighbours on a shared machine. */
export async function runScenario(
  running: Running,
  scenario: Scenario,
  options: { seconds: number; rounds: number },
): Promise<ScenarioResult> {
  const { posthorn, stage } = running;
  const { floor, load } = scenario;
  const eventType = `bench.${scenario.label.replaceAll(/[^a-z0-9]+/g, '_')}`;
  const webhookIds =
    scenario.target === 'posthorn' && posthorn !== undefined
      ? await posthorn.subscribe(eventType, running.sinkPort, load.webhooks)
      : [];
  const target = targetOf(running, scenario.target);
  const result: ScenarioResult = { scenario, rounds: [], faults: [], failedAttempts: 0 };
  const seconds = Math.max(options.seconds, load.secondsMin);
  let deliveries = 0;

  if (floor !== undefined && !running.relayIsWarm) {
    await publish('floor warm-up', running.relay, floor, WARM_UP_SECONDS);
    running.relayIsWarm = true;
  }
  await publish('warm-up', target, load, WARM_UP_SECONDS);
  for (let round = 1; round <= options.rounds; round++) {
    result.rounds.push({
      floor: floor && (await publish(`floor ${round}`, running.relay, floor, seconds)),
      measured: await publish(`round ${round}`, target, load, seconds),
    });
  }
  if (posthorn !== undefined && webhookIds.length > 0) {
    await compareRecords(posthorn, webhookIds, deliveries / load.webhooks, result);
  }
  return result;

  async function publish(what: string, to: Target, shape: LoadShape, forSeconds: number): Promise<Measurement> {
    const measurement = await measure(stage, to, shape, eventType, forSeconds);
    result.faults.push(...measurement.faults.map((fault) => `${what}: ${fault}`));
    if (to === target) deliveries += measurement.deliveries;
    return measurement;
  }
}

function targetOf(running: Running, name: TargetName): Target {
  if (name === 'posthorn') {
    if (running.posthorn === undefined) throw new Error('Posthorn is not running.');
    return { ...running.posthorn, paths: API_PATHS };
  }
  return running[name];
}

const RECORDED_MS_MAX = 15_000;

/** Results are recorded a moment after the delivery: asks until each webhook has so many, or time is up. */
async function compareRecords(
  posthorn: Posthorn,
  webhookIds: readonly string[],
  expected: number,
  result: ScenarioResult,
): Promise<void> {
  const lastMs = performance.now() + RECORDED_MS_MAX;
  for (const id of webhookIds) {
    let records = await posthorn.records(id);
    while (records.successfulDeliveries !== expected && performance.now() < lastMs) {
      await sleep(100);
      records = await posthorn.records(id);
    }
    result.failedAttempts += records.failedAttempts;
    if (records.successfulDeliveries === expected) continue;
    result.faults.push(
      `webhook ${id} has ${records.successfulDeliveries} successful deliveries on record, and ${expected} arrived`,
    );
    return;
  }
}
