import { perform, type Step } from './commands.ts';
import { heal } from './healing.ts';
import type { ModelDatabase } from './model-database.ts';
import { RowChecks } from './row-checks.ts';
import { type Setup, System } from './system.ts';

/** Rows of ended runs slow down the search for those of the next; to remove them takes a fifth of a run (measured). */
const RUNS_BETWEEN_CLEARINGS = 10;

/** A run that has not ended by then hangs; it takes a fraction of a second. */
const RUN_MS_MAX = 60_000;

/** Plays runs one after the other on a database. */
export class Runs {
  readonly #database: ModelDatabase;
  #begun = 0;
  #soiled = false;

  constructor(database: ModelDatabase) {
    this.#database = database;
  }

  /** Performs the steps, and checks what must hold after each and at the end. @throws Error with what was found wrong. */
  async play(setup: Setup, steps: readonly Step[]): Promise<void> {
    if (this.#soiled || this.#begun % RUNS_BETWEEN_CLEARINGS === 0) await this.#database.clear();
    this.#begun += 1;
    this.#soiled = true;
    const system = await System.begin(this.#database, setup);
    const at = { step: 'the beginning' };
    try {
      await within(RUN_MS_MAX, playOn(system, steps, at), () => `it hangs at ${at.step}`);
    } finally {
      await system.end();
    }
    this.#soiled = false;
  }
}

async function playOn(system: System, steps: readonly Step[], at: { step: string }): Promise<void> {
  const checks = new RowChecks(system);
  for (const step of steps) {
    at.step = JSON.stringify(step);
    for (const wish of await perform(system, step)) system.lastWishes.add(wish);
    await system.settle();
    await checks.look(system.wishes());
    system.lastWishes.clear();
    refuseViolations(system, at.step);
  }
  at.step = 'the end';
  await heal(system, checks);
  refuseViolations(system, at.step);
}

function refuseViolations({ violations }: System, when: string): void {
  if (violations.length > 0) throw new Error(`${when}: ${violations.join('; ')}`);
}

async function within(ms: number, work: Promise<void>, what: () => string): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(what())), ms);
  });
  await Promise.race([work, late]).finally(() => clearTimeout(timer));
}
