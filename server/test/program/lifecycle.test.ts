import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { createServer } from 'node:net';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../../src/testing/database.ts';
import { type Receiver, startReceiver } from '../../src/testing/receiver.ts';
import { type Folder, isAlive, makeFolder, queryDatabase } from './folder.ts';
import { type Server, startServer } from './server.ts';

const run = promisify(execFile);

const hasCurl = await run('curl', ['--version']).then(
  () => true,
  () => false,
);

/** The command that the program prints to paste: exactly its lines. */
function printedCommand(server: Server): string {
  const [command] = /curl -sS [\s\S]+?\n(?=\n|$)/.exec(server.output()) ?? [];
  return command ?? 'false';
}

/** Runs it as a person would, in the folder where the program was started. */
async function runPrinted(server: Server, folder: Folder): Promise<{ event_id: string; deliveries: number }> {
  const { stdout } = await run('sh', ['-c', printedCommand(server)], { cwd: folder.path });
  return JSON.parse(stdout);
}

/** Listening there fails as long as anybody else does. */
async function expectFree(url: string): Promise<void> {
  const server = createServer().listen(Number(new URL(url).port), '127.0.0.1');
  await once(server, 'listening');
  server.close();
  await once(server, 'close');
}

describe.each([
  // The name of the data folder must survive the shell that the printed command is pasted into.
  { where: 'the embedded PostgreSQL', embedded: true, dataName: '.posthorn' },
  { where: 'an external PostgreSQL', embedded: false, dataName: "it's kept $HERE" },
])('on $where', ({ embedded, dataName }) => {
  let folder: Folder;
  let database: TestDatabase;
  let receiver: Receiver;
  let env: Record<string, string>;
  let server: Server;
  let key: string;
  let eventId: string;

  const withKey = () => ({ authorization: `Bearer ${key}` });
  const get = (where: string) => server.call('GET', where, undefined, withKey());

  beforeAll(async () => {
    folder = makeFolder(dataName);
    receiver = await startReceiver();
    env = { POSTHORN_PORT: '0' };
    if (!embedded) {
      database = await createTestDatabase();
      // As an administrator hands it over: without a schema.
      await queryDatabase(database.connection, 'DROP SCHEMA public CASCADE; CREATE SCHEMA public');
      env = { ...env, DATABASE_URL: database.connectionString, POSTHORN_DATA_DIR: dataName };
    }
    server = await startServer({ cwd: folder.path, env });
  });

  afterAll(async () => {
    await folder?.remove();
    await receiver?.stop();
    await database?.drop();
  });

  test('the first start needs nothing, and shows the address, the operator key and what to do next', async () => {
    const [, shown] = /\n {2}Operator key {2}(\S+)\n/.exec(server.output()) ?? [];
    key = shown ?? '';
    expect(key).toMatch(/^pho_[\w-]{43}$/);
    const keyFile = path.join(folder.dataDir, 'operator.key');
    expect(readFileSync(keyFile, 'utf8').trim()).toBe(key);
    expect(statSync(keyFile).mode & 0o777).toBe(0o600);
    expect(statSync(path.join(folder.dataDir, 'encryption.key')).mode & 0o777).toBe(0o600);
    expect(server.url).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/);
    expect((await get('/api/v1/webhooks')).body.data).toEqual([]);
    expect((await server.call('GET', '/api/v1/webhooks')).status).toBe(401);
    expect(server.errors()).toBe('');
  });

  test('what probes, scrapers and readers ask for is there without a key', async () => {
    const open = (where: string) => fetch(server.url + where);
    for (const where of ['/health/live', '/health/ready']) expect((await open(where)).status).toBe(200);
    const metrics = await open('/metrics');
    expect(metrics.headers.get('content-type')).toContain('text/plain');
    expect(await metrics.text()).toContain('\nposthorn_events_accepted_total 0\n');
    const document = (await (await open('/openapi.json')).json()) as { openapi: string; paths: object };
    expect(document.openapi).toMatch(/^3\.1\./);
    expect(Object.keys(document.paths)).toContain('/api/v1/events');
    const docs = await open('/docs');
    expect(docs.status).toBe(200);
    expect(docs.headers.get('content-type')).toContain('text/html');
  });

  test.runIf(hasCurl)('the printed command, pasted as it is, publishes an event that the webhook gets', async () => {
    const webhook = { name: 'Local', url: receiver.url, events: ['example.*'] };
    expect((await server.call('POST', '/api/v1/webhooks', webhook, withKey())).status).toBe(201);
    const answer = await runPrinted(server, folder);
    expect(answer.deliveries).toBe(1);
    eventId = answer.event_id;
    const [request] = await receiver.received(1);
    expect(request?.headers['webhook-id']).toBe(eventId);
    expect(JSON.parse(request?.body.toString() ?? '')).toMatchObject({
      type: 'example.greeting',
      data: { text: 'Hello from Posthorn' },
    });
  });

  test('Ctrl-C ends it with 0, and leaves neither a process nor a port nor a lock', async () => {
    const postmaster = folder.postmasterPid();
    expect(postmaster !== undefined).toBe(embedded);
    expect(await server.end('SIGINT')).toEqual({ code: 0, signal: null });
    expect(server.output()).toMatch(/\nStopping: .+\nStopped\.\n$/);
    expect(server.errors()).toBe('');
    if (postmaster !== undefined) expect(isAlive(postmaster)).toBe(false);
    expect(folder.postmasterPid()).toBeUndefined();
    expect(existsSync(path.join(folder.dataDir, 'posthorn.pid'))).toBe(false);
    await expectFree(server.url);
  });

  test('the next start finds everything again, under the same key, which it does not show', async () => {
    server = await startServer({ cwd: folder.path, env });
    expect(server.output()).not.toContain(key);
    expect((await get('/health/ready')).status).toBe(200);
    if (hasCurl) {
      const found = await get(`/api/v1/events/${eventId}`);
      expect(found.body).toMatchObject({ id: eventId, data: { text: 'Hello from Posthorn' } });
      expect(found.body.deliveries).toMatchObject([{ status: 'delivered', attempt_count: 1 }]);
      // This start's command reads the key from its file, by a path that is right in this folder.
      const again = await runPrinted(server, folder);
      await receiver.received(2);
      expect(receiver.requests.map(({ headers }) => headers['webhook-id'])).toEqual([eventId, again.event_id]);
    }
  });

  test('a stop answers the request that is under way, and does not wait for a caller who keeps the connection', async () => {
    const before = receiver.requests.length;
    const webhook = { name: 'Slow', url: receiver.url, events: ['slow.*'] };
    const { id } = (await server.call('POST', '/api/v1/webhooks', webhook, withKey())).body;
    // It is answered when the receiver has answered.
    receiver.onRequest = () => {};
    const answer = server.call('POST', `/api/v1/webhooks/${id}/test`, {}, withKey());
    await receiver.received(before + 1);
    const ended = server.end('SIGTERM');
    await server.waitFor(/\nStopping: /);
    receiver.requests[before]?.respond(200);
    expect(await answer).toMatchObject({ status: 200, body: { response_status: 200 } });
    expect(await ended).toEqual({ code: 0, signal: null });
  });
});
