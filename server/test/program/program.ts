import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

/** How a process ended: with a code of its own, or by a signal. */
export interface Ending {
  code: number | null;
  signal: NodeJS.Signals | null;
}

/** The real program, running as a child process. */
export interface Program {
  pid: number;
  /** Standard output so far. */
  output(): string;
  /** Standard error so far. */
  errors(): string;
  /** Resolves with what `pattern` found in standard output; fails with all of the output when the program ends first. */
  waitFor(pattern: RegExp): Promise<RegExpExecArray>;
  /** Resolves when the program has ended and its output is read. */
  ended: Promise<Ending>;
  /** Sends the signal and waits for the end. */
  end(signal: NodeJS.Signals): Promise<Ending>;
}

export interface ProgramOptions {
  /** Nothing of the test run's own environment but the search path reaches the program, and where compiled code is kept. */
  env?: Record<string, string>;
  cwd?: string;
  /** The file that starts it (`src/main.ts`). */
  script?: string;
  /** The Node that runs it (the one of the tests). */
  node?: string;
  input?: string;
}

/** Saves each start of the program half of its processor time. Removing it does no harm. */
const NODE_COMPILE_CACHE = path.join(tmpdir(), `posthorn-test-compiled-${process.geteuid?.() ?? ''}`);

const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url));

/** What `npx posthorn` starts. */
export const BIN = fileURLToPath(new URL('../../bin/posthorn.js', import.meta.url));

export function runProgram(args: readonly string[], options: ProgramOptions = {}): Program {
  const child = spawn(options.node ?? process.execPath, [options.script ?? MAIN, ...args], {
    cwd: options.cwd,
    env: { PATH: process.env.PATH, NODE_COMPILE_CACHE, ...options.env },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  RUNNING.add(child);
  const text = { output: '', errors: '' };
  const watchers = new Set<() => void>();
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    text.output += chunk;
    for (const watcher of watchers) watcher();
  });
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
    text.errors += chunk;
  });
  // A program that has ended reads no more.
  child.stdin.on('error', () => {});
  child.stdin.end(options.input);
  const ended = once(child, 'close').then(([code, signal]): Ending => {
    RUNNING.delete(child);
    return { code, signal };
  });
  return {
    pid: child.pid ?? 0,
    output: () => text.output,
    errors: () => text.errors,
    ended,
    end: (signal) => {
      child.kill(signal);
      return ended;
    },
    waitFor: (pattern) =>
      new Promise((resolve, reject) => {
        const look = () => {
          const found = pattern.exec(text.output);
          if (found === null) return;
          watchers.delete(look);
          resolve(found);
        };
        watchers.add(look);
        look();
        void ended.then(({ code, signal }) =>
          reject(new Error(`It ended (${code ?? signal}) without ${pattern}.\n${text.output}\n${text.errors}`)),
        );
      }),
  };
}

/** Runs a command to its end. */
export async function runToEnd(
  args: readonly string[],
  options: ProgramOptions = {},
): Promise<{ code: number | null; output: string; errors: string }> {
  const program = runProgram(args, options);
  const { code } = await program.ended;
  return { code, output: program.output(), errors: program.errors() };
}

const RUNNING = new Set<ReturnType<typeof spawn>>();

/** Kills what a failed test has left running. */
export async function killAllPrograms(): Promise<void> {
  const left = [...RUNNING];
  for (const child of left) child.kill('SIGKILL');
  await Promise.all(left.filter((child) => RUNNING.has(child)).map((child) => once(child, 'close')));
}
