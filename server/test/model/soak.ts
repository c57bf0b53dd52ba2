import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { newSeed } from './seed.ts';

/** `npm run test:soak -- 30`: plays the model of the delivery engine for so many minutes (10), with a new seed. */
const minutes = Number(process.argv[2] ?? 10);
if (!(minutes > 0)) {
  console.error('Say for how many minutes: npm run test:soak -- 30');
  process.exit(2);
}
const { status } = spawnSync('npx', ['vitest', 'run', 'test/model/model.test.ts'], {
  cwd: fileURLToPath(new URL('../../', import.meta.url)),
  env: {
    MODEL_SEED: String(newSeed()),
    ...process.env,
    MODEL_RUNS: String(Number.MAX_SAFE_INTEGER),
    MODEL_MINUTES: String(minutes),
  },
  stdio: 'inherit',
});
process.exit(status ?? 1);
