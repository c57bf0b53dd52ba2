import { countInHand } from './database.ts';
import { API_PATHS, publishFaults, WAIT_MS_MAX } from './measure.ts';
import type { Options } from './options.ts';
import { totalRecords } from './records.ts';
import {
  checkRecords,
  newAudience,
  posthornOf,
  publish,
  type Running,
  type ScenarioResult,
  targetOf,
  warmUp,
} from './running.ts';
import { BATCH, type LoadShape, steady } from './scenarios.ts';
import { until } from './until.ts';

const QUIET_TENANTS = 5;
const QUIET_EVENTS_PER_SECOND = 100;
const TENANT = 'bench-hanging';
const EVENT_TYPE = 'bench.event';

/**
 * Quiet tenants publish to a receiver that is well: first alone, then while another tenant has deliveries waiting for
 * two receivers, one that never answers and one that answers a second after the timeout. Their circuit breakers are off:
 * once they were open, nothing would hang any more.
 */
export async function runHanging(running: Running, options: Options, result: ScenarioResult): Promise<void> {
  const posthorn = posthornOf(running);
  const target = targetOf(posthorn);
  const load: LoadShape = {
    ...steady(QUIET_EVENTS_PER_SECOND, options.sizes),
    audience: 'tenants',
    webhooks: QUIET_TENANTS,
  };
  const seconds = Math.max(options.seconds, load.secondsMin);
  const quiet = await newAudience(running, load);
  const { sink } = running.stage;
  const measureQuiet = async (what: string) => {
    await publish(running, target, load, quiet, warmUp(load, seconds), `${what}, warm-up`, result);
    const measurements = [];
    const hanging = [await sink.call('hanging', null)];
    for (let round = 1; round <= options.rounds; round++) {
      measurements.push(await publish(running, target, load, quiet, { seconds }, `${what} ${round}`, result));
      hanging.push(await sink.call('hanging', null));
    }
    return { measurements, hanging };
  };

  const alone = await measureQuiet('alone');
  await posthorn.api.createTenants([TENANT]);
  const webhookIds = await posthorn.api.createWebhooks(
    ['never', 'late'].map((place) => ({
      tenant: TENANT,
      eventType: EVENT_TYPE,
      url: `http://127.0.0.1:${running.sinkPort}/${place}`,
      circuitBreaker: false,
    })),
  );
  const accepted = await flood(running, options.sizes.hanging / webhookIds.length, result);
  await until(async () => (await sink.call('hanging', null)) > 0, WAIT_MS_MAX);
  const beside = await measureQuiet('beside');
  result.rounds.push(...beside.measurements.map((measured, round) => ({ base: alone.measurements[round], measured })));
  const [fewest, most] = [Math.min(...beside.hanging), Math.max(...beside.hanging)];
  result.figures.push({ what: 'requests that hang, before and after each round', measured: `${fewest} to ${most}` });
  if (fewest === 0) result.faults.push('no request hung before or after a round');

  const { waiting } = await totalRecords(posthorn, webhookIds);
  const due = accepted * webhookIds.length;
  if (waiting !== due) result.faults.push(`${waiting} deliveries wait for the hanging receivers; it should be ${due}`);
  await checkRecords(running, quiet, result);
  // Later scenarios find nothing of it: not in the rows, and not in memory. What is in hand while its webhook is deleted
  // would wait for its retry first.
  await posthorn.api.setStatus(TENANT, webhookIds, 'paused');
  await until(async () => {
    await sink.call('hangUp', null);
    return (await posthorn.database((client) => countInHand(client, webhookIds))) === 0;
  }, WAIT_MS_MAX);
  await posthorn.api.deleteWebhooks(TENANT, webhookIds);
  await until(async () => (await totalRecords(posthorn, webhookIds)).waiting === 0, WAIT_MS_MAX);
}

/** Publishes in batches; returns how many events were accepted. */
async function flood({ stage, posthorn }: Running, events: number, result: ScenarioResult): Promise<number> {
  if (posthorn === undefined) return 0;
  const { batchSize, connections } = BATCH;
  stage.run += 1;
  const sent = await stage.generator.call('run', {
    run: stage.run,
    request: {
      port: posthorn.port,
      path: API_PATHS.batch,
      eventType: EVENT_TYPE,
      batchSize,
      headers: posthorn.api.headersOf(TENANT),
      turns: 1,
    },
    connections,
    eventsMax: events,
    durationMs: WAIT_MS_MAX,
  });
  result.faults.push(...publishFaults(sent).map((fault) => `flood: ${fault}`));
  if (sent.published < events)
    result.faults.push(`only ${sent.published} events were published for the hanging receivers`);
  return sent.published - sent.refused.length - sent.unanswered.length;
}
