import fc from 'fast-check';
import { expect, test } from 'vitest';
import { presets } from '../catalog/presets/presets.ts';
import { resolveRetryPolicy } from '../webhooks/retry-policy.ts';
import { retryDelayMs } from './retry-schedule.ts';

const delays = (policy: ReturnType<typeof resolveRetryPolicy>) =>
  Array.from({ length: policy.maxAttempts - 1 }, (_, at) => retryDelayMs(policy, at + 1, 0) / 1000);

test('call-center.md: attempts after 1, 2, 4 and 8 seconds', () => {
  const preset = presets.get('call-center');
  expect(delays(resolveRetryPolicy({}, preset?.delivery.retry_policy ?? {}))).toEqual([1, 2, 4, 8]);
});

test('whatsapp-crm.md: three retries after 1, 2 and 4 seconds', () => {
  const preset = presets.get('whatsapp-crm');
  expect(delays(resolveRetryPolicy({}, preset?.delivery.retry_policy ?? {}))).toEqual([1, 2, 4]);
});

test('linear delays grow by the initial delay', () => {
  const policy = resolveRetryPolicy(
    { strategy: 'linear', initial_delay_seconds: 10, max_attempts: 5, max_delay_seconds: 35 },
    {},
  );
  expect(delays(policy)).toEqual([10, 20, 30, 35]);
});

test('an explicit schedule is kept to, and its last delay repeats', () => {
  const policy = resolveRetryPolicy({ schedule_seconds: [5, 300, 1800], max_attempts: 6 }, {});
  expect(delays(policy)).toEqual([5, 300, 1800, 1800, 1800]);
});

test('jitter adds at most its share and takes nothing away', () => {
  const policy = resolveRetryPolicy({ initial_delay_seconds: 100, max_delay_seconds: 100, jitter: 0.25 }, {});
  fc.assert(
    fc.property(fc.double({ min: 0, max: 0.9999, noNaN: true }), (random) => {
      const delay = retryDelayMs(policy, 3, random);
      expect(delay).toBeGreaterThanOrEqual(100_000);
      expect(delay).toBeLessThanOrEqual(125_000);
    }),
  );
});
