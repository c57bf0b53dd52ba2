import type { RetryPolicy } from '../webhooks/retry-policy.ts';

/**
 * Milliseconds to wait after a failed attempt before the next one.
 *
 * - explicit schedule: the entry of this attempt; the last one repeats when there are fewer entries than retries
 * - exponential: initial × multiplier^(attempt − 1); linear: initial × attempt; both at most `maxDelaySeconds`
 *
 * `jitter` adds a random share of the delay, so that deliveries that failed together do not come back together.
 */
export function retryDelayMs(policy: RetryPolicy, failedAttempt: number, random: number): number {
  const seconds = baseDelaySeconds(policy, failedAttempt);
  return Math.round(seconds * 1000 * (1 + policy.jitter * random));
}

function baseDelaySeconds(policy: RetryPolicy, failedAttempt: number): number {
  const schedule = policy.scheduleSeconds;
  if (schedule !== null && schedule.length > 0) {
    return schedule[Math.min(failedAttempt, schedule.length) - 1] ?? 0;
  }
  const grown =
    policy.strategy === 'linear'
      ? policy.initialDelaySeconds * failedAttempt
      : policy.initialDelaySeconds * policy.backoffMultiplier ** (failedAttempt - 1);
  return Math.min(grown, policy.maxDelaySeconds);
}
