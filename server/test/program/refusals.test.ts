import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import path from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../../src/testing/database.ts';
import { type Receiver, startReceiver } from '../../src/testing/receiver.ts';
import { type Folder, makeFolder, queryDatabase } from './folder.ts';
import { runToEnd } from './program.ts';
import { ENV, type Server, startServer } from './server.ts';

// Some of them start the program several times.
vi.setConfig({ testTimeout: 60_000 });

let folder: Folder;
let database: TestDatabase;
let receiver: Receiver;
/** The one that is running already, and must not notice the others. */
let first: Server;

beforeAll(async () => {
  folder = makeFolder();
  database = await createTestDatabase();
  receiver = await startReceiver();
  first = await startServer({ cwd: folder.path });
  const webhook = { name: 'Witness', url: receiver.url, events: ['*'] };
  expect((await first.call('POST', '/api/v1/webhooks', webhook)).status).toBe(201);
});

afterAll(async () => {
  await folder?.remove();
  await receiver?.stop();
  await database?.drop();
});

/** Starts one that must refuse with 1 and one line; gives the line, without "posthorn: ". */
async function refusal(env: Record<string, string>, args = ['dev']): Promise<string> {
  const { code, output, errors } = await runToEnd(args, { cwd: folder.path, env });
  expect(errors).toMatch(/^posthorn: [^\n]+\n$/);
  expect(output).toBe('');
  expect(code).toBe(1);
  return errors.slice('posthorn: '.length, -1);
}

/** The first one still takes events and delivers them. */
async function expectUnharmed(server: Server): Promise<void> {
  const before = receiver.requests.length;
  const answer = await server.call('POST', '/api/v1/events', { event_type: 'order.paid', data: {} });
  expect(answer.status).toBe(202);
  const requests = await receiver.received(before + 1);
  expect(requests[before]?.headers['webhook-id']).toBe(answer.body.event_id);
  expect((await server.call('GET', '/health/ready')).status).toBe(200);
}

/** A port on which nothing listens any more. */
async function findClosedPort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

test('a data folder that another Posthorn uses is refused, with its process id', async () => {
  const line = await refusal(ENV);
  expect(line).toBe(`The data directory ${folder.dataDir} is in use by process ${first.pid}.`);
  expect(readFileSync(path.join(folder.dataDir, 'posthorn.pid'), 'utf8')).toBe(`${first.pid}\n`);
  await expectUnharmed(first);
});

test('a data folder in whose place a file stands is refused, and the file stays', async () => {
  const file = path.join(folder.path, 'file');
  writeFileSync(file, 'precious');
  const line = await refusal({ ...ENV, POSTHORN_DATA_DIR: 'file' });
  expect(line).toBe(`The data directory ${file} cannot be used: a file is in the way.`);
  expect(readFileSync(file, 'utf8')).toBe('precious');
});

test.runIf(process.geteuid?.() !== 0)('a data folder that may not be written is refused', async () => {
  const closed = path.join(folder.path, 'closed');
  mkdirSync(closed, { mode: 0o500 });
  const line = await refusal({ ...ENV, POSTHORN_DATA_DIR: closed });
  expect(line).toBe(`The data directory ${closed} cannot be used: permission denied.`);
  expect(readdirSync(closed)).toEqual([]);
});

test('a port that a running Posthorn has is refused, and the folder can be used at once with another', async () => {
  const port = new URL(first.url).port;
  const env = { ...ENV, POSTHORN_DATA_DIR: 'second', DATABASE_URL: database.connectionString };
  const line = await refusal({ ...env, POSTHORN_PORT: port });
  expect(line).toBe(`127.0.0.1:${port} is taken by another program: stop it, or set POSTHORN_PORT to a free port.`);
  await expectUnharmed(first);
  const second = await startServer({ cwd: folder.path, env });
  expect(await second.end('SIGTERM')).toEqual({ code: 0, signal: null });
});

test('a DATABASE_URL that cannot be used is refused with the reason, and without its password', async () => {
  const port = await findClosedPort();
  const env = { ...ENV, POSTHORN_DATA_DIR: 'unused' };
  const nothing = await refusal({ ...env, DATABASE_URL: `postgresql://user:hunter2@127.0.0.1:${port}/posthorn` });
  expect(nothing).toBe('DATABASE_URL cannot be used: nothing listens at its host and port.');

  const gone = await createTestDatabase();
  await gone.drop();
  const unknown = await refusal({ ...env, DATABASE_URL: gone.connectionString });
  expect(unknown).toBe('DATABASE_URL cannot be used: there is no database of that name.');
});

test.each([
  [{ POSTHORN_PROT: '80' }, 'POSTHORN_PROT is not a setting of Posthorn; the settings are '],
  [{ POSTHORN_PORT: '65536' }, 'POSTHORN_PORT must be a whole number from 0 to 65535; it is "65536".'],
  [{ POSTHORN_LOG_LEVEL: 'a\nb' }, 'POSTHORN_LOG_LEVEL must be one of '],
  [{ POSTHORN_ENCRYPTION_KEY: 'hunter2' }, 'POSTHORN_ENCRYPTION_KEY must be 32 bytes, as 64 hex digits or base64.'],
])(
  'a setting that is unknown or has a bad value is refused by name, before anything is made: %j',
  async (env, text) => {
    const line = await refusal({ POSTHORN_DATA_DIR: 'never-made', ...env });
    expect(line.startsWith(text)).toBe(true);
    expect(existsSync(path.join(folder.path, 'never-made'))).toBe(false);
  },
);

test('serve refuses to make an encryption key by itself', async () => {
  const line = await refusal({ ...ENV, POSTHORN_DATA_DIR: 'never-made' }, ['serve']);
  expect(line).toMatch(/^POSTHORN_ENCRYPTION_KEY is needed by `posthorn serve`: set it to the output of /);
  expect(existsSync(path.join(folder.path, 'never-made'))).toBe(false);
});

test('a database with a newer schema is refused and left as it is', async () => {
  const newer = await createTestDatabase();
  try {
    const insert = "INSERT INTO schema_migrations (version, name) VALUES (9999, '9999-future')";
    await queryDatabase(newer.connection, insert);
    const env = { ...ENV, POSTHORN_DATA_DIR: 'newer', DATABASE_URL: newer.connectionString };
    expect(await refusal(env)).toMatch(/^The database's schema is version 9999, newer than this program's \d+: /);
    const [left] = await queryDatabase<{ newest: number; nodes: string; tenants: string }>(
      newer.connection,
      `SELECT (SELECT max(version) FROM schema_migrations) AS newest, (SELECT count(*) FROM nodes) AS nodes,
              (SELECT count(*) FROM tenants) AS tenants`,
    );
    expect(left).toEqual({ newest: 9999, nodes: '0', tenants: '0' });
  } finally {
    await newer.drop();
  }
});

test('a wrong encryption key is refused, and the Posthorn with the right one goes on', async () => {
  const shared = await createTestDatabase();
  try {
    const hex = () => randomBytes(32).toString('hex');
    const env = { ...ENV, DATABASE_URL: shared.connectionString, POSTHORN_ENCRYPTION_KEY: hex() };
    const right = await startServer({ cwd: folder.path, env, mode: 'serve' });
    const line = await refusal({ ...env, POSTHORN_ENCRYPTION_KEY: hex() }, ['serve']);
    expect(line).toBe(
      'The encryption key is not the one that the secrets in this database were stored with: set POSTHORN_ENCRYPTION_KEY, or put encryption.key back into the data folder.',
    );
    expect((await right.call('GET', '/health/ready')).status).toBe(200);
    expect(await right.end('SIGTERM')).toEqual({ code: 0, signal: null });
  } finally {
    await shared.drop();
  }
});

test('a data folder that lost its encryption key is refused until the key is put back', async () => {
  await first.end('SIGTERM');
  const file = path.join(folder.dataDir, 'encryption.key');
  const kept = readFileSync(file);
  rmSync(file);
  expect(await refusal(ENV)).toMatch(/^The encryption key is not the one that /);
  expect(folder.postmasterPid()).toBeUndefined();
  writeFileSync(file, kept, { mode: 0o600 });
  first = await startServer({ cwd: folder.path });
  await expectUnharmed(first);
});
