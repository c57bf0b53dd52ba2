import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, rmSync, type Stats, statSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Clock } from '../kernel/clock.ts';
import { StartupError } from '../kernel/startup-error.ts';

/**
 * Stops a PostgreSQL that still runs on this cluster because the Posthorn that started it was killed; two servers on
 * one cluster would destroy it. Returns when every process of it is gone.
 *
 * Process ids are reused: a process is touched only when it is a `postgres` that works in this very directory. When the
 * id that the cluster's `postmaster.pid` names belongs to any other process, the file is stale and is removed, because
 * PostgreSQL itself would take that process for a running server and refuse to start.
 */
export async function stopLeftOverServer(clusterDirectory: string, clock: Clock): Promise<void> {
  const recorded = recordedPid(clusterDirectory);
  let running = serverProcesses(clusterDirectory, recorded);
  // Fast shutdown, immediate shutdown (recovers from the log at the next start), and at last no mercy. Only the
  // postmaster takes part in a shutdown; processes that have lost theirs are told to end at once. One whose Posthorn was
  // killed while it recovered does not end by itself (18.4), and recovering takes no longer than a slow shutdown does.
  const steps = [
    { signal: 'SIGINT', orphans: 'SIGQUIT', graceMs: 5_000 },
    { signal: 'SIGQUIT', orphans: 'SIGKILL', graceMs: 10_000 },
    { signal: 'SIGKILL', orphans: 'SIGKILL', graceMs: 5_000 },
  ] as const;
  for (const step of steps) {
    if (running.length === 0) break;
    if (recorded !== undefined && running.includes(recorded)) signalProcess(recorded, step.signal);
    else for (const pid of running) signalProcess(pid, step.orphans);
    const deadline = clock.monotonicMs() + step.graceMs;
    while (running.length > 0 && clock.monotonicMs() < deadline) {
      await sleep(20);
      running = serverProcesses(clusterDirectory, recorded);
    }
  }
  if (running.length > 0) {
    throw new StartupError(
      `A PostgreSQL that an earlier Posthorn left running in ${clusterDirectory} cannot be stopped (process ${running.join(', ')}).`,
    );
  }
  if (recorded !== undefined && isStranger(recorded, clusterDirectory)) {
    rmSync(path.join(clusterDirectory, 'postmaster.pid'), { force: true });
  }
}

/** The first line of `postmaster.pid`, or undefined when there is no such file or no sane number in it. */
function recordedPid(clusterDirectory: string): number | undefined {
  try {
    const pid = Number.parseInt(readFileSync(path.join(clusterDirectory, 'postmaster.pid'), 'utf8'), 10);
    return pid > 1 ? pid : undefined;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/**
 * Ids of the PostgreSQL processes that work on this cluster: the postmaster and its children, or what is left of them.
 */
function serverProcesses(clusterDirectory: string, recorded: number | undefined): number[] {
  if (process.platform === 'linux') {
    const cluster = statSync(clusterDirectory);
    return processIds().filter((pid) => isServerProcess(pid, recorded, cluster, clusterDirectory));
  }
  // Without /proc only the postmaster can be recognised; orphans end by themselves when they next look for it.
  const command = recorded === undefined ? '' : commandOf(recorded);
  return recorded !== undefined && command.includes(`postgres -D ${clusterDirectory} `) ? [recorded] : [];
}

function processIds(): number[] {
  return readdirSync('/proc')
    .map(Number)
    .filter((pid) => Number.isInteger(pid) && pid !== process.pid);
}

function isServerProcess(pid: number, recorded: number | undefined, cluster: Stats, clusterDirectory: string): boolean {
  const words = commandOf(pid).split('\0');
  const name = words[0] ?? '';
  if (!isChild(name) && !(pid === recorded && isPostmaster(name))) return false;
  // In a container, root may not be allowed to look at another user's process: the command line has to do.
  return worksIn(pid, cluster) ?? (words[1] === '-D' && words[2] === clusterDirectory);
}

function isPostmaster(name: string): boolean {
  return path.basename(name) === 'postgres';
}

/** Children of a postmaster give themselves titles such as "postgres: posthorn: checkpointer". */
function isChild(name: string): boolean {
  return name.startsWith('postgres: ');
}

/** A living process that certainly has nothing to do with this cluster. In doubt it is not one. */
function isStranger(pid: number, clusterDirectory: string): boolean {
  const command = commandOf(pid);
  if (command === '') return false;
  if (!isChild(command) && !isPostmaster(command.split(/[\0 ]/)[0] ?? '')) return true;
  return worksIn(pid, statSync(clusterDirectory)) === false;
}

/**
 * Whether the process's current directory is the given one, which for PostgreSQL is the cluster; undefined when it
 * cannot be told.
 */
function worksIn(pid: number, directory: Stats): boolean | undefined {
  try {
    const working = statSync(`/proc/${pid}/cwd`);
    return working.ino === directory.ino && working.dev === directory.dev;
  } catch {
    return undefined;
  }
}

/**
 * The words of a process's command line, separated by NUL on Linux and by blanks elsewhere; empty when there is no
 * such process.
 */
function commandOf(pid: number): string {
  try {
    if (process.platform === 'linux') return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
    return execFileSync('ps', ['-p', String(pid), '-o', 'command='], { encoding: 'utf8' }).trim();
  } catch {
    return '';
  }
}

function signalProcess(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    // It ended meanwhile.
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}
