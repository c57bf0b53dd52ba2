import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { RetryPolicy } from '../webhooks/retry-policy.ts';
import {
  AGAIN_MAX,
  type AttemptResult,
  decideOutcome,
  INTERNAL_ATTEMPTS_MAX,
  type OutcomeInput,
  RETRY_AFTER_MS_MAX,
  retryAfterMs,
} from './outcome.ts';

const NOW = Date.parse('2026-01-15T12:00:00.000Z');

const POLICY: RetryPolicy = {
  enabled: true,
  maxAttempts: 5,
  strategy: 'exponential',
  initialDelaySeconds: 1,
  maxDelaySeconds: 300,
  backoffMultiplier: 2,
  jitter: 0,
  retryOnStatusCodes: null,
  scheduleSeconds: null,
};

const answered = (status: number, headers: string[] = []): AttemptResult => ({
  kind: 'answered',
  status,
  headers,
  body: Buffer.alloc(0),
  truncated: false,
});
const failed: AttemptResult = { kind: 'failed', errorClass: 'connect', message: 'No connection.' };

const decide = (changes: Partial<OutcomeInput>) =>
  decideOutcome({
    result: failed,
    policy: POLICY,
    attemptNumber: 1,
    trigger: 'scheduled',
    probeAgainMs: undefined,
    again: false,
    hasFailover: false,
    nowMs: NOW,
    random: 0,
    ...changes,
  });

test('every 2xx answer delivers, whatever the policy', () => {
  for (const status of [200, 201, 204, 299]) {
    expect(decide({ result: answered(status), policy: { ...POLICY, enabled: false } })).toEqual({
      status: 'delivered',
    });
  }
});

test('redirects, client and server errors and failures wait for a retry while attempts are left', () => {
  for (const result of [answered(301), answered(304), answered(404), answered(500), failed]) {
    expect(decide({ result })).toEqual({ status: 'failed', dueAtMs: NOW + 1_000, failover: false });
  }
});

test('the last attempt that the policy allows ends dead', () => {
  expect(decide({ attemptNumber: 4 })).toMatchObject({ status: 'failed' });
  expect(decide({ attemptNumber: 5 })).toEqual({ status: 'dead', reason: 'attempts_used_up', disableWebhook: false });
});

test('no delivery has more attempts than are allowed to any', () => {
  expect(decide({ attemptNumber: 2, attemptsMax: 3 })).toMatchObject({ status: 'failed' });
  expect(decide({ attemptNumber: 3, attemptsMax: 3 })).toMatchObject({ status: 'dead', reason: 'attempts_used_up' });
  expect(decide({ attemptNumber: 5, attemptsMax: 50 })).toMatchObject({ status: 'dead' });
  expect(decide({ attemptNumber: 3, attemptsMax: 3, hasFailover: true })).toMatchObject({ failover: true });
});

test('a policy that is switched off allows one attempt', () => {
  expect(decide({ policy: { ...POLICY, enabled: false } })).toMatchObject({
    status: 'dead',
    reason: 'attempts_used_up',
  });
});

test('410 ends the delivery at once and disables the webhook', () => {
  expect(decide({ result: answered(410) })).toEqual({ status: 'dead', reason: 'gone', disableWebhook: true });
});

test('where the policy names statuses, others are not retried; failures without an answer are', () => {
  const policy = { ...POLICY, retryOnStatusCodes: [408, 429, 500, 502, 503, 504] };
  expect(decide({ policy, result: answered(503) })).toMatchObject({ status: 'failed' });
  expect(decide({ policy, result: answered(404) })).toMatchObject({ status: 'dead', reason: 'status_not_retryable' });
  expect(decide({ policy, result: failed })).toMatchObject({ status: 'failed' });
});

test('with a failover URL the used-up delivery gets one attempt there, and ends dead when that fails too', () => {
  const last = { attemptNumber: 5, hasFailover: true };
  expect(decide(last)).toEqual({ status: 'failed', dueAtMs: NOW, failover: true });
  expect(decide({ ...last, attemptNumber: 6, trigger: 'failover' })).toMatchObject({ reason: 'attempts_used_up' });
  expect(decide({ ...last, policy: { ...POLICY, enabled: false }, attemptNumber: 1 })).toMatchObject({
    failover: true,
  });
});

test('410 at the failover URL says nothing of the webhook', () => {
  expect(decide({ result: answered(410), trigger: 'failover' })).toMatchObject({ status: 'failed', failover: false });
});

test('a probe uses up nothing, unless the receiver refuses the delivery for good', () => {
  const probe = { probeAgainMs: 30_000, attemptNumber: 50 };
  expect(decide(probe)).toEqual({ status: 'failed', dueAtMs: NOW + 30_000, failover: false });
  expect(decide({ ...probe, result: answered(500) })).toMatchObject({ status: 'failed', dueAtMs: NOW + 30_000 });
  expect(decide({ ...probe, result: answered(200) })).toEqual({ status: 'delivered' });
  expect(decide({ ...probe, result: answered(410) })).toMatchObject({ reason: 'gone' });
  const policy = { ...POLICY, retryOnStatusCodes: [503] };
  expect(decide({ ...probe, policy, result: answered(400) })).toMatchObject({ reason: 'status_not_retryable' });
});

test.each([
  ['an internal fault', 'internal', 'internal_fault'],
  ['a fault of a template', 'template', 'template_fault'],
] as const)('%s has a cap of its own, whatever the failover URL', (_what, errorClass, reason) => {
  const fault: AttemptResult = { kind: 'failed', errorClass, message: 'Fault.' };
  for (const policy of [POLICY, { ...POLICY, maxAttempts: 50 }]) {
    const at = (attemptNumber: number) => decide({ result: fault, policy, attemptNumber, hasFailover: true });
    expect(at(1)).toMatchObject({ status: 'failed', failover: false });
    expect(at(INTERNAL_ATTEMPTS_MAX - 1)).toMatchObject({ status: 'failed', failover: false });
    expect(at(INTERNAL_ATTEMPTS_MAX)).toEqual({ status: 'dead', reason, disableWebhook: false });
  }
});

test('of a template the policy may allow fewer attempts, and of an internal fault it may not', () => {
  for (const [policy, most] of [
    [{ ...POLICY, enabled: false }, 1],
    [{ ...POLICY, maxAttempts: 2 }, 2],
  ] as const) {
    const after = (errorClass: 'template' | 'internal', attemptNumber: number) =>
      decide({ result: { kind: 'failed', errorClass, message: 'Fault.' }, policy, attemptNumber, hasFailover: true });
    expect(after('template', most)).toEqual({ status: 'dead', reason: 'template_fault', disableWebhook: false });
    for (let earlier = 1; earlier < most; earlier++) expect(after('template', earlier).status).toBe('failed');
    expect(after('internal', most).status).toBe('failed');
  }
});

test('a test is never retried and never disables the webhook', () => {
  for (const result of [failed, answered(500), answered(410)]) {
    expect(decide({ result, trigger: 'test' })).toEqual({ status: 'dead', reason: 'test', disableWebhook: false });
  }
});

test('the retry is never due before the schedule, nor before what Retry-After asks', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 4 }),
      fc.integer({ min: 0, max: 1000 }),
      fc.double({ min: 0, max: 0.999, noNaN: true }),
      (attemptNumber, seconds, random) => {
        const outcome = decide({
          attemptNumber,
          random,
          result: answered(503, ['Retry-After', String(seconds)]),
          policy: { ...POLICY, jitter: 0.5 },
        });
        if (outcome.status !== 'failed') throw new Error('expected a retry');
        const base = 1000 * 2 ** (attemptNumber - 1);
        expect(outcome.dueAtMs - NOW).toBeGreaterThanOrEqual(Math.max(base, seconds * 1000));
        expect(outcome.dueAtMs - NOW).toBeLessThanOrEqual(Math.max(base * 1.5 + 1, seconds * 1000));
      },
    ),
  );
});

describe('Retry-After', () => {
  test.each([
    ['120', 120_000],
    [' 0 ', 0],
    ['Thu, 15 Jan 2026 12:01:00 GMT', 60_000],
    ['Thu, 15 Jan 2026 11:00:00 GMT', 0],
    ['99999999999999999999', RETRY_AFTER_MS_MAX],
    ['Fri, 31 Dec 9999 23:59:59 GMT', RETRY_AFTER_MS_MAX],
    ['-5', 0],
    ['soon', 0],
    ['1e9', 0],
    ['2026', 2_026_000],
    ['', 0],
  ])('%j means %d ms', (value, expected) => {
    expect(retryAfterMs(['retry-after', value], NOW)).toBe(expected);
  });

  test('is found under any spelling of its name, and its absence means no wait', () => {
    expect(retryAfterMs(['X-Other', '9', 'RETRY-AFTER', '3'], NOW)).toBe(3_000);
    expect(retryAfterMs(['X-Other', '9'], NOW)).toBe(0);
  });
});

test('what is worth another form is tried at once beyond its policy, a few times', () => {
  const policy = { ...POLICY, maxAttempts: 1, retryOnStatusCodes: [500] };
  const at = (attemptNumber: number, changes = {}) =>
    decide({ result: answered(413), policy, attemptNumber, again: true, ...changes });
  const atOnce = { status: 'failed', dueAtMs: NOW, failover: false };
  expect(at(1)).toEqual(atOnce);
  expect(at(AGAIN_MAX)).toEqual(atOnce);
  expect(at(AGAIN_MAX + 1)).toMatchObject({ status: 'dead' });
  expect(at(1, { trigger: 'failover' })).toEqual({ ...atOnce, failover: true });
  expect(at(1, { trigger: 'test' })).toMatchObject({ status: 'dead', reason: 'test' });
  expect(at(1, { result: answered(410) })).toMatchObject({ reason: 'gone' });
  expect(at(1, { result: answered(200) })).toEqual({ status: 'delivered' });
});
