import { test } from 'vitest';
import { runChaos } from './chaos.ts';

test('one process: whatever is killed how often, no accepted event is lost, and only what was under way is sent twice', async () => {
  await runChaos({
    name: 'one process',
    processes: 1,
    targets: [...Array(9).fill('PostgreSQL'), ...Array(4).fill('program'), ...Array(5).fill('program and PostgreSQL')],
    // With those of several processes 50.
    sigkillsMin: 22,
  });
}, 600_000);
