import { rm } from 'node:fs/promises';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { type RunningPosthorn, startPosthorn } from '../app.ts';
import { readConfig } from '../config.ts';
import { createTestDatabase, type TestDatabase } from '../testing/database.ts';
import { makeTemporaryDirectory } from '../testing/temporary-directory.ts';
import { createApiClient } from './api-client.ts';
import { resolveConnection } from './connection.ts';
import { runCli } from './program.ts';
import { registerReceiver } from './receive/registration.ts';
import { type ScriptedTerminal, scriptedTerminal } from './scripted-terminal.ts';

let database: TestDatabase;
let dataDir: string;
let posthorn: RunningPosthorn;
let env: NodeJS.ProcessEnv;

beforeAll(async () => {
  database = await createTestDatabase();
  dataDir = makeTemporaryDirectory();
  const config = { ...readConfig('dev', {}), dataDir, databaseUrl: database.connectionString, port: 0 };
  posthorn = await startPosthorn({ ...config, logLevel: 'silent' });
  // The key is read from the data folder.
  env = { POSTHORN_DATA_DIR: dataDir, POSTHORN_PORT: new URL(posthorn.url).port };
});

afterAll(async () => {
  await posthorn?.stop();
  await database?.drop();
  if (dataDir !== undefined) await rm(dataDir, { recursive: true, force: true });
});

interface Run {
  code: number;
  output: string;
  errors: string;
}

async function run(args: string[], input?: string): Promise<Run> {
  const terminal = scriptedTerminal({ env, ...(input !== undefined && { input }) });
  const code = await runCli(args, terminal);
  return { code, output: terminal.output(), errors: terminal.errors() };
}

async function api(method: string, path: string): Promise<{ data: { id: string; name: string; url: string }[] }> {
  const headers = { authorization: `Bearer ${posthorn.operatorKey}` };
  const response = await fetch(posthorn.url + path, { method, headers });
  return (await response.json()) as { data: { id: string; name: string; url: string }[] };
}

let receiver: ScriptedTerminal;

/** Runs `posthorn receive` while `work` runs, and then stops it. */
async function whileReceiving(args: string[], work: () => Promise<void>): Promise<void> {
  const finished = runCli(['receive', ...args], receiver);
  try {
    await receiver.waitFor('Registered at');
    await work();
  } finally {
    receiver.sendSignal('SIGINT');
    expect(await finished).toBe(0);
  }
}

beforeEach(() => {
  receiver = scriptedTerminal({ env });
});

test('an event published from the command line arrives at the local receiver, signed and as it was written', async () => {
  await whileReceiving([], async () => {
    const published = await run(['publish', 'example.greeting', '--data', '{"b":1.0,"a":12345678901234567890}']);
    expect(published.code).toBe(0);
    expect(published.output).toMatch(/^Published example\.greeting \S+: 1 delivery\.\n$/);
    const output = await receiver.waitFor('12345678901234567890');
    expect(output).toContain('example.greeting');
    expect(output).toContain('attempt 1  answered 200');
    expect(output).toContain('signature valid (Standard Webhooks)');
    expect(output).toContain('"b": 1.0,');
  });
  expect(receiver.output()).toContain('Received 1, 1 of them with valid signatures.');
});

test('the webhook of a local receiver is there while it runs, and gone afterwards', async () => {
  await whileReceiving(['--path', '/hooks', '--subscribe', 'a.*, b.c'], async () => {
    const [webhook] = (await api('GET', '/api/v1/webhooks')).data;
    expect(webhook).toMatchObject({ name: 'Local receiver', events: ['a.*', 'b.c'] });
    expect(webhook?.url).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/hooks$/);
  });
  expect((await api('GET', '/api/v1/webhooks')).data).toEqual([]);
});

test('what a killed receiver left registered does not make events arrive twice', async () => {
  const client = createApiClient(resolveConnection({}, env));
  const webhook = { url: 'http://127.0.0.1:4713/', events: ['*'], secret: 'a secret of the test' };
  const elsewhere = await registerReceiver(client, { ...webhook, url: 'http://127.0.0.1:4714/' });
  const left = await registerReceiver(client, webhook);
  const next = await registerReceiver(client, webhook);
  const ids = (await api('GET', '/api/v1/webhooks')).data.map((each) => each.id);
  expect(ids.sort()).toEqual([elsewhere.webhookId, next.webhookId].sort());
  await expect(left.remove()).rejects.toThrow('404');
  await next.remove();
  await elsewhere.remove();
});

test('a webhook that somebody else removed meanwhile is told at the end, and is no failure', async () => {
  let id = '';
  await whileReceiving([], async () => {
    id = (await api('GET', '/api/v1/webhooks')).data[0]?.id ?? '';
    await createApiClient(resolveConnection({}, env)).callRaw({ method: 'DELETE', path: `/api/v1/webhooks/${id}` });
  });
  expect(receiver.errors()).toContain(`The webhook ${id} could not be removed. No such webhook.`);
});

test('a registration that the server refuses is told, and the receiver listens all the same', async () => {
  const finished = runCli(['receive', '--subscribe', 'not a name'], receiver);
  await receiver.waitFor('Listening on');
  await expect.poll(() => receiver.errors()).toMatch(/^Not registered as a webhook, only listening\. .+422/);
  receiver.sendSignal('SIGTERM');
  expect(await finished).toBe(0);
});

test('publish reads standard input, and the same event id is not sent again', async () => {
  const first = await run(['publish', 'a.b', '--event-id', 'order-1'], '{"n":1}');
  expect(first.output).toBe('Published a.b order-1. No webhook is subscribed to it.\n');
  const second = await run(['publish', 'a.b', '--event-id', 'order-1'], '{"n":1}');
  expect(second.output).toBe('a.b order-1 was published before; nothing was sent again.\n');
});

test('trigger publishes the sample of a type of the catalogue', async () => {
  await api('POST', '/api/v1/event-types/presets/whatsapp-crm');
  await whileReceiving(['--subscribe', 'message.new'], async () => {
    const triggered = await run(['trigger', 'message.new']);
    expect(triggered.output).toMatch(/^Published message\.new \S+: 1 delivery\.\n$/);
    const output = await receiver.waitFor('"contact"');
    expect(output).toContain('signature valid (Standard Webhooks)');
    expect(output).toContain('signature valid (X-Webhook-Signature, HMAC-SHA256 as hex)');
  });
});

test('trigger says so when there is no such type', async () => {
  const { code, errors } = await run(['trigger', 'no.such.type']);
  expect(code).toBe(1);
  expect(errors).toMatch(/^posthorn: No such event type\. \(404 not_found\)\n$/);
});

test('a key is made, works, is listed, and after it was revoked works no more', async () => {
  const made = await run(['key', 'create', '--name', 'billing\u001b[31m', '--role', 'publisher']);
  expect(made.code).toBe(1);
  const created = await run(['key', 'create', '--name', 'billing', '--role', 'publisher', '--environment', 'staging']);
  expect(created.code).toBe(0);
  const key = created.output.trim();
  expect(key).toMatch(/^ph_\S+$/);
  const id = /key_\w+/.exec(created.errors)?.[0] ?? '';

  expect((await run(['publish', 'a.b', '--data', '1', '--key', key])).code).toBe(0);
  const listed = await run(['key', 'list']);
  expect(listed.output).toMatch(new RegExp(`^${id} +staging +publisher +${key.slice(0, 8)}\\S*\\.\\.\\.`, 'm'));
  expect(listed.output).not.toContain(key);
  const refused = await run(['key', 'list', '--key', key]);
  expect(refused.errors).toMatch(/^posthorn: .+403/);

  expect((await run(['key', 'revoke', id])).output).toBe(`Revoked ${id}.\n`);
  const after = await run(['publish', 'a.b', '--data', '1', '--key', key]);
  expect(after.code).toBe(1);
  expect(after.errors).toContain('The key came from --key.');
  expect((await run(['key', 'list'])).output).toMatch(new RegExp(`^${id} .*revoked`, 'm'));
});

test('key operator prints the key that the server takes', async () => {
  expect((await run(['key', 'operator'])).output).toBe(`${posthorn.operatorKey}\n`);
});

test('a tenant that does not exist is not found', async () => {
  const { code, errors } = await run(['publish', 'a.b', '--data', '1', '--tenant', 'nobody']);
  expect(code).toBe(1);
  expect(errors).toMatch(/404/);
});

test('doctor finds the running server ready', async () => {
  const { code, output } = await run(['doctor', '--url', posthorn.url]);
  expect(output).toMatch(/^ok +server +ready at http/m);
  expect(output).not.toMatch(/^failed/m);
  expect(code).toBe(0);
});
