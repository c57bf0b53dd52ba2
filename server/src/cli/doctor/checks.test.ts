import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { type AddressInfo, createServer as createTcpServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import pg from 'pg';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type Config, readConfig } from '../../config.ts';
import { createTestDatabase } from '../../testing/database.ts';
import { checkClock, checkDatabase, checkDataDirectory, checkDisk, checkNode, checkServer } from './checks.ts';

let folder: string;

/** The data folder is none that could be opened: the check has to leave it alone. */
function withDatabase(databaseUrl: string | undefined): Config {
  return { ...readConfig('dev', {}), dataDir: '/proc/nowhere', databaseUrl };
}

beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'posthorn-doctor-'));
});

afterEach(() => rmSync(folder, { recursive: true }));

test.each([
  ['26.0.0', 'ok'],
  ['30.1.2', 'ok'],
  ['20.20.2', 'failed'],
  ['9.0.0', 'failed'],
])('Node %s is %s', (version, result) => {
  expect(checkNode(version).result).toBe(result);
});

test('a data folder that is missing can be made; a file in its place cannot be used', async () => {
  expect(await checkDataDirectory(path.join(folder, 'a', 'b'))).toMatchObject({
    result: 'ok',
    text: `${path.join(folder, 'a', 'b')} will be made at the first start`,
  });
  writeFileSync(path.join(folder, 'file'), '');
  expect(await checkDataDirectory(path.join(folder, 'file'))).toMatchObject({ result: 'failed' });
  expect(await checkDataDirectory(path.join(folder, 'file', 'below'))).toMatchObject({ result: 'failed' });
});

test.runIf(process.geteuid?.() !== 0)('a data folder that cannot be written is a failure', async () => {
  const closed = path.join(folder, 'closed');
  mkdirSync(closed, { mode: 0o500 });
  expect(await checkDataDirectory(closed)).toMatchObject({ result: 'failed' });
});

test('a key that others can read is a failure, and one that they cannot is not', async () => {
  const file = path.join(folder, 'operator.key');
  writeFileSync(file, 'secret');
  chmodSync(file, 0o640);
  expect(await checkDataDirectory(folder)).toMatchObject({ result: 'failed', text: expect.stringContaining(file) });
  chmodSync(file, 0o600);
  expect(await checkDataDirectory(folder)).toMatchObject({ result: 'ok' });
});

test('the free space of a folder that is not there yet is that of where it would be', async () => {
  const below = await checkDisk(path.join(folder, 'not', 'yet'));
  expect(below.text).toMatch(/^\d+\.\d GB free/);
});

test('a database with the current schema passes, and its clock is read', async () => {
  const database = await createTestDatabase();
  try {
    const check = await checkDatabase(withDatabase(database.connectionString), false);
    expect(check.finding).toMatchObject({ result: 'ok' });
    expect(check.finding.text).toMatch(/^PostgreSQL .+, schema version (\d+) of \1$/);
    expect(Math.abs((check.timeMs ?? 0) - Date.now())).toBeLessThan(60_000);
  } finally {
    await database.drop();
  }
});

test('a database with a newer schema, and one without any, are told apart', async () => {
  const database = await createTestDatabase();
  const client = new pg.Client(database.connection);
  await client.connect();
  try {
    await client.query("INSERT INTO schema_migrations (version, name) VALUES (9999, 'future')");
    expect((await checkDatabase(withDatabase(database.connectionString), false)).finding).toMatchObject({
      result: 'failed',
      text: expect.stringContaining('its schema is version 9999, newer than'),
    });
    await client.query('DROP TABLE schema_migrations');
    expect((await checkDatabase(withDatabase(database.connectionString), false)).finding).toMatchObject({
      result: 'ok',
      text: expect.stringContaining('schema version 0 of'),
    });
  } finally {
    await client.end();
    await database.drop();
  }
});

test('a database that is not there is a failure that does not tell the password', async () => {
  const { finding } = await checkDatabase(withDatabase('postgresql://user:hunter2@127.0.0.1:1/x'), false);
  expect(finding.result).toBe('failed');
  expect(finding.text).toContain('nothing listens at its host and port');
  expect(finding.text).not.toContain('hunter2');
});

test('a database port on which something else hangs up is a failure', async () => {
  const server = createTcpServer((socket) => socket.destroy()).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const { port } = server.address() as AddressInfo;
  const { finding } = await checkDatabase(withDatabase(`postgresql://u@127.0.0.1:${port}/x`), false);
  expect(finding.result).toBe('failed');
  server.close();
});

test('without DATABASE_URL the embedded PostgreSQL has to be installed', async () => {
  expect((await checkDatabase(withDatabase(undefined), false)).finding).toMatchObject({
    result: 'ok',
    text: 'embedded PostgreSQL, installed',
  });
});

test('a server passes when it is ready, fails when it is not, and may be absent unless it was named', async () => {
  let status = 200;
  const server = createServer((_, response) => response.writeHead(status).end('{}')).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  expect(await checkServer(url, true)).toMatchObject({ answers: true, finding: { result: 'ok' } });
  status = 503;
  expect(await checkServer(url, false)).toMatchObject({
    answers: true,
    finding: { result: 'failed', text: `${url} is not ready (it answers 503)` },
  });
  server.close();
  server.closeAllConnections();
  expect(await checkServer(url, false)).toMatchObject({ answers: false, finding: { result: 'note' } });
  expect(await checkServer(url, true)).toMatchObject({ answers: false, finding: { result: 'failed' } });
  expect(await checkServer(undefined, false)).toMatchObject({ answers: false, finding: { result: 'note' } });
});

test('clocks may differ by a minute, not by more', () => {
  const now = Date.UTC(2026, 5, 1);
  expect(checkClock(now, {}).result).toBe('ok');
  expect(checkClock(now, { database: now + 59_000, server: now - 59_000 }).result).toBe('ok');
  expect(checkClock(now, { database: now + 90_000 })).toMatchObject({
    result: 'failed',
    text: expect.stringContaining("the database's clock is 90 s ahead"),
  });
  expect(checkClock(now, { server: now - 90_000 })).toMatchObject({
    result: 'failed',
    text: expect.stringContaining("the server's clock is 90 s behind"),
  });
  expect(checkClock(0, {}).result).toBe('failed');
});
