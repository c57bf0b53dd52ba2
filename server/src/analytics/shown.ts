import { Type } from 'typebox';
import { CLASSES } from '../delivery/attempt-codes.ts';
import { ErrorClassShown } from '../delivery/shown.ts';
import { type Counts, type Figures, figuresOf, percent } from './figures.ts';
import type { Period } from './period.ts';
import type { Queue } from './queue.ts';

const nullableNumber = (description: string) => Type.Union([Type.Number(), Type.Null()], { description });
const count = (description: string) => Type.Integer({ description });

const responseTime = (what: string) =>
  nullableNumber(
    `${what} of the attempts that were answered, or waited until their timeout; null when there was none.`,
  );

/** Counts and rates of attempts. */
export const FiguresShown = Type.Object(
  {
    total_deliveries: count('Deliveries that ended, as delivered or dead.'),
    successful_deliveries: count('Deliveries that were delivered.'),
    failed_deliveries: count('Deliveries that ended dead.'),
    success_rate: nullableNumber('Percent of ended deliveries that were delivered; null when none ended.'),
    total_attempts: count('Attempts, first ones and retries.'),
    failed_attempts: count('Attempts that brought no 2xx answer.'),
    failure_rate: nullableNumber('Percent of attempts that failed; null when there was none.'),
    average_response_time_ms: responseTime('Average response time'),
    p50_response_time_ms: responseTime('Median response time'),
    p95_response_time_ms: responseTime('Response time that 95 % are not above'),
    p99_response_time_ms: responseTime('Response time that 99 % are not above'),
    by_status_class: Type.Record(Type.String(), Type.Integer(), {
      description:
        'Attempts by the class of the answer: `2xx`, `3xx`, `4xx`, `5xx`, `other`, and `none` without an answer.',
    }),
    by_error_class: Type.Record(Type.String(), Type.Integer(), {
      description: `Failed attempts by error class, those that there were: ${CLASSES.slice(1).join(', ')}.`,
    }),
  },
  { $id: 'AttemptFigures', title: 'Figures of attempts' },
);

/** Event types that a list of them has; failures of a list. */
export const TYPES_MAX = 500;
export const FAILURES_MAX = 100;

const share = Type.Number({ description: 'Percent of all attempts of this time.' });

/** Figures of one event type among others. */
export const TypeFigures = Type.Object({ event_type: Type.String(), share, ...FiguresShown.properties });

/** Failed attempts of one kind among others. */
export const Failure = Type.Object({
  error_class: ErrorClassShown,
  response_status: Type.Union([Type.Integer(), Type.Null()]),
  attempts: Type.Integer(),
  share: Type.Number({ description: 'Percent of all failed attempts of this time.' }),
});

export const PeriodShown = {
  since: Type.String({ description: 'What was asked for, taken to whole minutes, hours or days.' }),
  until: Type.String(),
};

export const QueueShown = Type.Object(
  {
    queue_depth: count('Deliveries that wait for an attempt, with those under way; counted up to 10,000.'),
    queue_depth_is_exact: Type.Boolean({ description: 'false: there may be more.' }),
    oldest_waiting_seconds: nullableNumber(
      'For how long the delivery that has waited longest could have been sent; null when none could.',
    ),
    held_deliveries: count('Deliveries kept for paused or disabled webhooks; counted up to 10,000.'),
  },
  { $id: 'Queue', title: 'Waiting deliveries' },
);

export function showFigures(figures: Figures) {
  const { delivered, dead, responseTime: times } = figures;
  return {
    total_deliveries: delivered + dead,
    successful_deliveries: delivered,
    failed_deliveries: dead,
    success_rate: figures.successRate,
    total_attempts: figures.attempts,
    failed_attempts: figures.failed,
    failure_rate: figures.failureRate,
    average_response_time_ms: times?.averageMs ?? null,
    p50_response_time_ms: times?.p50Ms ?? null,
    p95_response_time_ms: times?.p95Ms ?? null,
    p99_response_time_ms: times?.p99Ms ?? null,
    by_status_class: figures.byStatusClass,
    by_error_class: figures.byErrorClass,
  };
}

export function showPeriod({ sinceMs, untilMs }: Period) {
  return { since: new Date(sinceMs).toISOString(), until: new Date(untilMs).toISOString() };
}

export function showQueue({ waiting, exact, oldestMs, held }: Queue) {
  return {
    queue_depth: waiting,
    queue_depth_is_exact: exact,
    oldest_waiting_seconds: oldestMs === null ? null : Math.round(oldestMs / 1_000),
    held_deliveries: held,
  };
}

/** The most attempts first. */
export function showTypes(types: ReadonlyMap<string, Counts>) {
  const all = [...types].map(([name, counts]) => ({ name, figures: figuresOf(counts) }));
  const attempts = all.reduce((sum, { figures }) => sum + figures.attempts, 0);
  return all
    .sort((one, other) => other.figures.attempts - one.figures.attempts || (one.name < other.name ? -1 : 1))
    .map(({ name, figures }) => ({
      event_type: name,
      share: percent(figures.attempts, attempts) ?? 0,
      ...showFigures(figures),
    }));
}

/** Of the kinds of failures the first. */
export function showFailures({ attempts, failed, failureRate, byErrorClass, failures }: Figures) {
  const byStatus: Record<string, number> = {};
  for (const { status, attempts: count } of failures) {
    if (status !== null) byStatus[status] = (byStatus[status] ?? 0) + count;
  }
  return {
    total_attempts: attempts,
    failed_attempts: failed,
    failure_rate: failureRate,
    by_error_class: byErrorClass,
    by_response_status: byStatus,
    data: failures.slice(0, FAILURES_MAX).map(({ errorClass, status, attempts: count }) => ({
      error_class: errorClass,
      response_status: status,
      attempts: count,
      share: percent(count, failed) ?? 0,
    })),
  };
}
