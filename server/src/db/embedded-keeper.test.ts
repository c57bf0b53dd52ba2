import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import path from 'node:path';
import pg from 'pg';
import { pino } from 'pino';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { type Clock, systemClock } from '../kernel/clock.ts';
import { eventually } from '../testing/eventually.ts';
import { makeTemporaryDirectory } from '../testing/temporary-directory.ts';
import { startEmbeddedPostgres } from './embedded.ts';
import { type DatabaseOutage, type KeptPostgres, keepEmbeddedPostgres } from './embedded-keeper.ts';

/** A finished cluster, made once and copied, because making one takes a second. */
let seed: string;
let directory: string;
let kept: KeptPostgres | undefined;
let outages: (DatabaseOutage | undefined)[];
let log: { level: number; msg: string; reason?: string }[];

beforeAll(async () => {
  seed = makeTemporaryDirectory();
  await (await startEmbeddedPostgres({ dataDirectory: seed, onLog: () => {} })).stop();
});
afterAll(() => rmSync(seed, { recursive: true }));

beforeEach(() => {
  directory = makeTemporaryDirectory();
  execFileSync('cp', ['-a', path.join(seed, 'postgres'), cluster()]);
  outages = [];
  log = [];
});
afterEach(async () => {
  await kept?.stop();
  kept = undefined;
  rmSync(directory, { recursive: true });
});

const cluster = () => path.join(directory, 'postgres');

const postmaster = () => Number.parseInt(readFileSync(path.join(cluster(), 'postmaster.pid'), 'utf8'), 10);

async function keep(dataDirectory = directory, clock: Clock = systemClock): Promise<KeptPostgres> {
  kept = await keepEmbeddedPostgres({
    dataDirectory,
    clock,
    logger: pino({ level: 'warn' }, { write: (line: string) => void log.push(JSON.parse(line)) }),
    onOutage: (outage) => outages.push(outage),
  });
  return kept;
}

async function query(sql: string): Promise<Record<string, unknown>[]> {
  const client = new pg.Client(kept?.connection);
  client.on('error', () => {});
  await client.connect();
  try {
    return (await client.query(sql)).rows;
  } finally {
    await client.end();
  }
}

const answers = () =>
  query('SELECT 1').then(
    () => true,
    () => false,
  );

test('a killed server runs again under the same address, with all that was committed, and says so once', async () => {
  const server = await keep();
  const { connection } = server;
  await query('CREATE TABLE kept AS SELECT 42 AS id');
  const first = postmaster();
  process.kill(first, 'SIGKILL');
  await eventually(answers, (answered) => answered && log.length === 2);
  expect(postmaster()).not.toBe(first);
  expect(server.connection).toEqual(connection);
  expect(await query('SELECT id FROM kept')).toEqual([{ id: 42 }]);
  expect(outages).toEqual(['restarting', undefined]);
  expect(server.outage()).toBeUndefined();
  expect(log.map(({ msg }) => msg)).toEqual([
    'the embedded PostgreSQL has ended; it is started again',
    'the embedded PostgreSQL runs again',
  ]);
});

test('a server that cannot start is tried again until it can, with a line each time, and never on an empty cluster', async () => {
  const server = await keep();
  await query('CREATE TABLE kept AS SELECT 42 AS id');
  const away = path.join(directory, 'away');
  renameSync(cluster(), away);
  process.kill(Number.parseInt(readFileSync(path.join(away, 'postmaster.pid'), 'utf8'), 10), 'SIGKILL');
  const failures = () => log.filter(({ msg }) => msg.includes('cannot be started'));
  await eventually(
    async () => failures().length,
    (count) => count >= 2,
  );
  expect(server.outage()).toBe('restarting');
  expect(failures()[0]?.reason).toBe(`${cluster()} is not there any more.`);
  expect(readdirSync(directory)).toEqual(['away']);

  renameSync(away, cluster());
  await eventually(answers, (answered) => answered && server.outage() === undefined);
  expect(await query('SELECT id FROM kept')).toEqual([{ id: 42 }]);
});

test('a full disk is forgotten when nothing was refused for a while, but not while the server is away', async () => {
  const forgetting = new Set<() => void>();
  const clock: Clock = {
    ...systemClock,
    after(delayMs, task) {
      if (delayMs !== 10_000) return systemClock.after(delayMs, task);
      forgetting.add(task);
      return () => forgetting.delete(task);
    },
  };
  const timePasses = () => {
    for (const task of forgetting) task();
  };
  const server = await keep(directory, clock);
  const fill = async () => {
    await query(`DO $$ BEGIN RAISE LOG 'could not extend file: No space left on device'; END $$`);
    await eventually(
      async () => server.outage(),
      (outage) => outage === 'storage_full',
    );
  };
  await fill();
  timePasses();
  expect(server.outage()).toBeUndefined();

  await fill();
  const away = path.join(directory, 'away');
  renameSync(cluster(), away);
  process.kill(Number.parseInt(readFileSync(path.join(away, 'postmaster.pid'), 'utf8'), 10), 'SIGKILL');
  await eventually(
    async () => log.filter(({ msg }) => msg.includes('cannot be started')).length,
    (count) => count >= 1,
  );
  timePasses();
  expect(server.outage()).toBe('storage_full');
  renameSync(away, cluster());
  await eventually(answers, (answered) => answered && server.outage() === undefined);
});

test('a stop ends a start that is under way, and one that is waited for', async () => {
  const starting = await keep();
  const first = postmaster();
  process.kill(first, 'SIGKILL');
  await eventually(
    async () => starting.outage(),
    (outage) => outage === 'restarting',
  );
  await starting.stop();
  expect(existsSync(path.join(cluster(), 'postmaster.pid')) && postmaster() !== first).toBe(false);

  const waiting = await keep();
  renameSync(cluster(), path.join(directory, 'away'));
  process.kill(Number.parseInt(readFileSync(path.join(directory, 'away/postmaster.pid'), 'utf8'), 10), 'SIGKILL');
  await eventually(
    async () => log.filter(({ msg }) => msg.includes('cannot be started')).length,
    (count) => count >= 1,
  );
  await waiting.stop();
  renameSync(path.join(directory, 'away'), cluster());
  expect(existsSync(path.join(cluster(), '.s.PGSQL.5432'))).toBe(true);
  expect(await answers()).toBe(false);
});

test('the server is in the same short directory after a restart when its own path is too long for a socket', async () => {
  const deep = path.join(directory, 'x'.repeat(100));
  execFileSync('mkdir', [deep]);
  execFileSync('mv', [cluster(), deep]);
  const server = await keep(deep);
  const { host } = server.connection;
  process.kill(Number.parseInt(readFileSync(path.join(deep, 'postgres/postmaster.pid'), 'utf8'), 10), 'SIGKILL');
  await eventually(answers, (answered) => answered && outages.length === 2);
  expect(server.connection.host).toBe(host);
  await server.stop();
  expect(existsSync(host)).toBe(false);
});
