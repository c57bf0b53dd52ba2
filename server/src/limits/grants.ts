import type { Grant } from '../http/caller.ts';
import { AppError } from '../kernel/errors.ts';
import type { Answer, Bucket } from './bucket.ts';

/** What a limit is called, and how its answers name it. */
export interface LimitKind {
  /** As in a tenant's `limits`. */
  name: 'requests_per_second' | 'events_per_second' | 'events_per_day';
  of: 'tenant' | 'api_key';
  /** The window of `RateLimit-Policy`. */
  windowSeconds: 1 | 86_400;
  /** What is counted, as a sentence has it. */
  unit: string;
}

/** One limit that a request has to pass. */
export interface Step {
  kind: LimitKind;
  limit: number;
  bucket: Bucket;
  /** What was taken of it can be given back by whoever holds the grant. */
  returnable: boolean;
}

/**
 * Takes `count` of each limit, or nothing of any. Without a promise as long as the buckets need none.
 *
 * @throws AppError 429 for the first limit that is used up.
 */
export function takeAll(steps: readonly Step[], count: number): Grant | Promise<Grant> {
  const answers: Answer[] = [];
  for (const step of steps) {
    const answer = step.bucket.take(count);
    if (answer instanceof Promise) return goOn(steps, count, answers, answer);
    note(steps, answers, answer, count);
  }
  return grantOf(steps, answers);
}

async function goOn(
  steps: readonly Step[],
  count: number,
  answers: Answer[],
  waitedFor: Promise<Answer>,
): Promise<Grant> {
  let next: Answer | Promise<Answer> | undefined = waitedFor;
  while (next !== undefined) {
    try {
      note(steps, answers, await next, count);
    } catch (error) {
      if (!(error instanceof AppError)) returnAll(steps, answers.length, count);
      throw error;
    }
    next = steps[answers.length]?.bucket.take(count);
  }
  return grantOf(steps, answers);
}

function note(steps: readonly Step[], answers: Answer[], answer: Answer, count: number): void {
  const step = steps[answers.length] as Step;
  if (answer.granted) {
    answers.push(answer);
    return;
  }
  returnAll(steps, answers.length, count);
  throw limitReached(step, answer);
}

function returnAll(steps: readonly Step[], taken: number, count: number): void {
  for (const { bucket } of steps.slice(0, taken)) bucket.giveBack(count);
}

function grantOf(steps: readonly Step[], answers: readonly Answer[]): Grant {
  let tightest = 0;
  answers.forEach(({ remaining }, at) => {
    if (remaining < (answers[tightest]?.remaining ?? 0)) tightest = at;
  });
  const answer = answers[tightest] as Answer;
  return {
    headers: headersOf(steps[tightest] as Step, answer),
    remaining: answer.remaining,
    giveBack(count) {
      for (const { bucket, returnable } of steps) if (returnable) bucket.giveBack(count);
    },
  };
}

/** As in draft-ietf-httpapi-ratelimit-headers-06; later drafts put the same into structured fields. */
function headersOf({ kind, limit }: Step, answer: Answer): Record<string, string> {
  return {
    'ratelimit-limit': String(limit),
    'ratelimit-policy': `${limit};w=${kind.windowSeconds}`,
    'ratelimit-remaining': String(answer.remaining),
    'ratelimit-reset': String(Math.ceil(answer.resetMs / 1_000)),
  };
}

function limitReached(step: Step, answer: Answer): AppError {
  const { kind, limit } = step;
  const whose = kind.of === 'tenant' ? "The tenant's" : "The API key's";
  const retryAfterSeconds = Math.max(1, Math.ceil(answer.retryMs / 1_000));
  return new AppError({
    code: kind.windowSeconds === 1 ? 'rate_limited' : 'quota_exceeded',
    message: `${whose} limit of ${limit} ${kind.unit} is used up; nothing was done.`,
    details: { limit: kind.name, of: kind.of, value: limit },
    retryAfterSeconds,
    headers: { ...headersOf(step, answer), 'ratelimit-reset': String(retryAfterSeconds) },
  });
}
