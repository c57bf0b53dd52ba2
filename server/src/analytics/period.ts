import { Type } from 'typebox';
import { readTimeFilter } from '../http/filters.ts';
import { invalidField } from '../kernel/errors.ts';
import { beginningOf, finestLevelOf, LEVELS, type Level, type Range, rangesOf } from './series.ts';

/** Query parameters of whatever looks at a time. */
export const PeriodQuery = {
  window: Type.Optional(
    Type.String({
      pattern: '^[1-9][0-9]{0,5}[mhd]$',
      description: 'The last so many minutes, hours or days: `15m`, `24h`, `30d`; `24h` where no time is named.',
    }),
  ),
  since: Type.Optional(Type.String({ format: 'date-time', description: 'In place of `window`.' })),
  until: Type.Optional(Type.String({ format: 'date-time', description: 'Now, if absent.' })),
};

/** A time that is looked at. */
export interface Period {
  sinceMs: number;
  /** The first millisecond after it; now when it goes on to now. */
  untilMs: number;
  ranges: Range[];
}

interface PeriodFields {
  window?: string;
  since?: string;
  until?: string;
}

const UNIT_MS = { m: 60_000, h: 3_600_000, d: 86_400_000 } as const;
const DAYS_MAX = LEVELS.day.keptMs / UNIT_MS.d;
const WINDOW_MS_DEFAULT = UNIT_MS.d;

/**
 * The period that a request names, taken to the whole minutes, hours or days that are still kept of its time.
 *
 * @throws AppError 422
 */
export function readPeriod(query: PeriodFields, nowMs: number): Period {
  const { sinceMs, untilMs } = readTimes(query, nowMs, WINDOW_MS_DEFAULT);
  const levelOf = (timeMs: number, path: string) => keptLevel(timeMs, nowMs, path);
  const fromMs = beginningOf(levelOf(sinceMs, query.since === undefined ? 'window' : 'since'), sinceMs);
  const toMs = endOf(levelOf(untilMs, 'until'), untilMs);
  return { sinceMs: fromMs, untilMs: Math.min(toMs, nowMs), ranges: rangesOf(fromMs, toMs, nowMs) };
}

/** The times that a request names, as they are; what is yet to come ends now. */
function readTimes(query: PeriodFields, nowMs: number, windowMsDefault: number): { sinceMs: number; untilMs: number } {
  const named = readTimeFilter(query);
  const untilMs = Math.min(named.untilMs ?? nowMs, nowMs);
  if (query.window !== undefined && named.sinceMs !== undefined) {
    throw invalidField('window', 'says what "since" says as well: name one of them');
  }
  const windowMs = query.window === undefined ? windowMsDefault : msOf(query.window);
  const sinceMs = named.sinceMs ?? untilMs - windowMs;
  if (sinceMs >= untilMs) throw invalidField('since', 'must be before "until", and not in the future');
  return { sinceMs, untilMs };
}

function msOf(window: string): number {
  return Number(window.slice(0, -1)) * UNIT_MS[window.slice(-1) as keyof typeof UNIT_MS];
}

function keptLevel(timeMs: number, nowMs: number, path: string): Level {
  const level = finestLevelOf(timeMs, nowMs);
  if (level === undefined)
    throw invalidField(path, `must be within the last ${DAYS_MAX - 1} days: counts are kept so long`);
  return level;
}

function endOf(level: Level, timeMs: number): number {
  const { lengthMs } = LEVELS[level];
  return Math.ceil(timeMs / lengthMs) * lengthMs;
}

/** Points that a series has at most. */
const POINTS_MAX = 1_500;

const POINTS_DEFAULT: Record<Level, number> = { minute: 60, hour: 24, day: 30 };

/**
 * The period of a series, taken to whole intervals; `points` are the times at which these begin.
 *
 * @throws AppError 422
 */
export function readSeriesPeriod(query: PeriodFields, interval: Level, nowMs: number): Period & { points: number[] } {
  const { lengthMs, keptMs } = LEVELS[interval];
  const { sinceMs, untilMs } = readTimes(query, nowMs, (POINTS_DEFAULT[interval] - 1) * lengthMs);
  const fromMs = beginningOf(interval, sinceMs);
  const toMs = endOf(interval, untilMs);
  const path = query.since === undefined ? 'window' : 'since';
  if (fromMs < nowMs - keptMs) {
    const days = Math.floor(keptMs / UNIT_MS.d);
    throw invalidField(path, `must be within the last ${days} days with the interval "${interval}"`);
  }
  const count = (toMs - fromMs) / lengthMs;
  if (count > POINTS_MAX) {
    throw invalidField(
      path,
      `gives ${count} points; ${POINTS_MAX} are the most. Ask for less time or a longer interval`,
    );
  }
  const points = Array.from({ length: count }, (_, place) => fromMs + place * lengthMs);
  return { sinceMs: fromMs, untilMs: Math.min(toMs, nowMs), ranges: [{ level: interval, fromMs, toMs }], points };
}
