/**
 * Whole microseconds on the machine's monotonic clock. All processes of one machine read the same clock (CLOCK_MONOTONIC,
 * mach_absolute_time, QueryPerformanceCounter), so a time written by the generator may be subtracted from one read in
 * the sink; wall clocks of two processes drift apart while the system corrects them.
 */
export function nowUs(): number {
  const [seconds, nanoseconds] = process.hrtime();
  return seconds * 1_000_000 + Math.floor(nanoseconds / 1000);
}
