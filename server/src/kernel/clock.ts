/**
 * The only source of time in the program. Everything that decides by time takes a `Clock`, so that a test can
 * move it instead of waiting.
 */
export interface Clock {
  /** Wall time in milliseconds since the Unix epoch. */
  now(): number;
  /** Milliseconds on a scale that never goes backwards; only differences mean anything. */
  monotonicMs(): number;
  /** Calls `task` once after `delayMs`; the returned function cancels it. The timer does not keep the process alive. */
  after(delayMs: number, task: () => void): () => void;
}

export const systemClock: Clock = {
  now: Date.now,
  monotonicMs: () => performance.now(),
  after(delayMs, task) {
    // setTimeout holds its delay in 32 bits and fires at once beyond that.
    const timer = setTimeout(task, Math.min(delayMs, 2_147_483_647));
    timer.unref();
    return () => clearTimeout(timer);
  },
};
