import { Option } from 'commander';
import type { RunningPosthorn } from '../app.ts';
import type { Config } from '../config.ts';
import type { Logger } from '../kernel/logger.ts';
import { PROCESSES_MAX } from '../settings.ts';
import { wholeNumber } from './number-option.ts';
import { awaitStop } from './stop-request.ts';
import type { Terminal } from './terminal.ts';

export interface ServerRun {
  config: Config;
  logger?: Logger;
  onReady(running: RunningPosthorn): void;
  /** A signal has come; requests under way are being finished. */
  onStopping?: () => void;
}

/**
 * Starts Posthorn and returns after a signal, when everything is stopped. A signal during the start counts too.
 *
 * @throws StartupError when it cannot start.
 */
export async function runServer(terminal: Terminal, run: ServerRun): Promise<void> {
  const stop = awaitStop(terminal, run.onStopping);
  // The clock's timers hold no process. Without its database nothing else would while it stops.
  const alive = setInterval(() => {}, 60_000);
  try {
    const start = run.config.processes === 1 ? startHere : startSeveral;
    const running = await start(run.config, run.logger === undefined ? {} : { logger: run.logger });
    if (!stop.signal.aborted) run.onReady(running);
    await stop.requested;
    await running.stop();
    // What still holds the process then is a connection to a database that does not answer: it cannot be closed.
    terminal.clock.after(LINGER_MS, () => terminal.exit(0));
  } finally {
    clearInterval(alive);
    stop.dispose();
  }
}

/** Time to write out what was printed last. */
const LINGER_MS = 1_000;

/** The program is loaded when it is needed, so that commands that only talk to a server start without it. */
async function startHere(config: Config, options: { logger?: Logger }): Promise<RunningPosthorn> {
  const { startPosthorn } = await import('../app.ts');
  return startPosthorn(config, options);
}

async function startSeveral(config: Config, options: { logger?: Logger }): Promise<RunningPosthorn> {
  const { startProcesses } = await import('../processes/supervisor.ts');
  return startProcesses(config, options);
}

/** `--processes`, which goes before POSTHORN_PROCESSES. */
export function processesOption(): Option {
  return new Option(
    '--processes <number>',
    'processes that share the work (default: POSTHORN_PROCESSES, else 1)',
  ).argParser(wholeNumber(1, PROCESSES_MAX));
}
