import fc from 'fast-check';
import { expect, test } from 'vitest';
import { runs, setups } from './commands.ts';
import { HOT } from './faulty-statements.ts';
import { openModelDatabase } from './model-database.ts';
import { Runs } from './run.ts';
import { chooseSeed } from './seed.ts';

/** See CONTRIBUTING.md, "The model of the delivery engine". */
const { MODEL_RUNS, MODEL_MINUTES, MODEL_PATH } = process.env;
const FULL_RUNS = 2_000;
const RUNS = Number(MODEL_RUNS ?? FULL_RUNS);

/**
 * Without a wish for another time all runs have to be played, which takes two cores under three minutes (measured), and a
 * busy machine several times as long.
 */
const LIMIT_MS = Number(MODEL_MINUTES ?? 20) * 60_000;
const RUNS_MIN = MODEL_MINUTES === undefined && MODEL_PATH === undefined ? RUNS : 1;

/** A counterexample is made smaller for so long. */
const SHRINK_MS = 120_000;

/** Databases on which runs are played at the same time: a run waits for its database most of the time. */
const SHARDS = MODEL_PATH === undefined ? 4 : 1;

test(
  'whatever happens, the invariants hold, and every delivery comes to its end',
  async () => {
    const first = chooseSeed(process.env);
    const shards = Array.from({ length: SHARDS }, (_, shard) => check(first + shard));
    const checked = await Promise.all(shards);
    const played = checked.reduce((sum, { result }) => sum + result.numRuns, 0);
    const failed = countTogether(checked.map(({ failed }) => failed));
    console.info(`${played} runs, MODEL_SEED=${first}, statements that failed: ${JSON.stringify(failed)}`);
    for (const { result } of checked) {
      if (!result.failed) continue;
      const again = `MODEL_SEED=${result.seed} MODEL_PATH=${result.counterexamplePath} npm run test:model`;
      const [setup, steps] = result.counterexample ?? [];
      const shown = [setup, ...(steps ?? [])].map((each) => JSON.stringify(each)).join('\n');
      expect.fail(`${result.errorInstance}\nTo repeat it: ${again}\n${shown}`);
    }
    expect(played, 'runs that were played in the time').toBeGreaterThanOrEqual(RUNS_MIN);
    if (RUNS_MIN < FULL_RUNS) return;
    expect(
      HOT.filter((name) => failed[name] === undefined),
      'statements that never failed',
    ).toEqual([]);
  },
  LIMIT_MS + 2 * SHRINK_MS,
);

function countTogether(counts: ReadonlyMap<string, number>[]): Record<string, number> {
  const together: Record<string, number> = {};
  for (const [name, count] of counts.flatMap((each) => [...each])) together[name] = (together[name] ?? 0) + count;
  return together;
}

async function check(seed: number) {
  const database = await openModelDatabase();
  try {
    const played = new Runs(database);
    let shrinkUntilMs = Number.POSITIVE_INFINITY;
    let playing: Promise<void> | undefined;
    const property = fc.asyncProperty(setups, runs, async (setup, steps) => {
      // Nothing smaller is looked for any more.
      if (performance.now() > shrinkUntilMs) return;
      playing = played.play(setup, steps).catch((error) => {
        shrinkUntilMs = Math.min(shrinkUntilMs, performance.now() + SHRINK_MS);
        throw error;
      });
      await playing;
    });
    const result = await fc.check(property, {
      seed,
      numRuns: MODEL_PATH === undefined ? Math.ceil(RUNS / SHARDS) : 1,
      ...(MODEL_PATH !== undefined && { path: MODEL_PATH }),
      endOnFailure: MODEL_PATH !== undefined || process.env.NOSHRINK !== undefined,
      interruptAfterTimeLimit: LIMIT_MS,
      markInterruptAsFailure: false,
    });
    // Over the time limit the last run was left in the middle: it still uses the database, and may find something.
    if (result.interrupted && !result.failed) await playing;
    return { result, failed: database.activity.failed };
  } finally {
    await database.close();
  }
}
