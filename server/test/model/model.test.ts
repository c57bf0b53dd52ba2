import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { perform, runs, type Step, setups } from './commands.ts';
import { heal } from './healing.ts';
import { type ModelDatabase, openModelDatabase } from './model-database.ts';
import { RowChecks } from './row-checks.ts';
import { type Setup, System } from './system.ts';

const RUNS = Number(process.env.MODEL_RUNS ?? 500);
const SEED = process.env.MODEL_SEED === undefined ? undefined : Number(process.env.MODEL_SEED);
const PATH = process.env.MODEL_PATH;
const MINUTES = Number(process.env.MODEL_MINUTES ?? 5);

/** Rows of ended runs slow down the search for those of the next. */
const RUNS_BETWEEN_CLEARINGS = 50;

let database: ModelDatabase;
let begun = 0;
let soiled = false;
beforeAll(async () => {
  database = await openModelDatabase();
});
afterAll(async () => {
  await database.close();
});

test(
  'whatever happens, the invariants hold, and every delivery comes to its end',
  async () => {
    const property = fc.asyncProperty(setups, runs, run);
    const result = await fc.check(property, {
      numRuns: PATH === undefined ? RUNS : 1,
      ...(SEED !== undefined && { seed: SEED }),
      ...(PATH !== undefined && { path: PATH }),
      endOnFailure: PATH !== undefined || process.env.NOSHRINK !== undefined,
      interruptAfterTimeLimit: MINUTES * 60_000,
    });
    console.info(`model: ${result.numRuns} runs with seed ${result.seed}`);
    if (!result.failed) return;
    const again = `MODEL_SEED=${result.seed} MODEL_PATH=${result.counterexamplePath} npm run test:model`;
    const [setup, steps] = result.counterexample ?? [];
    expect.fail(
      `${result.errorInstance}\nTo repeat it: ${again}\n${show(setup)}\n${(steps ?? []).map(show).join('\n')}`,
    );
  },
  (MINUTES + 5) * 60_000,
);

const show = (value: unknown): string => JSON.stringify(value);

async function run(setup: Setup, steps: Step[]): Promise<void> {
  if (soiled || begun % RUNS_BETWEEN_CLEARINGS === 0) await database.clear();
  begun += 1;
  soiled = true;
  const system = await System.begin(database, setup);
  try {
    const checks = new RowChecks(system);
    for (const step of steps) {
      if (PATH) console.info('STEP', JSON.stringify(step));
      for (const wish of await perform(system, step)) system.lastWishes.add(wish);
      await system.settle();
      await checks.look(system.wishes());
      system.lastWishes.clear();
      refuseViolations(system, step);
    }
    await heal(system, checks);
    refuseViolations(system, 'at the end');
  } finally {
    await system.end();
  }
  soiled = false;
}

function refuseViolations({ violations }: System, when: unknown): void {
  if (violations.length > 0) throw new Error(`${show(when)}: ${violations.join('; ')}`);
}
