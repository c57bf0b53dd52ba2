import { Readable } from 'node:stream';
import type { Clock } from '../kernel/clock.ts';
import { systemClock } from '../kernel/clock.ts';
import type { Terminal } from './terminal.ts';

/** A terminal for tests: keeps what is written, and does what the test says. */
export interface ScriptedTerminal extends Terminal {
  /** Everything on standard output so far. */
  output(): string;
  /** Everything on standard error so far. */
  errors(): string;
  /** Resolves with the output as soon as it holds `text`. */
  waitFor(text: string): Promise<string>;
  sendSignal(signal: NodeJS.Signals): void;
  closeOutput(): void;
  /** Codes that `exit` was called with. */
  exits: number[];
}

export interface ScriptedTerminalOptions {
  env?: NodeJS.ProcessEnv;
  clock?: Clock;
  input?: string;
  inputIsTerminal?: boolean;
}

export function scriptedTerminal(options: ScriptedTerminalOptions = {}): ScriptedTerminal {
  let output = '';
  let errors = '';
  const listeners = new Set<(signal: NodeJS.Signals) => void>();
  const waiting = new Set<() => void>();
  const closed = new AbortController();
  const exits: number[] = [];
  const write = (text: string) => {
    output += text;
    for (const check of waiting) check();
  };
  return {
    env: options.env ?? {},
    clock: options.clock ?? systemClock,
    input: Object.assign(Readable.from(options.input === undefined ? [] : [Buffer.from(options.input)]), {
      isTTY: options.inputIsTerminal ?? false,
    }),
    isInteractive: false,
    outputClosed: closed.signal,
    width: () => 80,
    write,
    print: (text) => write(`${text}\n`),
    complain: (text) => {
      errors += `${text}\n`;
    },
    onSignal: (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    exit: (code) => exits.push(code),
    output: () => output,
    errors: () => errors,
    waitFor: (text) =>
      new Promise((resolve) => {
        const check = () => {
          if (!output.includes(text)) return;
          waiting.delete(check);
          resolve(output);
        };
        waiting.add(check);
        check();
      }),
    sendSignal: (signal) => {
      for (const listener of listeners) listener(signal);
    },
    closeOutput: () => closed.abort(),
    exits,
  };
}
