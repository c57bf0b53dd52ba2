import type { Clock } from '../kernel/clock.ts';

/** Resolves after `delayMs`, or as soon as `signal` is aborted. */
export function pause(clock: Clock, delayMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted === true) {
      resolve();
      return;
    }
    // A clock's timers do not keep a process alive, and a command that pauses has something left to do.
    const hold = setInterval(() => {}, HOLD_MS);
    const end = () => {
      clearInterval(hold);
      cancel();
      signal?.removeEventListener('abort', end);
      resolve();
    };
    const cancel = clock.after(delayMs, end);
    signal?.addEventListener('abort', end);
  });
}

const HOLD_MS = 2 ** 30;
