import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../../src/testing/database.ts';
import { eventually } from '../../src/testing/eventually.ts';
import { type Receiver, startReceiver } from '../../src/testing/receiver.ts';
import { type Folder, makeFolder } from './folder.ts';
import { BIN, runProgram, runToEnd } from './program.ts';
import { type Server, startServer } from './server.ts';

let folder: Folder;
let database: TestDatabase;
let receiver: Receiver;
let server: Server;
/** Of a person who works in the folder in which Posthorn was started: the key is found there. */
let env: Record<string, string>;
let operator: { authorization: string };

beforeAll(async () => {
  folder = makeFolder();
  database = await createTestDatabase();
  receiver = await startReceiver();
  server = await startServer({
    cwd: folder.path,
    env: { POSTHORN_PORT: '0', DATABASE_URL: database.connectionString },
  });
  env = { POSTHORN_PORT: new URL(server.url).port };
  const { output } = await command(['key', 'operator']);
  operator = { authorization: `Bearer ${output.trim()}` };
});

afterAll(async () => {
  await folder?.remove();
  await receiver?.stop();
  await database?.drop();
});

/** As `npx posthorn ...` does it. */
function command(args: string[], options: { input?: string; node?: string } = {}) {
  return runToEnd(args, { script: BIN, cwd: folder.path, env, ...options });
}

const api = (method: string, where: string, body?: unknown, headers: Record<string, string> = operator) =>
  server.call(method, where, body, headers);

/** A Node on the search path that is too old for Posthorn itself, such as a distribution's. */
function findOldNode(): string | undefined {
  for (const directory of (process.env.PATH ?? '').split(path.delimiter)) {
    const node = path.join(directory, 'node');
    if (directory.includes('node_modules') || !existsSync(node)) continue;
    const version = execFileSync(node, ['--version'], { encoding: 'utf8' });
    return Number.parseInt(version.slice(1), 10) < 26 ? node : undefined;
  }
  return undefined;
}

test('a key made on the command line publishes at once, is listed, and is refused as soon as it is revoked', async () => {
  const created = await command(['key', 'create', '--name', 'billing service', '--role', 'publisher']);
  expect(created.code).toBe(0);
  // Alone on standard output, so that a script can catch it.
  const key = created.output.trim();
  expect(created.output).toBe(`${key}\n`);
  const [, id = ''] = /^Made (key_\w+) \(publisher\)\. It is shown this once:\n$/.exec(created.errors) ?? [];

  const publish = () =>
    api('POST', '/api/v1/events', { event_type: 'order.paid', data: {} }, { authorization: `Bearer ${key}` });
  expect((await publish()).status).toBe(202);
  const listed = await command(['key', 'list']);
  const row = listed.output.split('\n').find((line) => line.startsWith(id));
  expect(row).toContain('billing service');
  expect(row).toContain('publisher');
  expect(listed.output).not.toContain(key);

  expect(await command(['key', 'revoke', id])).toEqual({ code: 0, output: `Revoked ${id}.\n`, errors: '' });
  expect((await publish()).status).toBe(401);
  const refused = await command(['publish', 'order.paid', '--key', key, '--data', '{}']);
  expect(refused).toMatchObject({ code: 1, output: '' });
  expect(refused.errors).toMatch(/^posthorn: .+\(401 \w+\)\n {2}The key came from --key\.\n$/);
});

test('publish takes the data from a pipe or an option, byte for byte, and one event id once', async () => {
  const webhook = await api('POST', '/api/v1/webhooks', {
    name: 'Raw',
    url: receiver.url,
    events: ['invoice.*'],
    envelope: 'raw',
  });
  expect(webhook.status).toBe(201);
  const data = '{"b":1.0,"a":12345678901234567890}';
  const piped = await command(['publish', 'invoice.paid', '--event-id', 'invoice-1'], { input: `${data}\n` });
  expect(piped).toEqual({ code: 0, output: 'Published invoice.paid invoice-1: 1 delivery.\n', errors: '' });
  const [request] = await receiver.received(1);
  expect(request?.body.toString()).toBe(data);

  const again = await command(['publish', 'invoice.paid', '--event-id', 'invoice-1', '--data', data]);
  expect(again.output).toBe('invoice.paid invoice-1 was published before; nothing was sent again.\n');
  expect((await api('GET', '/api/v1/events?event_type=invoice.paid')).body.data).toHaveLength(1);
  expect((await api('DELETE', `/api/v1/webhooks/${webhook.body.id}`)).status).toBe(204);
});

test('trigger publishes the sample of a type in the catalogue, and says what is missing for any other', async () => {
  expect((await api('POST', '/api/v1/event-types/presets/whatsapp-crm')).status).toBe(200);
  const triggered = await command(['trigger', 'message.new']);
  expect(triggered).toMatchObject({ code: 0, errors: '' });
  const [, eventId] =
    /^Published message\.new (evt_\w+)\. No webhook is subscribed to it\.\n$/.exec(triggered.output) ?? [];
  const [event, type] = [
    await api('GET', `/api/v1/events/${eventId}`),
    await api('GET', '/api/v1/webhooks/events/message.new'),
  ];
  expect(event.body.data).toEqual(type.body.sample);
  const unknown = await command(['trigger', 'message.nwe']);
  expect(unknown).toMatchObject({ code: 1, output: '' });
  expect(unknown.errors).toMatch(/^posthorn: .+\(404 \w+\)\n$/);
});

test('receive registers itself, shows what arrives with valid signatures, and is gone after Ctrl-C', async () => {
  const receiving = runProgram(['receive', '--subscribe', 'example.*'], { script: BIN, cwd: folder.path, env });
  const [, id] = await receiving.waitFor(/Registered at \S+ as (whk_\w+) for example\.\*/);
  const [webhook] = (await api('GET', '/api/v1/webhooks')).body.data;
  expect(webhook).toMatchObject({ id, events: ['example.*'], status: 'active' });

  const published = await command(['publish', 'example.greeting', '--data', '{"text":"Hello"}']);
  const [, eventId] = /^Published example\.greeting (evt_\w+): 1 delivery\.\n$/.exec(published.output) ?? [];
  await receiving.waitFor(/"text": "Hello"/);
  expect(receiving.output()).toContain(`example.greeting  ${eventId}  attempt 1  answered 200`);
  expect(receiving.output()).toContain('  signature valid (Standard Webhooks)');

  expect(await receiving.end('SIGINT')).toEqual({ code: 0, signal: null });
  expect(receiving.output()).toContain('\nReceived 1, 1 of them with valid signatures.\n');
  expect(receiving.errors()).toBe('');
  expect((await api('GET', '/api/v1/webhooks')).body.data).toEqual([]);
});

test('doctor finds nothing wrong beside a running Posthorn', async () => {
  const well = await command(['doctor']);
  expect(well).toMatchObject({ code: 0, errors: '' });
  const findings = well.output.trim().split('\n');
  expect(findings.map((line) => line.split(/ +/)[1])).toEqual([
    'node',
    'settings',
    'data',
    'disk',
    'database',
    'server',
    'clock',
  ]);
  expect(well.output).not.toMatch(/^failed/m);
  expect(well.output).toMatch(new RegExp(`^ok +server +ready at ${server.url}$`, 'm'));
});

const oldNode = findOldNode();

test.runIf(oldNode !== undefined)(
  'started by a Node that is too old, it runs on its own one, and passes on signals and exit codes',
  async () => {
    const doctor = await command(['doctor', '--url', 'http://127.0.0.1:1'], { node: oldNode });
    expect(doctor.output).toContain(`ok      node       ${process.versions.node}\n`);
    expect(doctor.output).toMatch(/^failed +server +No Posthorn answers at http:\/\/127\.0\.0\.1:1 /m);
    expect(doctor).toMatchObject({ code: 1, errors: 'posthorn: One check failed.\n' });

    const receiving = runProgram(['receive'], { script: BIN, cwd: folder.path, env, node: oldNode });
    await receiving.waitFor(/Registered at/);
    expect(await receiving.end('SIGTERM')).toEqual({ code: 0, signal: null });
    expect(receiving.output()).toContain('\nReceived 0, ');
    await eventually(
      async () => (await api('GET', '/api/v1/webhooks')).body.data,
      (webhooks) => webhooks.length === 0,
    );
  },
);
