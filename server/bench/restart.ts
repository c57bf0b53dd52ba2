import { setTimeout as sleep } from 'node:timers/promises';
import { nowUs } from './clock.ts';
import { median } from './figures.ts';
import { API_PATHS, arrivalFaults, WAIT_MS_MAX } from './measure.ts';
import type { Options } from './options.ts';
import { compareRecords, totalRecords } from './records.ts';
import { newAudience, posthornOf, type Running, type ScenarioResult } from './running.ts';
import { BATCH, type Kill, type LoadShape } from './scenarios.ts';
import { tenths, whole } from './table.ts';
import { until } from './until.ts';

/** Ten deliveries an event: they are accepted faster than they are delivered, so that some wait when the kill comes. */
const LOAD: LoadShape = { ...BATCH, webhooks: 10 };

/** The kill comes when this share of all deliveries has arrived. */
const ARRIVED_SHARE = 0.2;

/** No arrival for so long, and nothing that waits: all is delivered. */
const QUIET_MS = 500;
const READY_GOAL_MS = 2_000;

/** What one kill and the start after it took; seconds count from the start of the new process. */
interface Recovery {
  waiting: number;
  readyS: number;
  firstDeliveryS: number;
  allDeliveredS: number;
  repeats: number;
}

/**
 * Starts the server again: after a stop with nothing waiting, after a SIGKILL under load that leaves PostgreSQL behind,
 * and after one that takes PostgreSQL too, as a power cut does. A delivery may be repeated then, when the process died
 * between sending and recording it; none may be lost, and none may come twice within one life of the process.
 */
export async function runRestart(running: Running, options: Options, result: ScenarioResult): Promise<void> {
  const posthorn = posthornOf(running);
  const { processes } = posthorn;
  const afterStop: number[] = [];
  for (let round = 1; round <= options.rounds; round++) {
    await posthorn.stop();
    afterStop.push((await posthorn.start(processes)) / 1000);
  }
  addReady(result, 'start after a stop, nothing waiting: ready', afterStop);

  for (const kill of options.sizes.kills) {
    const recoveries: Recovery[] = [];
    for (let round = 1; round <= options.rounds; round++) {
      const { faults, recovery } = await killUnderLoad(running, options.sizes.killed, kill);
      result.faults.push(...faults.map((fault) => `kill of ${kill}, round ${round}: ${fault}`));
      recoveries.push(recovery);
    }
    const of = (key: keyof Recovery) => median(recoveries.map((recovery) => recovery[key]));
    const waiting = whole(of('waiting'));
    const what = `start after a SIGKILL ${kill === 'all' ? 'of all, PostgreSQL too' : 'of Node'}`;
    addReady(
      result,
      `${what}, ${waiting} waiting: ready`,
      recoveries.map(({ readyS }) => readyS),
    );
    result.figures.push(
      { what: `${what}: first delivery`, measured: `${tenths(of('firstDeliveryS'))} s` },
      { what: `${what}: all delivered`, measured: `${tenths(of('allDeliveredS'))} s` },
      { what: `${what}: repeated deliveries`, measured: whole(of('repeats')) },
    );
  }
}

function addReady(result: ScenarioResult, what: string, seconds: readonly number[]): void {
  const middle = median(seconds);
  const met = middle * 1000 < READY_GOAL_MS;
  result.figures.push({ what, measured: `${tenths(middle)} s`, goal: `${READY_GOAL_MS / 1000} s`, met });
}

async function killUnderLoad(
  running: Running,
  deliveries: number,
  kill: Kill,
): Promise<{ faults: string[]; recovery: Recovery }> {
  const { stage } = running;
  const posthorn = posthornOf(running);
  const { processes } = posthorn;
  const { connections, batchSize, webhooks } = LOAD;
  const audience = await newAudience(running, LOAD);
  stage.run += 1;
  const eventsMax = deliveries / webhooks;
  await stage.sink.call('begin', { run: stage.run, eventsMax, webhooks, byTurns: false });
  const sending = stage.generator.call('run', {
    run: stage.run,
    request: {
      port: posthorn.port,
      path: API_PATHS.batch,
      eventType: audience.eventType,
      batchSize,
      headers: audience.headers,
      turns: 1,
    },
    connections: Math.min(connections, eventsMax / batchSize),
    eventsMax,
    durationMs: WAIT_MS_MAX,
  });
  // It rejects only with the generator itself, and is awaited below.
  sending.catch(() => {});
  await until(async () => (await stage.sink.call('arrived', null)) >= deliveries * ARRIVED_SHARE, WAIT_MS_MAX);
  await posthorn.kill(kill);
  const sent = await sending;
  // What the killed processes had written may still be in the sink's sockets.
  await sleep(100);
  const arrivedBefore = await stage.sink.call('arrived', null);
  await stage.sink.call('beginLife', null);

  const startUs = nowUs();
  const sinceStart = (atUs: number) => (atUs > startUs ? (atUs - startUs) / 1_000_000 : Number.NaN);
  const readyMs = await posthorn.start(processes);
  const publishes = { published: sent.published, refused: sent.refused, unanswered: sent.unanswered };
  const waiting = await awaitQuiet(running, audience.webhookIds);
  const came = await stage.sink.call('finish', { ...publishes, idleMs: QUIET_MS, waitMs: WAIT_MS_MAX });

  const faults = arrivalFaults(came);
  if (sent.refused.length > 0) faults.push(`${sent.refused.length} events were refused: ${sent.problems.join('; ')}`);
  if (waiting > 0) faults.push(`${waiting} deliveries still wait`);
  const expected = { delivered: came.arrived, waiting: 0 };
  faults.push(...(await compareRecords(posthorn, audience.webhookIds, expected)).faults);
  return {
    faults,
    recovery: {
      waiting: came.arrived - arrivedBefore,
      readyS: readyMs / 1000,
      firstDeliveryS: sinceStart(came.firstArrivalUs),
      allDeliveredS: sinceStart(came.lastArrivalUs),
      repeats: came.repeats,
    },
  };
}

/** Waits until nothing arrives and nothing waits any more; gives what still waits when time is up. */
async function awaitQuiet({ stage, posthorn }: Running, webhookIds: readonly string[]): Promise<number> {
  const lastMs = performance.now() + WAIT_MS_MAX;
  for (;;) {
    let arrived = -1;
    await until(async () => {
      const before = arrived;
      arrived = await stage.sink.call('arrived', null);
      if (arrived !== before) await sleep(QUIET_MS);
      return arrived === before;
    }, WAIT_MS_MAX);
    const waiting = posthorn === undefined ? 0 : (await totalRecords(posthorn, webhookIds)).waiting;
    if (waiting === 0 || performance.now() > lastMs) return waiting;
  }
}
