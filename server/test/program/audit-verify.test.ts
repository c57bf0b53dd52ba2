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

test('the audit log of the embedded database is checked beside the running program, and without it', async () => {
  const options = { cwd: folder.path, env: ENV };
  const server = await startServer(options);
  const { status } = await server.call('POST', '/api/v1/tenants', { name: 'Acme', slug: 'acme' });
  expect(status).toBe(201);
  const beside = await runToEnd(['audit', 'verify'], options);
  expect(beside).toMatchObject({
    code: 0,
    output: expect.stringMatching(/^platform: 2 entries; the last is 2 with /m),
  });
  expect((await server.call('GET', '/health/ready')).status).toBe(200);
  await server.end('SIGTERM');
  expect(await runToEnd(['audit', 'verify'], options)).toMatchObject({ code: 0, output: beside.output });
}, 60_000);
