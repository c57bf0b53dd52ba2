import { readFileSync } from 'node:fs';
import { pidsOf } from './processes.ts';

/** Resident memory in megabytes (of 1,048,576 bytes). */
export interface Memory {
  /** RSS of all Node processes, the most that was seen: pages that they share are counted once for each. */
  nodeMb: number;
  /** PSS of all PostgreSQL processes at the end: pages that they share are counted once in all. */
  postgresMb: number;
}

export interface MemoryWatch {
  /** Undefined where the system does not tell (Linux only). */
  stop(): Memory | undefined;
}

const SAMPLE_MS = 250;

/** Looks at a process and all that it started, four times a second, until it is told to stop. */
export function watchMemory(pid: number): MemoryWatch {
  let nodeMb = 0;
  const look = () => {
    const status = pidsOf(pid, 'node').map((of) => kilobytes(`/proc/${of}/status`, /^VmRSS:\s+(\d+) kB$/m));
    nodeMb = Math.max(nodeMb, sum(status) / 1024);
  };
  look();
  const timer = setInterval(look, SAMPLE_MS);
  return {
    stop() {
      clearInterval(timer);
      look();
      if (nodeMb === 0) return undefined;
      // Only once: the kernel walks through all of the shared buffers for it.
      const shares = pidsOf(pid, 'postgres').map((of) => kilobytes(`/proc/${of}/smaps_rollup`, /^Pss:\s+(\d+) kB$/m));
      return { nodeMb, postgresMb: sum(shares) / 1024 };
    },
  };
}

/** 0 for a process that has just ended. */
function kilobytes(file: string, line: RegExp): number {
  try {
    return Number(line.exec(readFileSync(file, 'latin1'))?.[1] ?? 0);
  } catch {
    return 0;
  }
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
