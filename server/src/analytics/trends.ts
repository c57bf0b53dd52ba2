import { type Counts, figuresOf } from './figures.ts';
import { type Forecast, forecastCounts, type NoForecast } from './forecast.ts';
import { LEVELS, type Level } from './series.ts';
import { showFigures } from './shown.ts';

/** After so many intervals things are expected to repeat: after an hour, a day, a week. */
const SEASON: Record<Level, number> = { minute: 60, hour: 24, day: 7 };

/** The points of a series, also those at which nothing was counted. */
export function pointsOf(counts: ReadonlyMap<string, Counts>, times: readonly number[]) {
  return times.map((timeMs) => ({
    at: new Date(timeMs).toISOString(),
    ...showFigures(figuresOf(counts.get(String(timeMs)) ?? new Map())),
  }));
}

/**
 * How attempts go on after the last complete interval. One that is under way is left out: as yet it is smaller than it
 * will be.
 */
export function forecastOf(
  points: readonly { total_attempts: number; failed_attempts: number }[],
  times: readonly number[],
  { interval, horizon, nowMs }: { interval: Level; horizon: number; nowMs: number },
) {
  const { lengthMs } = LEVELS[interval];
  const complete = points.filter((_, place) => (times[place] ?? 0) + lengthMs <= nowMs);
  const attempts = forecastCounts(
    complete.map((point) => point.total_attempts),
    SEASON[interval],
    horizon,
  );
  if ('reason' in attempts) return { forecast: null, forecast_reason: explain(attempts) };
  const failed = forecastCounts(
    complete.map((point) => point.failed_attempts),
    SEASON[interval],
    horizon,
  );
  const beginMs = (times[0] ?? 0) + complete.length * lengthMs;
  return {
    forecast: {
      model: attempts.model,
      based_on_intervals: attempts.basedOn,
      probability: 0.95,
      points: attempts.points.map((point, step) => ({
        at: new Date(beginMs + step * lengthMs).toISOString(),
        total_attempts: point,
        // Too few failures to say anything of are no reason to say nothing of the attempts.
        failed_attempts: pointAt(failed, step),
      })),
    },
    forecast_reason: null,
  };
}

function pointAt(forecast: Forecast | NoForecast, step: number) {
  return 'reason' in forecast ? null : (forecast.points[step] ?? null);
}

function explain({ reason, needed, given }: NoForecast) {
  const message =
    reason === 'no_attempts'
      ? 'There was no attempt in a complete interval of this time.'
      : `There are ${given} complete intervals since the first attempt of this time, and ${needed} are needed.`;
  return { code: reason, message };
}
