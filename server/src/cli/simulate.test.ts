import { rm } from 'node:fs/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type RunningPosthorn, startPosthorn } from '../app.ts';
import { readConfig } from '../config.ts';
import { createTestDatabase, type TestDatabase } from '../testing/database.ts';
import { makeTemporaryDirectory } from '../testing/temporary-directory.ts';
import { runCli } from './program.ts';
import { scriptedTerminal } from './scripted-terminal.ts';

let database: TestDatabase;
let dataDir: string;
let posthorn: RunningPosthorn;
let env: NodeJS.ProcessEnv;
beforeAll(async () => {
  database = await createTestDatabase();
  dataDir = makeTemporaryDirectory();
  const config = { ...readConfig('dev', {}), dataDir, databaseUrl: database.connectionString, port: 0 };
  posthorn = await startPosthorn({ ...config, logLevel: 'silent' });
  env = { POSTHORN_DATA_DIR: dataDir, POSTHORN_PORT: new URL(posthorn.url).port };
});
afterAll(async () => {
  await posthorn?.stop();
  await database?.drop();
  if (dataDir !== undefined) await rm(dataDir, { recursive: true, force: true });
});

async function api(method: string, path: string, body?: object, headers: Record<string, string> = {}) {
  const response = await fetch(`${posthorn.url}/api/v1${path}`, {
    method,
    headers: { authorization: `Bearer ${posthorn.operatorKey}`, 'content-type': 'application/json', ...headers },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  });
  // biome-ignore lint/suspicious/noExplicitAny: answers are looked into freely
  return (await response.json()) as any;
}

/** Plays into a new tenant that enforces every schema, and gives what was printed and what is there. */
async function play(slug: string, preset: string, more: string[]) {
  await api('POST', '/tenants', { name: slug, slug });
  const as = { 'x-tenant-id': slug };
  await api('POST', `/event-types/presets/${preset}`, {}, as);
  for (const { name } of (await api('GET', '/event-types?limit=250', undefined, as)).data) {
    await api('PATCH', `/event-types/${name}`, { enforce_schema: true }, as);
  }
  const terminal = scriptedTerminal({ env });
  const code = await runCli(['simulate', '--preset', preset, '--rate', '500', '--tenant', slug, ...more], terminal);
  expect([code, terminal.errors()]).toEqual([0, '']);
  const events: { id: string; event_type: string; timestamp: string }[] = [];
  for (let cursor = ''; ; ) {
    const page = await api('GET', `/events?limit=250${cursor}`, undefined, as);
    events.push(...page.data);
    if (!page.has_more) break;
    cursor = `&cursor=${page.next_cursor}`;
  }
  const full = await Promise.all(events.map(({ id }) => api('GET', `/events/${id}`, undefined, as)));
  const texts = full.map(({ event_type, timestamp, data }) => JSON.stringify([timestamp, event_type, data]));
  return { output: terminal.output(), texts: texts.sort(), as };
}

test.each(['isp-framework', 'isp-communications', 'call-center', 'support-autoresponder', 'whatsapp-crm'])(
  '%s is played against a server that enforces every schema, the same for the same seed',
  async (preset) => {
    const options = ['--events', '60', '--seed', '5'];
    const first = await play(`${preset}-1`, preset, options);
    expect(first.texts).toHaveLength(60);
    expect(first.output).toContain(`(${preset}).`);
    expect(first.output).toMatch(/\nPublished 60 events of \d+ types in \d+\.\d s: \d+ \w+, until 20\d\d-/);
    expect(first.output).toContain('No webhook is subscribed to them.');
    const lines = first.output.split('\n').filter((line) => /^20\d\d-.*Z {2}\w+\.\w+/.test(line));
    expect(lines).toHaveLength(60);
    expect(lines).toEqual([...lines].sort((a, b) => (a.slice(0, 20) < b.slice(0, 20) ? -1 : 0)));
    const again = await play(`${preset}-2`, preset, [...options, '--quiet']);
    expect(again.texts).toEqual(first.texts);
    expect(again.output).not.toMatch(/^20\d\d-/m);
  },
  30_000,
);

test('Ctrl-C ends it with a summary, and every event that was counted is there', async () => {
  const terminal = scriptedTerminal({ env });
  const finished = runCli(['simulate', '--preset', 'whatsapp-crm', '--rate', '100'], terminal);
  await terminal.waitFor('message.delivered');
  terminal.sendSignal('SIGINT');
  expect(await finished).toBe(0);
  const published = Number(/Published (\d+) events/.exec(terminal.output())?.[1]);
  expect(published).toBeGreaterThan(2);
  expect((await api('GET', '/events?limit=250')).data).toHaveLength(published);
});

test('--seconds ends it, --no-install leaves the event types alone, and a key that may not is told so', async () => {
  await api('POST', '/tenants', { name: 'bare', slug: 'bare' });
  const args = ['simulate', '--preset', 'call-center', '--tenant', 'bare', '--rate', '50'];
  const refused = scriptedTerminal({ env });
  expect(await runCli([...args, '--no-install'], refused)).toBe(1);
  expect(refused.errors()).toContain('422 unknown_event_type');
  const installed = scriptedTerminal({ env });
  expect(await runCli([...args, '--seconds', '1', '--start', '2030-05-01T00:00:00Z'], installed)).toBe(0);
  expect(installed.output()).toContain('2030-05-01T08:');
  const { key } = await api('POST', '/api-keys', { name: 'p', role: 'publisher' });
  const publisher = scriptedTerminal({ env });
  expect(await runCli(['simulate', '--preset', 'call-center', '--key', key], publisher)).toBe(1);
  expect(publisher.errors()).toContain('403 forbidden');
});

test.each([
  [
    'a server that is not there',
    ['--url', 'http://127.0.0.1:1', '--key', 'x'],
    'No Posthorn answers at http://127.0.0.1:1',
  ],
  ['a wrong key', ['--key', 'nobodys-key'], '401 unauthorized'],
  ['a preset that is none', ['--preset', 'isp'], '--preset must be one of isp-framework, isp-communications'],
  ['a rate that is none', ['--rate', '0'], 'It must be a whole number from 1 to 500.'],
])('%s ends it with its reason, and nothing is published', async (_name, args, why) => {
  const before = (await api('GET', '/events?limit=250')).data.length;
  const terminal = scriptedTerminal({ env });
  expect(await runCli(['simulate', '--preset', 'call-center', ...args], terminal)).toBe(1);
  expect(terminal.errors()).toContain(why);
  expect(terminal.errors()).not.toMatch(/\n +at /);
  expect(terminal.output()).toBe('');
  expect((await api('GET', '/events?limit=250')).data).toHaveLength(before);
});
