import { retentionIsWorking, writeOldDay } from './database.ts';
import { median } from './figures.ts';
import { WAIT_MS_MAX } from './measure.ts';
import type { Options } from './options.ts';
import { checkRecords, posthornOf, publishSingle, type Running, type ScenarioResult } from './running.ts';
import { percent, whole } from './table.ts';
import { until } from './until.ts';

const TENANT = 'bench-retention';
const GOAL = 0.9;

/** Days ago: one whose payloads are over and whose attempts go as a table, and one that goes as a whole. */
const BLANKED_DAY = 45;
const DROPPED_DAY = 100;

/**
 * Single publishes, first alone, then while records of old days are removed: two days are dropped, and the payloads of a
 * third are blanked row by row for as long as it lasts. Each round has days of its own.
 */
export async function runRetention(running: Running, options: Options, result: ScenarioResult): Promise<void> {
  const posthorn = posthornOf(running);
  const { seconds, rounds, sizes } = options;
  await posthorn.api.createTenants([TENANT]);
  const ratios: number[] = [];
  const rates: number[] = [];
  for (let round = 1; round <= rounds; round++) {
    await posthorn.database(async (client) => {
      await writeOldDay(client, TENANT, DROPPED_DAY + round, sizes.retained);
      await writeOldDay(client, TENANT, BLANKED_DAY + round, sizes.retained);
    });
    const base = await publishSingle(running, seconds, `quiet ${round}`, result);
    const startMs = performance.now();
    await posthorn.api.runRetention();
    const measured = await publishSingle(running, seconds, `beside retention ${round}`, result);
    const outlasts = await posthorn.database(retentionIsWorking);
    if (!outlasts) result.faults.push(`round ${round}: retention ended before the measurement did`);
    const ended = await until(async () => !(await posthorn.database(retentionIsWorking)), RETENTION_MS_MAX);
    if (!ended) result.faults.push(`round ${round}: retention did not end`);
    rates.push(sizes.retained / ((performance.now() - startMs) / 1000));
    ratios.push(measured.deliveriesPerSecond / base.deliveriesPerSecond);
    result.rounds.push({ base, measured });
  }
  const perSecond = (which: 'base' | 'measured') =>
    whole(median(result.rounds.map((round) => round[which]?.deliveriesPerSecond ?? Number.NaN)));
  const ratio = median(ratios);
  result.figures.push({
    what: 'delivered/s while old records are removed, of quiet',
    measured: `${percent(ratio)} (${perSecond('measured')}/s, quiet ${perSecond('base')}/s)`,
    goal: `${GOAL * 100} %`,
    met: ratio >= GOAL,
  });
  result.figures.push({ what: 'payloads blanked', measured: `${whole(median(rates))}/s` });
  if (running.single !== undefined) await checkRecords(running, running.single, result);
}

/** Blanking rests nine tenths of the time. */
const RETENTION_MS_MAX = 3 * WAIT_MS_MAX;
