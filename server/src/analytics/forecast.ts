/** What is to be expected of a figure, a value for each interval to come. */
export interface Forecast {
  model: ForecastModel;
  /** Past values that it was made of. */
  basedOn: number;
  /** `low` to `high` is where the value is expected with 95 % probability, if it goes on as it did. */
  points: { value: number; low: number; high: number }[];
}

/**
 * - `holt_winters`: level, trend and a season, each of which follows the series
 * - `holt`: level and trend, without a season
 * - `mean`: there is too little to see a trend in
 */
export type ForecastModel = 'holt_winters' | 'holt' | 'mean';

/** Why there is no forecast. */
export type NoForecast = { reason: 'no_attempts' | 'too_few_intervals'; needed: number; given: number };

/** Fewer values say nothing, and with fewer than ten there is no telling a trend from chance. */
const VALUES_MIN = 5;
const TREND_VALUES_MIN = 10;

/** Older values are left out: what was ten seasons ago does not help. */
const SEASONS_MAX = 10;

/** Of the normal distribution, for 95 %. */
const Z = 1.96;

/**
 * Goes on with a series of counts at equal intervals, the last one complete. Additive Holt-Winters with a season when there
 * are two of them, Holt's trend else, each with or without damping, whichever would have told the past best from one interval to the
 * next; the interval comes of how far that was off (Hyndman, Athanasopoulos: Forecasting, principles and practice, 8.3 and 8.7).
 *
 * @param seasonLength intervals a season: 24 for hours
 * @param horizon intervals to tell
 */
export function forecastCounts(
  values: readonly number[],
  seasonLength: number,
  horizon: number,
): Forecast | NoForecast {
  // Before the first attempt there was nothing to count.
  const first = values.findIndex((value) => value > 0);
  if (first === -1) return { reason: 'no_attempts', needed: VALUES_MIN, given: 0 };
  const series = values.slice(Math.max(first, values.length - SEASONS_MAX * seasonLength));
  if (series.length < VALUES_MIN) return { reason: 'too_few_intervals', needed: VALUES_MIN, given: series.length };
  const told = tell(series, seasonLength, horizon);
  const points = told.values.map((value, step) => {
    const spread = told.deviation * Math.sqrt(told.growth[step] ?? 1);
    return { value: countOf(value), low: countOf(value - spread), high: countOf(value + spread) };
  });
  return { model: told.model, basedOn: series.length, points };
}

/** With two decimals, and never below nothing. */
function countOf(value: number): number {
  return Math.max(0, Math.round(value * 100) / 100);
}

interface Told {
  model: ForecastModel;
  values: number[];
  /** Half the width of the interval of the next value. */
  deviation: number;
  /** How much greater the variance of each value is than that of the next one. */
  growth: number[];
}

function tell(series: readonly number[], seasonLength: number, horizon: number): Told {
  if (series.length >= 2 * seasonLength) return goOn('holt_winters', series, seasonLength, horizon);
  if (series.length >= TREND_VALUES_MIN) return goOn('holt', series, 0, horizon);
  const mean = meanOf(series);
  const errors = series.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return {
    model: 'mean',
    values: Array.from({ length: horizon }, () => mean),
    deviation: widthOf(errors, series.length - 1),
    // The mean itself is uncertain as well.
    growth: Array.from({ length: horizon }, () => 1 + 1 / series.length),
  };
}

/** How fast level, trend and season follow, and what is left of the trend after an interval. */
interface Smoothing {
  alpha: number;
  beta: number;
  gamma: number;
  phi: number;
}

interface State {
  level: number;
  trend: number;
  season: number[];
}

const ALPHAS = [0.02, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9];
const BETAS = [0, 0.05, 0.1, 0.3];
const GAMMAS = [0, 0.1, 0.3, 0.6];
const PHIS = [1, 0.9];

function goOn(model: ForecastModel, series: readonly number[], seasonLength: number, horizon: number): Told {
  let best: { smoothing: Smoothing; end: State; errors: number } | undefined;
  for (const phi of PHIS) {
    for (const alpha of ALPHAS) {
      for (const beta of BETAS) {
        for (const gamma of seasonLength === 0 ? [0] : GAMMAS) {
          const smoothing = { alpha, beta, gamma, phi };
          const { end, errors } = follow(series, seasonLength, smoothing);
          if (best === undefined || errors < best.errors) best = { smoothing, end, errors };
        }
      }
    }
  }
  if (best === undefined) throw new Error('no smoothing was tried');
  const { smoothing, end, errors } = best;
  const values: number[] = [];
  let slopes = 0;
  for (let step = 1; step <= horizon; step++) {
    slopes += smoothing.phi ** step;
    const season = seasonLength === 0 ? 0 : (end.season[(series.length + step - 1) % seasonLength] ?? 0);
    values.push(end.level + slopes * end.trend + season);
  }
  const seen = series.length - startOf(seasonLength);
  // What was chosen to fit the series is no error of the series any more.
  const free = seen - (seasonLength === 0 ? 3 : 4);
  return { model, values, deviation: widthOf(errors, free), growth: growthOf(smoothing, seasonLength, horizon) };
}

/** The first value that is told by those before it: they give the first state. */
function startOf(seasonLength: number): number {
  return seasonLength === 0 ? 2 : seasonLength;
}

function firstState(series: readonly number[], seasonLength: number): State {
  if (seasonLength === 0) {
    const [first = 0, second = 0] = series;
    return { level: second, trend: second - first, season: [] };
  }
  const season = series.slice(0, seasonLength);
  const [mean, next] = [meanOf(season), meanOf(series.slice(seasonLength, 2 * seasonLength))];
  const trend = (next - mean) / seasonLength;
  const middle = (seasonLength - 1) / 2;
  return {
    level: mean + middle * trend,
    trend,
    season: season.map((value, place) => value - (mean + (place - middle) * trend)),
  };
}

/** Goes through a series: where it ends, and the sum of squares of how far each next value was from the one told. */
function follow(series: readonly number[], seasonLength: number, { alpha, beta, gamma, phi }: Smoothing) {
  const state = firstState(series, seasonLength);
  let { level, trend } = state;
  const { season } = state;
  let errors = 0;
  for (let at = startOf(seasonLength); at < series.length; at++) {
    const place = seasonLength === 0 ? 0 : at % seasonLength;
    const expected = level + phi * trend + (season[place] ?? 0);
    const error = (series[at] ?? 0) - expected;
    errors += error * error;
    level += phi * trend + alpha * error;
    trend = phi * trend + alpha * beta * error;
    if (seasonLength > 0) season[place] = (season[place] ?? 0) + gamma * (1 - alpha) * error;
  }
  return { end: { level, trend, season }, errors };
}

/** The variance of each value to come, as a multiple of that of the next one. */
function growthOf({ alpha, beta, gamma, phi }: Smoothing, seasonLength: number, horizon: number): number[] {
  const growth: number[] = [];
  let variance = 1;
  let slopes = 0;
  for (let step = 1; step <= horizon; step++) {
    growth.push(variance);
    slopes += phi ** step;
    const ofSeason = seasonLength > 0 && step % seasonLength === 0 ? gamma * (1 - alpha) : 0;
    variance += (alpha + alpha * beta * slopes + ofSeason) ** 2;
  }
  return growth;
}

/** Half the width of a 95 % interval; wider than the normal distribution's where it comes of few values (Student's t). */
function widthOf(errors: number, free: number): number {
  const degrees = Math.max(1, free);
  return Math.sqrt(errors / degrees) * (Z + (Z ** 3 + Z) / (4 * degrees));
}

function meanOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
