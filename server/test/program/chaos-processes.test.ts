import { test } from 'vitest';
import { runChaos } from './chaos.ts';

test('several processes: whatever is killed how often, no accepted event is lost, and only what was under way is sent twice', async () => {
  await runChaos({
    name: 'two processes',
    processes: 2,
    targets: [
      ...Array(6).fill('worker'),
      ...Array(3).fill('two workers'),
      ...Array(5).fill('PostgreSQL'),
      ...Array(3).fill('worker and PostgreSQL'),
      ...Array(2).fill('program'),
      ...Array(3).fill('program and PostgreSQL'),
    ],
    // With those of one process 50.
    sigkillsMin: 28,
  });
}, 600_000);
