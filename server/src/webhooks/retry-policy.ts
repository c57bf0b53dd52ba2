import { type Static, Type } from 'typebox';
import { changeable, orNull } from './nullable.ts';

/** When a failed delivery is tried again. Every field is set: what the webhook says, else its preset, else the default. */
export interface RetryPolicy {
  /** false: one attempt only. */
  enabled: boolean;
  /** Attempts in all, the first included. */
  maxAttempts: number;
  strategy: 'exponential' | 'linear';
  initialDelaySeconds: number;
  /** Bounds the computed delays; an explicit schedule is taken as it is. */
  maxDelaySeconds: number;
  backoffMultiplier: number;
  /** Share of the delay (0..1) that is added at random. */
  jitter: number;
  /** The statuses to retry on; null: every one that is not 2xx. Failures without an answer are always retried. */
  retryOnStatusCodes: readonly number[] | null;
  /** Delays before the 2nd, 3rd, … attempt, the last one repeating; null: computed. */
  scheduleSeconds: readonly number[] | null;
}

const MAX_ATTEMPTS_LIMIT = 50;
const DELAY_SECONDS_MAX = 86_400;
const delaySeconds = Type.Integer({ minimum: 0, maximum: DELAY_SECONDS_MAX });

/** The fields of `retry_policy` with their bounds. */
const fields = {
  enabled: Type.Boolean({ description: 'false: one attempt only.' }),
  max_attempts: Type.Integer({
    minimum: 1,
    maximum: MAX_ATTEMPTS_LIMIT,
    description: 'Attempts in all, the first included.',
  }),
  strategy: Type.Unsafe<RetryPolicy['strategy']>({
    type: 'string',
    enum: ['exponential', 'linear'],
    description: 'exponential: initial × multiplier^(n − 1) before retry n; linear: initial × n.',
  }),
  initial_delay_seconds: delaySeconds,
  max_delay_seconds: delaySeconds,
  backoff_multiplier: Type.Number({ minimum: 1, maximum: 10 }),
  jitter: Type.Number({ minimum: 0, maximum: 1, description: 'Share of the delay that is added at random.' }),
  retry_on_status_codes: Type.Array(Type.Integer({ minimum: 100, maximum: 599 }), {
    maxItems: 100,
    description: 'Statuses to retry on; without it every status that is not 2xx.',
  }),
  schedule_seconds: Type.Array(delaySeconds, {
    minItems: 1,
    maxItems: MAX_ATTEMPTS_LIMIT - 1,
    description: 'Delays before the 2nd, 3rd, … attempt, in place of the computed ones; the last one repeats.',
  }),
};

/** `retry_policy` in a request: absent leaves a field as it is, null gives it back to the preset. */
export const RetryPolicyInput = Type.Object(changeable(fields), { additionalProperties: false });
export type RetryPolicyInput = Static<typeof RetryPolicyInput>;

/** `retry_policy` in an answer: what is in force. */
export const RetryPolicyShown = Type.Object({
  ...fields,
  retry_on_status_codes: orNull(fields.retry_on_status_codes),
  schedule_seconds: orNull(fields.schedule_seconds),
});

/** What a webhook or a preset says for itself; as stored in `webhooks.retry_policy`. */
export interface RetryPolicyFields {
  readonly enabled?: boolean;
  readonly max_attempts?: number;
  readonly strategy?: RetryPolicy['strategy'];
  readonly initial_delay_seconds?: number;
  readonly max_delay_seconds?: number;
  readonly backoff_multiplier?: number;
  readonly jitter?: number;
  readonly retry_on_status_codes?: readonly number[];
  readonly schedule_seconds?: readonly number[];
}

/** In force where neither the webhook nor its preset says anything: five attempts within half a minute. */
const DEFAULTS: RetryPolicy = {
  enabled: true,
  maxAttempts: 5,
  strategy: 'exponential',
  initialDelaySeconds: 1,
  maxDelaySeconds: 300,
  backoffMultiplier: 2,
  jitter: 0.1,
  retryOnStatusCodes: null,
  scheduleSeconds: null,
};

/**
 * The policy in force for a webhook. A webhook that says how delays are computed, and gives no schedule of its own,
 * is not held to the preset's schedule; one that gives a schedule and no `max_attempts` is tried once more than the
 * schedule has delays.
 */
export function resolveRetryPolicy(own: RetryPolicyFields, preset: RetryPolicyFields): RetryPolicy {
  const merged = { ...preset, ...own };
  const computesDelays = COMPUTING_FIELDS.some((field) => own[field] !== undefined);
  const schedule = own.schedule_seconds ?? (computesDelays ? undefined : preset.schedule_seconds);
  // A schedule says by its length how many retries there are.
  const ownScheduleAttempts = own.schedule_seconds && own.schedule_seconds.length + 1;
  const initialDelaySeconds = merged.initial_delay_seconds ?? DEFAULTS.initialDelaySeconds;
  return {
    enabled: merged.enabled ?? DEFAULTS.enabled,
    maxAttempts: own.max_attempts ?? ownScheduleAttempts ?? preset.max_attempts ?? DEFAULTS.maxAttempts,
    strategy: merged.strategy ?? DEFAULTS.strategy,
    initialDelaySeconds,
    // A first delay beyond the preset's bound was asked for by the webhook itself; the bound then only stops the growth.
    maxDelaySeconds: Math.max(merged.max_delay_seconds ?? DEFAULTS.maxDelaySeconds, initialDelaySeconds),
    backoffMultiplier: merged.backoff_multiplier ?? DEFAULTS.backoffMultiplier,
    jitter: merged.jitter ?? DEFAULTS.jitter,
    retryOnStatusCodes: merged.retry_on_status_codes ?? DEFAULTS.retryOnStatusCodes,
    scheduleSeconds: schedule ?? DEFAULTS.scheduleSeconds,
  };
}

/** The policy as the API shows it. */
export function showRetryPolicy(policy: RetryPolicy): Static<typeof RetryPolicyShown> {
  return {
    enabled: policy.enabled,
    max_attempts: policy.maxAttempts,
    strategy: policy.strategy,
    initial_delay_seconds: policy.initialDelaySeconds,
    max_delay_seconds: policy.maxDelaySeconds,
    backoff_multiplier: policy.backoffMultiplier,
    jitter: policy.jitter,
    retry_on_status_codes: policy.retryOnStatusCodes === null ? null : [...policy.retryOnStatusCodes],
    schedule_seconds: policy.scheduleSeconds === null ? null : [...policy.scheduleSeconds],
  };
}

const COMPUTING_FIELDS = [
  'strategy',
  'initial_delay_seconds',
  'max_delay_seconds',
  'backoff_multiplier',
] as const satisfies readonly (keyof RetryPolicyFields)[];
