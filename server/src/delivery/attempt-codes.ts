import type { ErrorClass } from './outcome.ts';

/**
 * How attempts are counted for analytics. A commit leaves a code for each of its attempts; what is added up of them are
 * counts by key:
 *
 * | key | counts |
 * |---|---|
 * | -1 | milliseconds of all timed attempts |
 * | 0 | deliveries that ended dead |
 * | 1 … | timed attempts whose duration is in this bucket |
 * | 1000 … | attempts with this result: 1000, plus 1000 for each place of the error class, plus the response status |
 *
 * An attempt is timed when it was answered, or waited for an answer in vain: one that was refused at once says nothing of
 * how fast a receiver is. Keys and codes are stored: their meaning does not change.
 */
export const KEYS = { durationMs: -1, dead: 0, results: 1_000, ofClass: 1_000 } as const;

/** The place of each error class in a result. Places go on; none is given again. */
const CLASS_PLACES: Record<ErrorClass, number> = {
  dns: 1,
  connect: 2,
  tls: 3,
  timeout: 4,
  reset: 5,
  blocked: 6,
  response: 7,
  internal: 8,
  template: 9,
};

/** The error class at each place of a result; at the first, of attempts that succeeded, none. */
export const CLASSES: readonly (ErrorClass | null)[] = [null, ...(Object.keys(CLASS_PLACES) as ErrorClass[])];

const CODE_OF_MS = 20_000;

/** Longer durations count as this one; a request takes 60 s at most. */
const DURATION_MS_MAX = 100_000;

/** How much longer than the shortest duration of a bucket the longest one may be: half of it is the error of its middle. */
const BUCKET_SPREAD = 0.05;

/** The least duration of each bucket in milliseconds, beginning with bucket 1. To 39 ms each has its own. */
export const BUCKETS: readonly number[] = bucketsUpTo(DURATION_MS_MAX);

function bucketsUpTo(durationMsMax: number): number[] {
  const least = [0];
  for (let ms = 1; ms <= durationMsMax; ms = Math.max(ms + 1, Math.floor(ms * (1 + BUCKET_SPREAD)))) least.push(ms);
  return least;
}

/** SQL of the code of an attempt that succeeded. */
export const SUCCESS_CODE = `least(duration_ms, ${DURATION_MS_MAX}) * ${CODE_OF_MS} + response_status`;

const PLACES_SQL = `'{${CLASSES.slice(1).join(',')}}'::text[]`;

/** SQL of the code of any attempt. */
export const ATTEMPT_CODE = `least(duration_ms, ${DURATION_MS_MAX}) * ${CODE_OF_MS} + coalesce(response_status, 0)
      + CASE WHEN error_class IS NULL THEN 0
        ELSE ${KEYS.ofClass} * coalesce(array_position(${PLACES_SQL}, error_class), ${CLASS_PLACES.internal}) END`;

/** In place of a code: deliveries that ended dead. */
const DEAD = -1;

const NAMES = 'tenant_id, environment_id, webhook_id, event_type, at';

/** SQL of how often each code is in `attempts_seen`: rows of names, code and count. `noted`: a table or query of them. */
export function countCodes(noted: string): string {
  return `
  SELECT ${NAMES}, code, count(*)::int AS n FROM ${noted}, unnest(codes) code GROUP BY ${NAMES}, code
  UNION ALL
  SELECT ${NAMES}, ${DEAD}, sum(dead)::int FROM ${noted} WHERE dead > 0 GROUP BY ${NAMES}`;
}

const RESULT = `(code % ${CODE_OF_MS})`;
const TIMED = `${RESULT} % ${KEYS.ofClass} > 0 OR ${RESULT} / ${KEYS.ofClass} = ${CLASS_PLACES.timeout}`;

/** SQL of what codes count for: rows of names, key and count, several of a key. `coded`: a table or query of codes. */
export function keysOfCodes(coded: string): string {
  return `
  SELECT ${NAMES}, k.key::smallint AS key, k.n
  FROM ${coded} CROSS JOIN LATERAL (VALUES
    (CASE WHEN code = ${DEAD} THEN ${KEYS.dead} ELSE ${KEYS.results} + ${RESULT} END, n::bigint),
    (CASE WHEN ${TIMED} THEN width_bucket(code / ${CODE_OF_MS}, '{${BUCKETS.join(',')}}'::int[]) END, n),
    (CASE WHEN ${TIMED} THEN ${KEYS.durationMs} END, n::bigint * (code / ${CODE_OF_MS}))
  ) k (key, n)
  WHERE k.key IS NOT NULL`;
}
