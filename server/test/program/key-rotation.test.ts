import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { Webhook } from 'standardwebhooks';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../../src/testing/database.ts';
import { eventually } from '../../src/testing/eventually.ts';
import { type Receiver, startReceiver } from '../../src/testing/receiver.ts';
import { type Folder, makeFolder } from './folder.ts';
import { runProgram, runToEnd } from './program.ts';
import { ENV, OPERATOR_KEY, type Server, startServer } from './server.ts';

const newKey = () => randomBytes(32).toString('hex');

let folder: Folder;
let receiver: Receiver;
let database: TestDatabase;
beforeEach(async () => {
  folder = makeFolder();
  receiver = await startReceiver();
  database = await createTestDatabase();
});
afterEach(async () => {
  await folder.remove();
  await receiver.stop();
  await database.drop();
});

/** Publishes, makes webhooks, reads and rotates their secrets all the time; what was not answered as it should be. */
function load(server: Server) {
  const secrets = new Map<string, string>();
  const refused: string[] = [];
  let published = 0;
  let stopped = false;
  const expectStatus = (what: string, answer: { status: number; text: string }, status: number) => {
    if (answer.status !== status) refused.push(`${what}: ${answer.status} ${answer.text}`);
  };
  const makeWebhook = async (n: number) => {
    const answer = await server.call(
      'POST',
      '/api/v1/webhooks',
      {
        name: `w${n}`,
        url: `${receiver.url}/w${n}`,
        events: [n > 3 ? 'a.c' : 'a.b'],
        headers: { 'X-Token': `token-${n}` },
      },
      { 'idempotency-key': `w${n}` },
    );
    expectStatus('make', answer, 201);
    secrets.set(`/w${n}`, answer.body.secret);
    return answer.body.id as string;
  };
  const publisher = async () => {
    while (!stopped) {
      expectStatus(
        'publish',
        await server.call('POST', '/api/v1/events', { event_type: 'a.b', data: { n: published } }),
        202,
      );
      published += 1;
    }
  };
  const manager = async () => {
    for (let n = 1; !stopped; n += 1) {
      const id = await makeWebhook(n);
      const shown = await server.call('GET', `/api/v1/webhooks/${id}/secret`);
      expectStatus('secret', shown, 200);
      if (shown.body.secret !== secrets.get(`/w${n}`)) refused.push(`another secret for ${n}`);
      expectStatus('change', await server.call('PATCH', `/api/v1/webhooks/${id}`, { description: 'x' }), 200);
      // Only a few get the events: what is sent to a webhook that is just deleted is not the matter here.
      if (n > 3) expectStatus('delete', await server.call('DELETE', `/api/v1/webhooks/${id}`), 204);
      await pause(5);
    }
  };
  const working = Promise.all([publisher(), publisher(), manager()]);
  return {
    refused,
    secrets,
    published: () => published,
    stop: async () => {
      stopped = true;
      await working;
    },
  };
}

function badlySigned(secrets: Map<string, string>): string[] {
  return receiver.requests.flatMap(({ path: at, headers, body }) => {
    try {
      new Webhook(secrets.get(at) ?? '').verify(body.toString(), headers as Record<string, string>);
      return headers['x-token'] === `token-${at.slice(2)}` ? [] : [`${at}: ${headers['x-token']}`];
    } catch (error) {
      return [`${at}: ${error}`];
    }
  });
}

test('under load the data key and the master key are rotated, with the command killed in between: no request fails, and every delivery is signed', async () => {
  const [before, after] = [newKey(), newKey()];
  const env = {
    POSTHORN_PORT: '0',
    POSTHORN_OPERATOR_KEY: OPERATOR_KEY,
    POSTHORN_EGRESS_ALLOW: '127.0.0.1/32',
    DATABASE_URL: database.connectionString,
  };
  const start = (keys: Record<string, string>) =>
    startServer({ cwd: folder.path, mode: 'serve', env: { ...env, ...keys }, args: ['--processes', '2'] });
  await (await start({ POSTHORN_ENCRYPTION_KEY: before })).end('SIGTERM');
  const both = { POSTHORN_ENCRYPTION_KEY: after, POSTHORN_ENCRYPTION_KEY_PREVIOUS: before };
  const server = await start(both);
  for (const name of ['a.b', 'a.c']) {
    expect((await server.call('POST', '/api/v1/event-types', { name })).status).toBe(201);
  }
  const options = { cwd: folder.path, env: { ...env, ...both } };
  const work = load(server);
  const more = async () => {
    const now = work.published();
    await eventually(
      async () => work.published(),
      (published) => published > now + 20,
      60_000,
    );
  };
  const rotate = ['encryption', 'rotate', '--settle-seconds', '1'];
  await more();
  for (const line of ['Making', 'Sealing with', 'Sealed', 'Waiting for what', 'Removing']) {
    const command = runProgram(rotate, options);
    await Promise.race([
      eventually(
        async () => command.errors(),
        (errors) => errors.includes(line),
        60_000,
      ),
      command.ended,
    ]);
    await command.end('SIGKILL');
  }
  const rotated = await runToEnd(rotate, options);
  expect(rotated).toMatchObject({ code: 0, output: expect.stringMatching(/^Everything is sealed with data key \d+ /) });
  await more();
  const wrapped = await runToEnd(['encryption', 'rotate-master'], options);
  expect(wrapped).toMatchObject({
    code: 0,
    output: expect.stringMatching(/^\d keys are wrapped by the new master key/),
  });
  await more();
  // A data key that is made from here on is wrapped by the new master key.
  expect((await runToEnd(rotate, options)).code).toBe(0);
  await more();
  await work.stop();
  expect(work.refused.slice(0, 5)).toEqual([]);
  const deliveries = () => server.call('GET', '/api/v1/deliveries?status=pending&limit=1');
  await eventually(deliveries, ({ body }) => body.data.length === 0, 60_000);
  expect(receiver.requests.length).toBeGreaterThan(100);
  expect(badlySigned(work.secrets).slice(0, 5)).toEqual([]);
  expect(server.output()).not.toMatch(/"level":"error"/);
  await server.end('SIGTERM');

  const refused = await runToEnd(['serve'], { cwd: folder.path, env: { ...env, POSTHORN_ENCRYPTION_KEY: before } });
  expect([refused.code, refused.errors]).toEqual([
    1,
    expect.stringMatching(/^posthorn: The encryption key is not the one /),
  ]);
  const again = await start({ POSTHORN_ENCRYPTION_KEY: after });
  const status = await runToEnd(['encryption', 'status'], {
    cwd: folder.path,
    env: { ...env, POSTHORN_ENCRYPTION_KEY: after },
  });
  expect(status.output).toContain('Every stored secret is sealed with the current data key.');
  expect(JSON.stringify(status)).not.toContain(after);
  await again.end('SIGTERM');
}, 240_000);

test('the key in the data folder is replaced beside the running program, and without it', async () => {
  const options = { cwd: folder.path, env: ENV };
  const file = path.join(folder.dataDir, 'encryption.key');
  let server = await startServer(options);
  const made = await server.call('POST', '/api/v1/webhooks', { name: 'w', url: receiver.url, events: ['a.b'] });
  const secret = async () => (await server.call('GET', `/api/v1/webhooks/${made.body.id}/secret`)).body.secret;
  const first = readFileSync(file, 'utf8');
  expect(await runToEnd(['encryption', 'rotate-master'], options)).toMatchObject({ code: 0 });
  expect(readFileSync(file, 'utf8')).not.toBe(first);
  expect(await runToEnd(['encryption', 'rotate', '--settle-seconds', '0'], options)).toMatchObject({ code: 0 });
  expect(await secret()).toBe(made.body.secret);
  await server.end('SIGTERM');

  const second = readFileSync(file, 'utf8');
  expect(await runToEnd(['encryption', 'rotate-master'], options)).toMatchObject({ code: 0 });
  expect(readFileSync(file, 'utf8')).not.toBe(second);
  server = await startServer(options);
  expect(await secret()).toBe(made.body.secret);
  await server.end('SIGTERM');
}, 120_000);
