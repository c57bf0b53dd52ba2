import type { RunningPosthorn } from '../app.ts';
import type { Config } from '../config.ts';
import type { Logger } from '../kernel/logger.ts';
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
    // Loaded here, so that commands that only talk to a server start without it.
    const { startPosthorn } = await import('../app.ts');
    const running = await startPosthorn(run.config, run.logger === undefined ? {} : { logger: run.logger });
    if (!stop.signal.aborted) run.onReady(running);
    await stop.requested;
    await running.stop();
  } finally {
    clearInterval(alive);
    stop.dispose();
  }
}
