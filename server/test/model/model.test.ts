import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { runs, setups } from './commands.ts';
import { type ModelDatabase, openModelDatabase } from './model-database.ts';
import { Runs } from './run.ts';

/** See CONTRIBUTING.md, "The model of the delivery engine". */
const { MODEL_RUNS = '300', MODEL_MINUTES = '3', MODEL_SEED, MODEL_PATH } = process.env;
const LIMIT_MS = Number(MODEL_MINUTES) * 60_000;

/** A counterexample is made smaller for so long. */
const SHRINK_MS = 120_000;

let database: ModelDatabase;
beforeAll(async () => {
  database = await openModelDatabase();
});
afterAll(async () => {
  await database.close();
});

test(
  'whatever happens, the invariants hold, and every delivery comes to its end',
  async () => {
    const played = new Runs(database);
    const deadline = performance.now() + LIMIT_MS + SHRINK_MS;
    const property = fc.asyncProperty(setups, runs, async (setup, steps) => {
      // Nothing smaller is looked for any more.
      if (performance.now() > deadline) return;
      await played.play(setup, steps);
    });
    const result = await fc.check(property, {
      numRuns: MODEL_PATH === undefined ? Number(MODEL_RUNS) : 1,
      ...(MODEL_SEED !== undefined && { seed: Number(MODEL_SEED) }),
      ...(MODEL_PATH !== undefined && { path: MODEL_PATH, endOnFailure: true }),
      endOnFailure: MODEL_PATH !== undefined || process.env.NOSHRINK !== undefined,
      interruptAfterTimeLimit: LIMIT_MS,
      markInterruptAsFailure: false,
    });
    console.info(`${result.numRuns} runs, MODEL_SEED=${result.seed}`);
    if (!result.failed) return;
    const again = `MODEL_SEED=${result.seed} MODEL_PATH=${result.counterexamplePath} npm run test:model`;
    const [setup, steps] = result.counterexample ?? [];
    const shown = [setup, ...(steps ?? [])].map((each) => JSON.stringify(each)).join('\n');
    expect.fail(`${result.errorInstance}\nTo repeat it: ${again}\n${shown}`);
  },
  LIMIT_MS + 2 * SHRINK_MS,
);
