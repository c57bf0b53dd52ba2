import { readdirSync, readFileSync } from 'node:fs';
import { cpus } from 'node:os';

/** Processor time used since the start of what was looked at, in milliseconds. */
export interface ProcessorTime {
  /** By the process and its descendants other than PostgreSQL. */
  nodeMs: number;
  /** By PostgreSQL processes among the descendants. */
  postgresMs: number;
}

/** USER_HZ, the unit of /proc/<pid>/stat; 100 on every Linux that Node supports. */
const TICK_MS = 10;

/**
 * Of a process and all that it started. Reads /proc, so it is undefined on other systems than Linux. Throughput on a
 * shared machine moves with what its neighbours do; processor time a delivery moves much less.
 */
export function processorTimeOf(pid: number): ProcessorTime | undefined {
  const processes = readProcesses();
  if (processes === undefined) return undefined;
  const time: ProcessorTime = { nodeMs: 0, postgresMs: 0 };
  for (const member of familyOf(pid, processes)) {
    if (member.name === 'postgres') time.postgresMs += member.ms;
    else time.nodeMs += member.ms;
  }
  return time;
}

/** A process and those that it started, and those that they started, oldest ancestor first, PostgreSQL's or the others. */
export function pidsOf(pid: number, which: 'node' | 'postgres'): number[] {
  return familyOf(pid, readProcesses() ?? [])
    .filter(({ name }) => (name === 'postgres') === (which === 'postgres'))
    .map((member) => member.pid);
}

/** Also true for one that has ended and whose parent has not asked for its exit code yet. */
export function isThere(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** Sends SIGKILL; a process that has ended by itself is no problem. */
export function killAll(pids: readonly number[]): void {
  for (const pid of pids) {
    try {
      process.kill(pid, 'SIGKILL');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
    }
  }
}

/**
 * Begins to watch what goes on beside the bench. The function it returns gives the share of the machine's processor time
 * since then that went to processes outside the bench, 0..1; undefined where the system does not tell.
 */
export function watchOtherLoad(): () => number | undefined {
  const before = { bench: processorTimeOf(process.pid), machine: machineTime() };
  return () => {
    const bench = difference(before.bench, processorTimeOf(process.pid));
    const machine = machineTime();
    const busyMs = machine.busyMs - before.machine.busyMs;
    const totalMs = machine.totalMs - before.machine.totalMs;
    return bench && Math.max(0, busyMs - bench.nodeMs - bench.postgresMs) / totalMs;
  };
}

/** Processor time used between two looks. */
export function difference(
  before: ProcessorTime | undefined,
  after: ProcessorTime | undefined,
): ProcessorTime | undefined {
  if (before === undefined || after === undefined) return undefined;
  return { nodeMs: after.nodeMs - before.nodeMs, postgresMs: after.postgresMs - before.postgresMs };
}

/** Milliseconds that all processors together were busy, and that they had, since the machine started. */
function machineTime(): { busyMs: number; totalMs: number } {
  let busyMs = 0;
  let idleMs = 0;
  for (const { times } of cpus()) {
    busyMs += times.user + times.nice + times.sys + times.irq;
    idleMs += times.idle;
  }
  return { busyMs, totalMs: busyMs + idleMs };
}

interface Process {
  pid: number;
  parent: number;
  name: string;
  ms: number;
}

function readProcesses(): Process[] | undefined {
  if (process.platform !== 'linux') return undefined;
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .map(Number)
    .map(readProcess)
    .filter((found) => found !== undefined);
}

/** proc(5). The name stands in parentheses and may hold any character, so the fields are counted from its end. */
function readProcess(pid: number): Process | undefined {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  } catch {
    // It ended since the directory was listed.
    return undefined;
  }
  const nameEnd = stat.lastIndexOf(')');
  const fields = stat.slice(nameEnd + 2).split(' ');
  // utime, stime, and those of children that ended and were waited for.
  const ticks = fields.slice(11, 15).reduce((sum, field) => sum + Number(field), 0);
  return {
    pid,
    parent: Number(fields[1]),
    name: stat.slice(stat.indexOf('(') + 1, nameEnd),
    ms: ticks * TICK_MS,
  };
}

function familyOf(pid: number, processes: Process[]): Process[] {
  const family = processes.filter((member) => member.pid === pid);
  for (const member of family) family.push(...processes.filter(({ parent }) => parent === member.pid));
  return family;
}
