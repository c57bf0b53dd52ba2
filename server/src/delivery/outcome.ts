import type { RetryPolicy } from '../webhooks/retry-policy.ts';
import { retryDelayMs } from './retry-schedule.ts';
import type { Trigger } from './task.ts';

/** Why an attempt brought no 2xx answer. `response`: the receiver answered, with another status. */
export type ErrorClass = 'dns' | 'connect' | 'tls' | 'timeout' | 'reset' | 'blocked' | 'response' | 'internal';

/** What came of one request, before anything is decided. */
export type AttemptResult =
  | {
      kind: 'answered';
      status: number;
      /** Header name and value in turn, as received. */
      headers: string[];
      /** The first bytes of the body. */
      body: Buffer;
      /** The body went on beyond what was kept. */
      truncated: boolean;
    }
  | { kind: 'failed'; errorClass: Exclude<ErrorClass, 'response'>; message: string };

/** What an attempt means for its delivery. */
export type Outcome =
  | { status: 'delivered' }
  | { status: 'failed'; dueAtMs: number }
  | { status: 'dead'; reason: DeadReason; disableWebhook: boolean };

/**
 * - `attempts_used_up`: the retry policy allows no further attempt
 * - `status_not_retryable`: the policy names the statuses to retry on, and this one is not among them
 * - `gone`: the receiver answered 410, which also disables the webhook
 * - `test`: a test is never retried
 */
export type DeadReason = 'attempts_used_up' | 'status_not_retryable' | 'gone' | 'test';

export interface OutcomeInput {
  result: AttemptResult;
  policy: RetryPolicy;
  /** 1 for the first attempt. */
  attemptNumber: number;
  trigger: Trigger;
  nowMs: number;
  /** A number in [0, 1) for the jitter. */
  random: number;
}

/** A receiver may ask for patience, not for eternity: a longer `Retry-After` counts as this. */
export const RETRY_AFTER_MS_MAX = 24 * 3_600_000;

const GONE = 410;

/** Decides what becomes of a delivery after an attempt. */
export function decideOutcome(input: OutcomeInput): Outcome {
  const { result, policy, attemptNumber, trigger } = input;
  if (result.kind === 'answered' && result.status >= 200 && result.status < 300) return { status: 'delivered' };
  const gone = result.kind === 'answered' && result.status === GONE;
  if (trigger === 'test') return { status: 'dead', reason: 'test', disableWebhook: false };
  if (gone) return { status: 'dead', reason: 'gone', disableWebhook: true };
  if (!policy.enabled || attemptNumber >= policy.maxAttempts) {
    return { status: 'dead', reason: 'attempts_used_up', disableWebhook: false };
  }
  if (result.kind === 'answered' && policy.retryOnStatusCodes?.includes(result.status) === false) {
    return { status: 'dead', reason: 'status_not_retryable', disableWebhook: false };
  }
  const asked = result.kind === 'answered' ? retryAfterMs(result.headers, input.nowMs) : 0;
  return {
    status: 'failed',
    dueAtMs: Math.ceil(input.nowMs + Math.max(asked, retryDelayMs(policy, attemptNumber, input.random))),
  };
}

/** `Retry-After` (RFC 9110, section 10.2.3) in milliseconds from now: seconds or an HTTP date; 0 where absent or unreadable. */
export function retryAfterMs(headers: string[], nowMs: number): number {
  const value = headerValue(headers, 'retry-after')?.trim();
  if (value === undefined) return 0;
  const wait = /^\d+$/.test(value) ? Number(value) * 1000 : /GMT$/.test(value) ? Date.parse(value) - nowMs : Number.NaN;
  return Number.isNaN(wait) ? 0 : Math.min(Math.max(wait, 0), RETRY_AFTER_MS_MAX);
}

function headerValue(headers: string[], name: string): string | undefined {
  for (let at = 0; at < headers.length; at += 2) {
    if (headers[at]?.toLowerCase() === name) return headers[at + 1];
  }
  return undefined;
}
