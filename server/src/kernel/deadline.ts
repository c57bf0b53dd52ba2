import type { Clock } from './clock.ts';

/** Waits for work, but not beyond a time on the monotonic clock, in milliseconds; false: it has not ended by then. */
export async function endsBy(clock: Clock, atMs: number, work: Promise<unknown>): Promise<boolean> {
  const late = Promise.withResolvers<false>();
  const cancel = clock.after(Math.max(0, atMs - clock.monotonicMs()), () => late.resolve(false));
  try {
    return await Promise.race([work.then(() => true), late.promise]);
  } finally {
    cancel();
  }
}
