import fc from 'fast-check';
import { expect, test } from 'vitest';
import { runs, setups } from './commands.ts';
import { openModelDatabase } from './model-database.ts';
import { Runs } from './run.ts';
import { newSeed } from './seed.ts';

/** See CONTRIBUTING.md, "The model of the delivery engine". */
const { MODEL_RUNS = '1000', MODEL_MINUTES = '1.5', MODEL_SEED, MODEL_PATH } = process.env;
const LIMIT_MS = Number(MODEL_MINUTES) * 60_000;

/** A counterexample is made smaller for so long. */
const SHRINK_MS = 120_000;

/** Databases on which runs are played at the same time: a run waits for its database most of the time. */
const SHARDS = MODEL_PATH === undefined ? 4 : 1;

test(
  'whatever happens, the invariants hold, and every delivery comes to its end',
  async () => {
    const first = MODEL_SEED === undefined ? defaultSeed() : Number(MODEL_SEED);
    const shards = Array.from({ length: SHARDS }, (_, shard) => check(first + shard));
    const results = await Promise.all(shards);
    const played = results.reduce((sum, result) => sum + result.numRuns, 0);
    console.info(`${played} runs, MODEL_SEED=${first}`);
    for (const result of results) {
      if (!result.failed) continue;
      const again = `MODEL_SEED=${result.seed} MODEL_PATH=${result.counterexamplePath} npm run test:model`;
      const [setup, steps] = result.counterexample ?? [];
      const shown = [setup, ...(steps ?? [])].map((each) => JSON.stringify(each)).join('\n');
      expect.fail(`${result.errorInstance}\nTo repeat it: ${again}\n${shown}`);
    }
  },
  LIMIT_MS + 2 * SHRINK_MS,
);

/** In CI always the same runs: a failure there is about the change. New ones are found with `npm run test:soak`. */
function defaultSeed(): number {
  return process.env.CI === undefined ? newSeed() : CI_SEED;
}

const CI_SEED = 20_261_122;

async function check(seed: number) {
  const database = await openModelDatabase();
  try {
    const played = new Runs(database);
    const deadline = performance.now() + LIMIT_MS + SHRINK_MS;
    let playing: Promise<void> | undefined;
    const property = fc.asyncProperty(setups, runs, async (setup, steps) => {
      // Nothing smaller is looked for any more.
      if (performance.now() > deadline) return;
      playing = played.play(setup, steps);
      await playing;
    });
    const result = await fc.check(property, {
      seed,
      numRuns: MODEL_PATH === undefined ? Math.ceil(Number(MODEL_RUNS) / SHARDS) : 1,
      ...(MODEL_PATH !== undefined && { path: MODEL_PATH }),
      endOnFailure: MODEL_PATH !== undefined || process.env.NOSHRINK !== undefined,
      interruptAfterTimeLimit: LIMIT_MS,
      markInterruptAsFailure: false,
    });
    // Over the time limit the last run was left in the middle: it still uses the database, and may find something.
    if (result.interrupted && !result.failed) await playing;
    return result;
  } finally {
    await database.close();
  }
}
