import type { ChildProcess } from 'node:child_process';
import { chown, lchown, mkdtemp, open, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { StartupError } from '../kernel/startup-error.ts';
import type { PostgresBinaries } from './embedded-binaries.ts';
import type { Launcher, PostgresOwner } from './embedded-launcher.ts';

export interface ClusterOptions {
  dataDirectory: string;
  /** `<dataDirectory>/postgres`; a path of its own because both sides of the program need the same. */
  clusterDirectory: string;
  binaries: PostgresBinaries;
  launcher: Launcher;
  /** false: a missing cluster is an error. One that was there a moment ago must not be replaced by an empty one. */
  mayCreate: boolean;
}

/** The role and the database that Posthorn uses. The role is the cluster's superuser. */
export const ROLE = 'posthorn';

/**
 * Makes sure that there is a finished cluster that this PostgreSQL can open. A new one is built beside its final place
 * and moved there when it is complete and on disk, so that a start that was cut short is simply done again. A cluster
 * that exists is never removed or rebuilt.
 *
 * @throws StartupError when there is none and none may be made, or the directory holds something else, another major version, or files of another user.
 */
export async function prepareCluster(options: ClusterOptions): Promise<void> {
  const { dataDirectory, clusterDirectory, launcher } = options;
  if (options.mayCreate) await removeUnfinished(dataDirectory);
  const found = await inspect(clusterDirectory);
  if (found === undefined) {
    if (options.mayCreate) return createCluster(options);
    throw new StartupError(`${clusterDirectory} is not there any more.`);
  }
  if (launcher.owner === undefined) {
    const self = process.geteuid?.();
    if (self !== undefined && found.uid !== self) {
      throw new StartupError(
        `${clusterDirectory} belongs to uid ${found.uid}, and Posthorn runs as uid ${self}: start it as that user or as root.`,
      );
    }
  } else if (found.uid !== launcher.owner.uid) {
    // Root's own copy, restored from a backup: PostgreSQL opens only files of its own user.
    await giveTree(clusterDirectory, launcher.owner);
  }
  const version = await readVersion(clusterDirectory);
  if (version !== String(launcher.majorVersion)) {
    throw new StartupError(
      `${clusterDirectory} was written by PostgreSQL ${version}, and this Posthorn brings PostgreSQL ${launcher.majorVersion}: ` +
        'start the Posthorn that wrote it, or move the data over with pg_dump.',
    );
  }
}

const UNFINISHED = 'postgres.partial-';

async function removeUnfinished(dataDirectory: string): Promise<void> {
  for (const name of await readdir(dataDirectory)) {
    // An initdb of a killed Posthorn may still be writing; it fails, and removal is tried again.
    if (name.startsWith(UNFINISHED)) {
      await rm(path.join(dataDirectory, name), { recursive: true, force: true, maxRetries: 5 });
    }
  }
}

/** Undefined when there is nothing yet. */
async function inspect(clusterDirectory: string): Promise<{ uid: number } | undefined> {
  try {
    const found = await stat(clusterDirectory);
    if (found.isDirectory()) return { uid: found.uid };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  throw notACluster(clusterDirectory);
}

async function readVersion(clusterDirectory: string): Promise<string> {
  try {
    return (await readFile(path.join(clusterDirectory, 'PG_VERSION'), 'utf8')).trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') throw notACluster(clusterDirectory);
    throw error;
  }
}

function notACluster(clusterDirectory: string): StartupError {
  return new StartupError(
    `${clusterDirectory} is in the way and is not a PostgreSQL data directory: move it away, or choose another POSTHORN_DATA_DIR.`,
  );
}

async function createCluster(options: ClusterOptions): Promise<void> {
  const { dataDirectory, clusterDirectory, binaries, launcher } = options;
  const unfinished = await mkdtemp(path.join(dataDirectory, UNFINISHED));
  try {
    if (launcher.owner !== undefined) await chown(unfinished, launcher.owner.uid, launcher.owner.gid);
    await runToEnd(launcher.start(binaries.initdb, initdbArguments(unfinished)));
    await rename(unfinished, clusterDirectory);
  } catch (cause) {
    await rm(unfinished, { recursive: true, force: true, maxRetries: 5 });
    throw new StartupError(`PostgreSQL could not set up ${clusterDirectory}: ${(cause as Error).message}`, { cause });
  }
  await syncDirectory(dataDirectory);
}

function initdbArguments(directory: string): string[] {
  return [
    `--pgdata=${directory}`,
    `--username=${ROLE}`,
    '--encoding=UTF8',
    // Text sorts by code point on every machine: an index never depends on a C library's version.
    '--locale=C',
    '--locale-provider=builtin',
    '--builtin-locale=C.UTF-8',
    '--data-checksums',
    // The socket is in a directory that only its owner can enter, who could read the files anyway.
    '--auth-local=trust',
    '--auth-host=reject',
    '--no-instructions',
  ];
}

async function runToEnd(child: ChildProcess): Promise<void> {
  const ended = new Promise<number | NodeJS.Signals | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => resolve(code ?? signal));
  });
  const [outcome, errors] = await Promise.all([
    ended,
    child.stderr === null ? '' : text(child.stderr),
    child.stdout?.resume(),
  ]);
  if (outcome === 0) return;
  const reason = errors.split('\n').find((line) => /error|FATAL/.test(line));
  throw new Error(reason ?? `initdb ended with ${outcome}`);
}

async function giveTree(directory: string, owner: PostgresOwner): Promise<void> {
  await lchown(directory, owner.uid, owner.gid);
  for (const entry of await readdir(directory, { recursive: true, withFileTypes: true })) {
    await lchown(path.join(entry.parentPath, entry.name), owner.uid, owner.gid);
  }
}

/** A rename is on disk only when its directory is. */
async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
