import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { type Folder, makeFolder } from './folder.ts';
import { ENV, type Server, startServer } from './server.ts';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

let folder: Folder;
beforeEach(() => {
  folder = makeFolder();
});
afterEach(() => folder.remove());

const LIMIT = 100;

/** Publishes as fast as it goes, on connections of their own, so that processes take turns. */
async function flood(server: Server, ms: number): Promise<{ accepted: number; refused: number; seconds: number }> {
  const counts = { accepted: 0, refused: 0 };
  const startMs = performance.now();
  const publishing = Array.from({ length: 8 }, async () => {
    while (performance.now() - startMs < ms) {
      const event = { event_type: 'order.paid', data: {} };
      const { status } = await server.call('POST', '/api/v1/events', event, { connection: 'close' });
      if (status === 202) counts.accepted += 1;
      else if (status === 429) counts.refused += 1;
      else throw new Error(`An answer of ${status} came.`);
    }
  });
  await Promise.all(publishing);
  return { ...counts, seconds: (performance.now() - startMs) / 1_000 };
}

test.for([
  ['one process keeps a limit in memory', '1', false],
  ['two processes keep a limit together', '2', true],
] as const)('%s, and what is within it is let through', async ([, processes, hasRows]) => {
  const env = { ...ENV, POSTHORN_PROCESSES: processes, POSTHORN_TENANT_EVENTS_PER_SECOND: String(LIMIT) };
  const server = await startServer({ cwd: folder.path, env });
  const { accepted, refused, seconds } = await flood(server, 3_000);
  expect(refused).toBeGreaterThan(0);
  expect(accepted).toBeLessThanOrEqual(LIMIT * (seconds + 1));
  expect(accepted).toBeGreaterThan(0.85 * LIMIT * seconds);
  expect((await folder.query('SELECT subject FROM rate_limits')).length > 0).toBe(hasRows);
});
