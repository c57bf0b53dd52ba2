/** In place of a webhook's id: the counts of all of them. */
export const ALL_WEBHOOKS = '00000000-0000-0000-0000-000000000000';

/** In place of an event type's name: the counts of all of them. */
export const ALL_TYPES = '';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

/** How fine counts are kept, and for how long. A minute, an hour and a day are those of UTC. */
export const LEVELS = {
  minute: { table: 'rollups_minute', lengthMs: 60_000, keptMs: 3 * DAY_MS },
  hour: { table: 'rollups_hour', lengthMs: HOUR_MS, keptMs: 90 * DAY_MS },
  day: { table: 'rollups_day', lengthMs: DAY_MS, keptMs: 731 * DAY_MS },
} as const;

export type Level = keyof typeof LEVELS;

/** From the coarsest to the finest. */
const COARSE_FIRST = ['day', 'hour', 'minute'] as const;

/** A stretch of time and the table that has its counts. */
export interface Range {
  level: Level;
  fromMs: number;
  /** The first millisecond after it. */
  toMs: number;
}

/** The beginning of the minute, hour or day that a time is in. */
export function beginningOf(level: Level, timeMs: number): number {
  return Math.floor(timeMs / LEVELS[level].lengthMs) * LEVELS[level].lengthMs;
}

/** The finest level that still has the counts of a time. What is about to go is taken for gone. */
export function finestLevelOf(timeMs: number, nowMs: number): Level | undefined {
  return (['minute', 'hour', 'day'] as const).find(
    (level) => beginningOf(level, timeMs) >= nowMs - LEVELS[level].keptMs + HOUR_MS,
  );
}

/**
 * The fewest rows that have the counts of a time: days where it has whole days, hours at their edges, minutes at the edges of
 * these. Both ends are on the finest level. A day or hour that is not over counts as whole when the time goes on to `nowMs`:
 * nothing is counted yet of what comes after.
 */
export function rangesOf(sinceMs: number, untilMs: number, nowMs: number): Range[] {
  return split(sinceMs, untilMs > nowMs ? Number.POSITIVE_INFINITY : untilMs, untilMs, 0);
}

function split(fromMs: number, toMs: number, endMs: number, depth: number): Range[] {
  const level = COARSE_FIRST[depth];
  if (level === undefined || fromMs >= toMs) return [];
  const { lengthMs } = LEVELS[level];
  const first = Math.ceil(fromMs / lengthMs) * lengthMs;
  // What begins before the end and has no end is whole.
  const open = toMs === Number.POSITIVE_INFINITY;
  const last = open ? Math.ceil(endMs / lengthMs) * lengthMs : Math.floor(toMs / lengthMs) * lengthMs;
  if (first >= last) return split(fromMs, toMs, endMs, depth + 1);
  return [
    ...split(fromMs, first, first, depth + 1),
    { level, fromMs: first, toMs: last },
    ...(open ? [] : split(last, toMs, endMs, depth + 1)),
  ];
}
