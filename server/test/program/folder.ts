import { readFileSync, statSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import path from 'node:path';
import pg from 'pg';
import { eventually } from '../../src/testing/eventually.ts';
import { makeTemporaryDirectory } from '../../src/testing/temporary-directory.ts';
import { killAllPrograms } from './program.ts';

/** A folder that programs are started in, and the data folder below it. */
export interface Folder {
  path: string;
  dataDir: string;
  /** Process id of the embedded PostgreSQL that runs there; undefined when none is recorded. */
  postmasterPid(): number | undefined;
  /** Rows of the embedded database, while it runs. */
  query<Row extends object>(sql: string): Promise<Row[]>;
  /** Locks rows of the embedded database: whoever changes one of them waits until the function is called. */
  lock(select: string): Promise<() => Promise<void>>;
  /** Kills what is left running there. */
  stop(): Promise<void>;
  /** Kills what is left running there, and removes it. */
  remove(): Promise<void>;
}

/** @param dataName the data folder's name, by default the one that Posthorn takes by default. */
export function makeFolder(dataName = '.posthorn'): Folder {
  const folder = makeTemporaryDirectory();
  const dataDir = path.join(folder, dataName);
  const cluster = path.join(dataDir, 'postgres');
  const connection = { host: cluster, user: 'posthorn', database: 'posthorn' };
  const postmasterPid = () => recordedPid(path.join(cluster, 'postmaster.pid'));
  const stop = async () => {
    await killAllPrograms();
    const pid = postmasterPid();
    if (pid !== undefined && worksIn(pid, cluster)) {
      process.kill(pid, 'SIGQUIT');
      await processEnd(pid);
    }
  };
  return {
    path: folder,
    dataDir,
    postmasterPid,
    query: (sql) => queryDatabase(connection, sql),
    lock: async (select) => {
      const client = new pg.Client(connection);
      client.on('error', () => {});
      await client.connect();
      await client.query('BEGIN');
      const { rowCount } = await client.query(`${select} FOR UPDATE`);
      if (rowCount === 0) throw new Error('There is nothing to lock.');
      // The database may have gone with its program.
      return () => client.end().catch(() => {});
    },
    stop,
    remove: async () => {
      await stop();
      // A PostgreSQL that is just shutting down still removes files of its own.
      await rm(folder, { recursive: true, force: true, maxRetries: 20 });
    },
  };
}

export async function queryDatabase<Row extends object>(connection: pg.ClientConfig, sql: string): Promise<Row[]> {
  const client = new pg.Client(connection);
  // A query under way fails with the same reason.
  client.on('error', () => {});
  await client.connect();
  try {
    return (await client.query<Row>(sql)).rows;
  } finally {
    await client.end();
  }
}

/** Whether a process with this id exists. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false;
    throw error;
  }
}

/** Ids of the processes that this one has started and that live. */
export function childrenOf(pid: number): number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')
    .split(' ')
    .map(Number)
    .filter((child) => child > 0);
}

/** Resolves when no process with this id exists any more. */
export async function processEnd(pid: number): Promise<void> {
  await eventually(
    async () => isAlive(pid),
    (alive) => !alive,
    60_000,
  );
}

function recordedPid(file: string): number | undefined {
  try {
    const pid = Number.parseInt(readFileSync(file, 'utf8'), 10);
    return pid > 1 ? pid : undefined;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** Process ids are reused: only a process that works in this very directory is the PostgreSQL of it. */
function worksIn(pid: number, directory: string): boolean {
  try {
    return statSync(`/proc/${pid}/cwd`).ino === statSync(directory).ino;
  } catch {
    return false;
  }
}
