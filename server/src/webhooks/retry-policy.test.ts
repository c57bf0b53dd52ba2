import { describe, expect, it } from 'vitest';
import { presets } from '../catalog/presets/presets.ts';
import { resolveRetryPolicy, showRetryPolicy } from './retry-policy.ts';

const preset = { max_attempts: 8, initial_delay_seconds: 5, max_delay_seconds: 36_000, schedule_seconds: [5, 300] };

describe('resolveRetryPolicy', () => {
  it('takes every field from the webhook, else from the preset, else from the defaults', () => {
    expect(resolveRetryPolicy({}, {})).toEqual({
      enabled: true,
      maxAttempts: 5,
      strategy: 'exponential',
      initialDelaySeconds: 1,
      maxDelaySeconds: 300,
      backoffMultiplier: 2,
      jitter: 0.1,
      retryOnStatusCodes: null,
      scheduleSeconds: null,
    });
    expect(resolveRetryPolicy({ max_attempts: 3, enabled: false, jitter: 0 }, preset)).toMatchObject({
      enabled: false,
      maxAttempts: 3,
      jitter: 0,
      initialDelaySeconds: 5,
      scheduleSeconds: [5, 300],
    });
  });

  it.each([
    { strategy: 'linear' } as const,
    { initial_delay_seconds: 0 },
    { max_delay_seconds: 60 },
    { backoff_multiplier: 3 },
  ])('drops the preset’s schedule when the webhook says %j', (own) => {
    expect(resolveRetryPolicy(own, preset).scheduleSeconds).toBeNull();
    expect(resolveRetryPolicy({ ...own, schedule_seconds: [9] }, preset).scheduleSeconds).toEqual([9]);
  });

  it('has as many attempts as its own schedule has delays, and the first, unless it says how many', () => {
    expect(resolveRetryPolicy({ schedule_seconds: [1, 2, 3] }, preset).maxAttempts).toBe(4);
    expect(resolveRetryPolicy({ schedule_seconds: [1, 2, 3], max_attempts: 10 }, preset).maxAttempts).toBe(10);
    expect(resolveRetryPolicy({}, preset).maxAttempts).toBe(8);
  });

  it('never has a bound below the first delay', () => {
    expect(resolveRetryPolicy({ initial_delay_seconds: 40_000 }, preset).maxDelaySeconds).toBe(40_000);
  });

  it('keeps what each preset says', () => {
    for (const { delivery } of presets.values()) {
      const shown = showRetryPolicy(resolveRetryPolicy({}, delivery.retry_policy));
      expect(shown).toMatchObject(delivery.retry_policy);
    }
  });
});
