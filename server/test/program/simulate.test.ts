import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Folder, makeFolder } from './folder.ts';
import { runToEnd } from './program.ts';
import { ENV, startServer } from './server.ts';

let folder: Folder;
beforeAll(() => {
  folder = makeFolder();
});
afterAll(async () => {
  await folder.stop();
  await folder.remove();
});

test('a simulation beside a running server goes on until it has published its events', async () => {
  const server = await startServer({ cwd: folder.path, env: ENV });
  const options = { cwd: folder.path, env: ENV };
  const limits = ['--events', '6', '--rate', '20', '--seed', '1'];
  const args = ['simulate', '--preset', 'isp-framework', '--url', server.url, ...limits];
  const ended = await runToEnd(args, options);
  expect(ended).toMatchObject({ code: 0, output: expect.stringContaining('Published 6 events') });
  expect((await server.call('GET', '/api/v1/events')).body.data).toHaveLength(6);
  await server.end('SIGTERM');
}, 60_000);
