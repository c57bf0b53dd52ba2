import type { Program, ProgramFault, ProgramInput, RunResult } from '../program.ts';

/** What a thread of the sandbox is given when it starts. */
export interface ThreadData {
  /** MiniJinja with its memory capped: compiled once for all threads. */
  minijinja: WebAssembly.Module;
  /** The number of the job that is being run, 0 for none; the thread writes, and who watches over it reads. */
  running: Int32Array;
  /** It gives way to all else that the machine has to do. */
  givesWay: boolean;
}

/** One thing to do. `number` counts from 1 in each thread. */
export type Job =
  | { number: number; kind: 'run'; key: string; input: ProgramInput }
  | { number: number; kind: 'check'; program: Program };

/** To the thread. Programs are told before the first job that needs them, and forgotten when they are told to be. */
export interface Work {
  programs: Program[];
  forget: string[];
  jobs: Job[];
}

export type Done = {
  number: number;
  tookMs: number;
  /** It made the thread's memory grow by much, of which nothing is given back before the thread ends. */
  isWide: boolean;
} & ({ kind: 'run'; result: RunResult } | { kind: 'check'; fault: ProgramFault | undefined });

/** From the thread. */
export interface Report {
  done: Done[];
  /** Its memory is used up or broken: it is to be replaced. */
  spent: boolean;
}
