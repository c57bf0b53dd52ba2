import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { readFileSync, statSync } from 'node:fs';
import { promisify } from 'node:util';
import { StartupError } from '../kernel/startup-error.ts';

/** The user who owns everything that PostgreSQL writes. */
export interface PostgresOwner {
  uid: number;
  gid: number;
}

/** Starts PostgreSQL's programs under a user that they accept. */
export interface Launcher {
  /** Undefined when it is this process's own user. */
  owner: PostgresOwner | undefined;
  /** Major version of the programs, e.g. 18. */
  majorVersion: number;
  /**
   * Starts a program in a session of its own, so that Ctrl-C in the terminal reaches Posthorn and not PostgreSQL,
   * which must outlive the draining. Standard output and error are pipes.
   */
  start(program: string, args: string[]): ChildProcess;
}

export interface LauncherOptions {
  /** Path of the `postgres` program. */
  postgres: string;
  dataDirectory: string;
  clusterDirectory: string;
}

/**
 * Chooses how to start PostgreSQL by trying: the first way that reaches both the program and the data directory wins.
 *
 * - PostgreSQL refuses to run as root. Started by root, it runs as the owner of an existing cluster, else as the user
 *   `postgres`, else as `nobody`.
 * - That user may be unable to pass a folder on the way (`/root` has mode 700). Then PostgreSQL gets the one capability
 *   that lets it read past that, and no more: `dac_read_search`.
 * - Where `setpriv` (util-linux) exists, the kernel is asked to stop PostgreSQL when Posthorn dies without a chance to
 *   do so itself, so that a killed Posthorn leaves no server behind.
 *
 * @throws StartupError when no way works; the message says why and what to do.
 */
export async function chooseLauncher(options: LauncherOptions): Promise<Launcher> {
  const asRoot = process.geteuid?.() === 0;
  const owner = asRoot ? unprivilegedOwner(options.clusterDirectory) : undefined;
  const problems = new Set<string>();
  for (const way of waysToLaunch(owner)) {
    const outcome = await tryWay(way, options);
    if (outcome.works) return { owner, majorVersion: outcome.majorVersion, start: startWith(way) };
    problems.add(outcome.problem);
  }
  const problem = [...problems].join('; ');
  throw new StartupError(
    owner === undefined
      ? `The embedded PostgreSQL cannot be run (${problem}): set DATABASE_URL to a PostgreSQL of your own.`
      : `PostgreSQL does not run as root, and uid ${owner.uid} cannot use ${options.postgres} in ${options.dataDirectory} (${problem}): ` +
          'start Posthorn as an ordinary user, set POSTHORN_DATA_DIR to a directory that every user can pass, or set DATABASE_URL.',
  );
}

/** A command line to put in front of the program's own, and the user to change to before it is run. */
interface Way {
  prefix: string[];
  owner: PostgresOwner | undefined;
}

function waysToLaunch(owner: PostgresOwner | undefined): Way[] {
  const plain: Way = { prefix: [], owner };
  if (process.platform !== 'linux') return [plain];
  // Fast shutdown (SIGINT), the same that stop() asks for.
  const stopWithParent = '--pdeathsig=INT';
  if (owner === undefined) return [{ prefix: ['setpriv', stopWithParent], owner: undefined }, plain];
  const become = ['setpriv', `--reuid=${owner.uid}`, `--regid=${owner.gid}`, '--clear-groups', stopWithParent];
  // The capability counts for access(2), with which PostgreSQL looks for its own files, only under this secure bit.
  const passFolders = [
    '--securebits=+no_setuid_fixup',
    '--inh-caps=+dac_read_search',
    '--ambient-caps=+dac_read_search',
  ];
  return [{ prefix: become, owner: undefined }, plain, { prefix: [...become, ...passFolders], owner: undefined }];
}

type Outcome = { works: true; majorVersion: number } | { works: false; problem: string };

/**
 * Enters the data directory and lets the server find its own files and print its version. The paths are arguments of
 * the script, no part of its text.
 */
const PROBE = 'cd -- "$1" && exec "$2" -C server_version -c config_file=/dev/null -D "$1"';

async function tryWay(way: Way, options: LauncherOptions): Promise<Outcome> {
  const command = [...way.prefix, '/bin/sh', '-c', PROBE, 'sh', options.dataDirectory, options.postgres];
  try {
    const [file, ...args] = command as [string, ...string[]];
    const { stdout } = await promisify(execFile)(file, args, { ...way.owner, cwd: '/', env: environment() });
    const majorVersion = Number.parseInt(stdout, 10);
    return majorVersion > 0 ? { works: true, majorVersion } : { works: false, problem: 'it does not say its version' };
  } catch (error) {
    const { stderr, message } = error as Error & { stderr?: string };
    return { works: false, problem: lastLine(stderr ?? '') || message };
  }
}

function startWith(way: Way): Launcher['start'] {
  return (program, args) => {
    const [file, ...rest] = [...way.prefix, program, ...args] as [string, ...string[]];
    return spawn(file, rest, {
      ...way.owner,
      // The current directory of this process may be closed to the other user.
      cwd: '/',
      env: environment(),
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  };
}

/** PostgreSQL gets none of Posthorn's variables: they hold secrets, and `PG…` ones would change what it does. */
function environment(): NodeJS.ProcessEnv {
  return { PATH: process.env.PATH, LC_ALL: 'C' };
}

function unprivilegedOwner(clusterDirectory: string): PostgresOwner {
  const cluster = statSync(clusterDirectory, { throwIfNoEntry: false });
  if (cluster !== undefined && cluster.uid !== 0) return { uid: cluster.uid, gid: cluster.gid };
  const users = readFileSync('/etc/passwd', 'utf8').split('\n');
  for (const name of ['postgres', 'nobody']) {
    const [, , uid, gid] = users.find((line) => line.startsWith(`${name}:`))?.split(':') ?? [];
    if (Number(uid) > 0) return { uid: Number(uid), gid: Number(gid) };
  }
  throw new StartupError(
    'PostgreSQL does not run as root, and this machine has neither a user "postgres" nor "nobody": start Posthorn as an ordinary user.',
  );
}

function lastLine(text: string): string {
  return text.trim().split('\n').at(-1) ?? '';
}
