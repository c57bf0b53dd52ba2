import { readFileSync } from 'node:fs';
import { pidsOf } from './processes.ts';

/** Resident memory in megabytes (of 1,048,576 bytes). */
export interface Memory {
  /** RSS of all Node processes, the most that was seen: pages that they share are counted once for each. */
  nodeMb: number;
  /** PSS of all Node processes at the end: pages that they share are counted once in all. */
  nodeSharedOnceMb: number;
  nodeProcesses: number;
  /** PSS of all PostgreSQL processes at the end. */
  postgresMb: number;
}

export interface MemoryWatch {
  /** Undefined where the system does not tell (Linux only). */
  stop(): Memory | undefined;
}

const SAMPLE_MS = 250;
const RSS = { file: 'status', line: /^VmRSS:\s+(\d+) kB$/m };
/** The kernel walks through all pages for it, PostgreSQL's shared buffers too: not for every sample. */
const PSS = { file: 'smaps_rollup', line: /^Pss:\s+(\d+) kB$/m };

/** Looks at a process and all that it started, four times a second, until it is told to stop. */
export function watchMemory(pid: number): MemoryWatch {
  let nodeMb = 0;
  const look = () => {
    nodeMb = Math.max(nodeMb, megabytes(pidsOf(pid, 'node'), RSS));
  };
  look();
  const timer = setInterval(look, SAMPLE_MS);
  return {
    stop() {
      clearInterval(timer);
      look();
      if (nodeMb === 0) return undefined;
      const node = pidsOf(pid, 'node');
      return {
        nodeMb,
        nodeSharedOnceMb: megabytes(node, PSS),
        nodeProcesses: node.length,
        postgresMb: megabytes(pidsOf(pid, 'postgres'), PSS),
      };
    },
  };
}

/** proc(5). A process that has just ended has none. */
function megabytes(pids: readonly number[], { file, line }: typeof RSS): number {
  let kilobytes = 0;
  for (const pid of pids) {
    try {
      kilobytes += Number(line.exec(readFileSync(`/proc/${pid}/${file}`, 'latin1'))?.[1] ?? 0);
    } catch {
      // It ended since it was listed.
    }
  }
  return kilobytes / 1024;
}
