import { nobody } from './audience.ts';
import type { Measurement } from './measure.ts';
import type { Options } from './options.ts';
import {
  checkRecords,
  newAudience,
  posthornOf,
  publish,
  publishSingle,
  type Running,
  type ScenarioResult,
  targetOf,
  warmUp,
} from './running.ts';
import type { LoadScenario } from './scenarios.ts';

/** Warms up, then measures base and target by turns, so that both see the same neighbours on a shared machine. */
export async function runLoad(
  running: Running,
  { target, load, base }: LoadScenario,
  options: Options,
  result: ScenarioResult,
): Promise<void> {
  const seconds = Math.max(options.seconds, load.secondsMin);
  const audience = target === 'posthorn' ? await newAudience(running, load) : nobody();
  const publishBase = base && (await prepareBase(running, base, seconds, result));
  const to = target === 'posthorn' ? targetOf(posthornOf(running)) : running[target];
  await publish(running, to, load, audience, warmUp(load, seconds), 'warm-up', result);
  for (let round = 1; round <= options.rounds; round++) {
    result.rounds.push({
      base: await publishBase?.(round),
      measured: await publish(running, to, load, audience, { seconds }, `round ${round}`, result),
    });
  }
  if (target !== 'posthorn') return;
  await checkRecords(running, audience, result);
  if (base?.target === 'posthorn' && running.single !== undefined) await checkRecords(running, running.single, result);
}

async function prepareBase(
  running: Running,
  { target, load }: NonNullable<LoadScenario['base']>,
  seconds: number,
  result: ScenarioResult,
): Promise<(round: number) => Promise<Measurement>> {
  if (target === 'posthorn') {
    return (round) => publishSingle(running, seconds, `single ${round}`, result);
  }
  if (!running.relayIsWarm) {
    await publish(running, running.relay, load, nobody(), warmUp(load, seconds), 'floor warm-up', result);
    running.relayIsWarm = true;
  }
  return (round) => publish(running, running.relay, load, nobody(), { seconds }, `floor ${round}`, result);
}
