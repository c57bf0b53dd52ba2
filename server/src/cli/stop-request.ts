import type { Terminal } from './terminal.ts';

/** Somebody's wish that a running command ends. */
export interface StopRequest {
  /** Aborted at the first request. */
  readonly signal: AbortSignal;
  /** Resolves at the first request. */
  readonly requested: Promise<void>;
  /** From here on signals have their usual effect again. */
  dispose(): void;
}

/**
 * Waits for SIGINT (Ctrl-C), SIGTERM or SIGHUP. A second one, when the first is taking too long, ends the process at
 * once with 130 (128 + SIGINT, the shell's convention).
 *
 * Standard output that nobody reads any more counts as the first one: `posthorn receive | head -5` ends by itself.
 *
 * One Ctrl-C may arrive several times: from the terminal, and again from npm and from `bin/posthorn.js`, which pass on
 * what they get. What follows within half a second counts as the same.
 */
export function awaitStop(terminal: Terminal, onRequest: () => void = () => {}): StopRequest {
  const controller = new AbortController();
  const requested = Promise.withResolvers<void>();
  let firstAtMs: number | undefined;
  const request = () => {
    if (firstAtMs !== undefined) return;
    firstAtMs = terminal.clock.monotonicMs();
    onRequest();
    controller.abort();
    requested.resolve();
  };
  const stopListening = terminal.onSignal(() => {
    if (firstAtMs !== undefined && terminal.clock.monotonicMs() - firstAtMs > SAME_REQUEST_MS) terminal.exit(130);
    request();
  });
  terminal.outputClosed.addEventListener('abort', request);
  if (terminal.outputClosed.aborted) request();
  return {
    signal: controller.signal,
    requested: requested.promise,
    dispose: () => {
      stopListening();
      terminal.outputClosed.removeEventListener('abort', request);
    },
  };
}

const SAME_REQUEST_MS = 500;
