import type { Readable } from 'node:stream';
import type { Clock } from '../kernel/clock.ts';
import { systemClock } from '../kernel/clock.ts';

/** What a command may use of the process it runs in. Tests give one of their own. */
export interface Terminal {
  readonly env: NodeJS.ProcessEnv;
  readonly clock: Clock;
  readonly input: Readable & { isTTY?: boolean };
  /** Whether standard output is a terminal that somebody looks at, and not a file or a pipe. */
  readonly isInteractive: boolean;
  /** Aborted when nobody reads standard output any more (`posthorn demo | head -3`). */
  readonly outputClosed: AbortSignal;
  /** Columns; 80 when unknown, as on a terminal that says 0. */
  width(): number;
  /** Standard output, without a line break of its own. */
  write(text: string): void;
  /** One or more whole lines to standard output. */
  print(text: string): void;
  /** One or more whole lines to standard error. */
  complain(text: string): void;
  /** Calls `listener` for each SIGINT, SIGTERM and SIGHUP until the returned function is called. */
  onSignal(listener: (signal: NodeJS.Signals) => void): () => void;
  /** Ends the process now, whatever is under way. */
  exit(code: number): void;
}

/** The terminal of this process. */
export function processTerminal(): Terminal {
  const { stdout, stderr } = process;
  const closed = new AbortController();
  // Without listeners a reader that went away would end the process in the middle of its work.
  stdout.on('error', () => closed.abort());
  stderr.on('error', () => {});
  return {
    env: process.env,
    clock: systemClock,
    get input() {
      // Touched only by the command that reads it: a pipe that is never written to would hold the process.
      return process.stdin;
    },
    isInteractive: stdout.isTTY === true,
    outputClosed: closed.signal,
    width: () => stdout.columns || 80,
    write: (text) => void stdout.write(text),
    print: (text) => void stdout.write(`${text}\n`),
    complain: (text) => void stderr.write(`${text}\n`),
    onSignal(listener) {
      for (const signal of STOP_SIGNALS) process.on(signal, listener);
      return () => {
        for (const signal of STOP_SIGNALS) process.removeListener(signal, listener);
      };
    },
    exit: (code) => process.exit(code),
  };
}

const STOP_SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
