import { test } from 'vitest';
import { runChaos } from './chaos.ts';

test('several processes: whatever is killed how often, no accepted event is lost, and only what was under way is sent twice', async () => {
  await runChaos({
    name: 'two processes',
    processes: 2,
    targets: [
      ...Array(8).fill('worker'),
      ...Array(3).fill('two workers'),
      ...Array(8).fill('PostgreSQL'),
      ...Array(3).fill('worker and PostgreSQL'),
      'program',
      'program and PostgreSQL',
    ],
  });
}, 600_000);
