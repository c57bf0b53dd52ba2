import { test } from 'vitest';
import { runChaos } from './chaos.ts';

test('one process: whatever is killed how often, no accepted event is lost, and only what was under way is sent twice', async () => {
  await runChaos({
    name: 'one process',
    processes: 1,
    targets: [...Array(14).fill('PostgreSQL'), ...Array(2).fill('program'), ...Array(3).fill('program and PostgreSQL')],
  });
}, 600_000);
