/** What CI plays: always the same, so that a failure there is about the change. `npm run test:soak` finds new ones. */
const CI_SEED = 20_261_122;

/** The seed to begin with: `MODEL_SEED`, in CI always the same one, otherwise a new one. */
export function chooseSeed({ MODEL_SEED, CI }: NodeJS.ProcessEnv): number {
  if (MODEL_SEED !== undefined) return Number(MODEL_SEED);
  return CI === undefined || CI === '' ? newSeed() : CI_SEED;
}

/** A seed that was not played before, very probably. */
export function newSeed(): number {
  return Math.trunc(Math.random() * 0x7fff_ffff);
}
