import type { RetryPolicy } from '../webhooks/retry-policy.ts';
import { retryDelayMs } from './retry-schedule.ts';
import type { Trigger } from './task.ts';

/**
 * Why an attempt brought no 2xx answer. `response`: the receiver answered, with another status. `template`: the
 * webhook's template or transform failed. `internal`: a fault of ours.
 */
export const ERROR_CLASSES = [
  'dns',
  'connect',
  'tls',
  'timeout',
  'reset',
  'blocked',
  'response',
  'template',
  'internal',
] as const;
export type ErrorClass = (typeof ERROR_CLASSES)[number];

/** There was no request, so it says nothing of the receiver. */
export function isOwnFault(errorClass: ErrorClass | null): boolean {
  return errorClass === 'internal' || errorClass === 'template';
}

/** What came of one request, before anything is decided. */
export type AttemptResult =
  | {
      kind: 'answered';
      status: number;
      /** Header name and value in turn, as received. */
      headers: readonly string[];
      /** The first bytes of the body. */
      body: Buffer;
      /** The body went on beyond what was kept. */
      truncated: boolean;
    }
  /** `response`: not the receiver answered, but the URL where its access tokens come from. */
  | { kind: 'failed'; errorClass: ErrorClass; message: string };

/** There was no answer of the receiver. */
export type Failure = Extract<AttemptResult, { kind: 'failed' }>;

/** What an attempt means for its delivery. */
export type Outcome =
  | { status: 'delivered' }
  /** `failover`: the next attempt goes to the failover URL. */
  | { status: 'failed'; dueAtMs: number; failover: boolean }
  | { status: 'dead'; reason: DeadReason; disableWebhook: boolean };

/**
 * - `attempts_used_up`: the retry policy allows no further attempt
 * - `status_not_retryable`: the policy names the statuses to retry on, and this one is not among them
 * - `gone`: the receiver answered 410, which also disables the webhook
 * - `internal_fault`: no request could be made of it, again and again
 * - `template_fault`: the webhook's template or transform failed, again and again
 * - `unrecordable`: the database refuses what came of an attempt
 * - `test`: a test is never retried
 */
export const DEAD_REASONS = [
  'attempts_used_up',
  'status_not_retryable',
  'gone',
  'internal_fault',
  'template_fault',
  'unrecordable',
  'test',
] as const;
export type DeadReason = (typeof DEAD_REASONS)[number];

export interface OutcomeInput {
  result: AttemptResult;
  policy: RetryPolicy;
  /** Attempts that no delivery has more of, whatever its policy says; absent: as many as the policy says. */
  attemptsMax?: number | undefined;
  /** 1 for the first attempt. */
  attemptNumber: number;
  trigger: Trigger;
  /** It tried whether a webhook with an open circuit is back; this long until the next one may, in milliseconds. */
  probeAgainMs: number | undefined;
  /**
   * It is worth another try at once, in another form, whatever the policy says: with a new access token in place of one
   * that has ended early, or in a smaller batch.
   */
  again: boolean;
  /** The webhook has a failover URL. */
  hasFailover: boolean;
  nowMs: number;
  /** A number in [0, 1) for the jitter. */
  random: number;
}

/** A receiver may ask for patience, not for eternity: a longer `Retry-After` counts as this. */
export const RETRY_AFTER_MS_MAX = 24 * 3_600_000;

const GONE = 410;

/** Attempts at which a delivery is given up that no request can be made of, however many the webhook's policy allows. */
export const INTERNAL_ATTEMPTS_MAX = 5;

/** How many attempts beyond the policy's a delivery may have because another form is worth a try. */
export const AGAIN_MAX = 8;

/** Decides what becomes of a delivery after an attempt. */
export function decideOutcome(input: OutcomeInput): Outcome {
  const { result, policy, attemptNumber, trigger, nowMs } = input;
  if (result.kind === 'answered' && result.status >= 200 && result.status < 300) return { status: 'delivered' };
  if (trigger === 'test') return { status: 'dead', reason: 'test', disableWebhook: false };
  if (result.kind === 'failed' && isOwnFault(result.errorClass)) return afterOwnFault(input, result.errorClass);
  // At the failover URL, 410 says nothing of the webhook itself.
  if (result.kind === 'answered' && result.status === GONE && trigger !== 'failover') {
    return { status: 'dead', reason: 'gone', disableWebhook: true };
  }
  if (input.again && attemptNumber < policy.maxAttempts + AGAIN_MAX) {
    return { status: 'failed', dueAtMs: Math.ceil(nowMs), failover: trigger === 'failover' };
  }
  if (result.kind === 'answered' && policy.enabled && policy.retryOnStatusCodes?.includes(result.status) === false) {
    return { status: 'dead', reason: 'status_not_retryable', disableWebhook: false };
  }
  // What tries the receiver for all the others is not used up by it.
  if (input.probeAgainMs !== undefined) return waiting(nowMs + input.probeAgainMs);
  if (!policy.enabled || attemptNumber >= Math.min(policy.maxAttempts, input.attemptsMax ?? policy.maxAttempts)) {
    if (input.hasFailover && trigger !== 'failover') return { status: 'failed', dueAtMs: nowMs, failover: true };
    return { status: 'dead', reason: 'attempts_used_up', disableWebhook: false };
  }
  const asked = result.kind === 'answered' ? retryAfterMs(result.headers, nowMs) : 0;
  return waiting(nowMs + Math.max(asked, retryDelayMs(policy, attemptNumber, input.random)));
}

function waiting(dueAtMs: number): Outcome {
  return { status: 'failed', dueAtMs: Math.ceil(dueAtMs), failover: false };
}

/**
 * It is no fault of the receiver, so its failover URL has no say. Of what is the webhook's own, its template, the policy may
 * allow fewer attempts.
 */
function afterOwnFault({ policy, attemptNumber, nowMs, random }: OutcomeInput, errorClass: ErrorClass): Outcome {
  const allowed = policy.enabled ? policy.maxAttempts : 1;
  const most = errorClass === 'template' ? Math.min(allowed, INTERNAL_ATTEMPTS_MAX) : INTERNAL_ATTEMPTS_MAX;
  if (attemptNumber >= most) {
    const reason = errorClass === 'template' ? 'template_fault' : 'internal_fault';
    return { status: 'dead', reason, disableWebhook: false };
  }
  return waiting(nowMs + retryDelayMs(policy, attemptNumber, random));
}

/** `Retry-After` (RFC 9110, section 10.2.3) in milliseconds from now: seconds or an HTTP date; 0 where absent or unreadable. */
export function retryAfterMs(headers: readonly string[], nowMs: number): number {
  const value = headerValue(headers, 'retry-after')?.trim();
  if (value === undefined) return 0;
  const wait = /^\d+$/.test(value) ? Number(value) * 1000 : /GMT$/.test(value) ? Date.parse(value) - nowMs : Number.NaN;
  return Number.isNaN(wait) ? 0 : Math.min(Math.max(wait, 0), RETRY_AFTER_MS_MAX);
}

function headerValue(headers: readonly string[], name: string): string | undefined {
  for (let at = 0; at < headers.length; at += 2) {
    if (headers[at]?.toLowerCase() === name) return headers[at + 1];
  }
  return undefined;
}
