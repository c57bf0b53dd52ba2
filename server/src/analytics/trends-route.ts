import { Type } from 'typebox';
import { filterText } from '../http/filters.ts';
import type { HttpServer } from '../http/server.ts';
import type { AnalyticsDeps } from './deps.ts';
import { PeriodQuery, readSeriesPeriod } from './period.ts';
import { readCounts } from './read-counts.ts';
import { FiguresShown, PeriodShown, showPeriod } from './shown.ts';
import { forecastOf, pointsOf } from './trends.ts';
import { webhooksOf } from './webhooks.ts';

const HORIZON_MAX = 168;
const HORIZON_DEFAULT = { minute: 15, hour: 24, day: 7 } as const;

const config = { permission: 'read', portal: 'read' } as const;
const tags = ['Analytics'];

const ForecastReason = Type.Enum(['no_attempts', 'too_few_intervals']);
const Expected = Type.Object({ value: Type.Number(), low: Type.Number(), high: Type.Number() });

/** How figures change with time, and what is to be expected of them. */
export function registerTrendsRoute(app: HttpServer, deps: AnalyticsDeps): void {
  const { db, clock } = deps;

  app.get(
    '/api/v1/analytics/trends',
    {
      config,
      schema: {
        tags,
        summary: 'How figures changed from minute to minute, hour to hour or day to day, and how they may go on',
        description:
          'The last interval is the one under way, if the time goes on to now. The forecast begins after the last complete one: ' +
          'Holt-Winters with a season of an hour, a day or a week where the time has two of them, else a trend, or the mean.',
        querystring: Type.Object({
          interval: Type.Enum(['minute', 'hour', 'day'], { default: 'hour' }),
          ...PeriodQuery,
          webhook_id: Type.Optional(Type.String()),
          event_type: filterText(),
          horizon: Type.Optional(
            Type.Integer({
              minimum: 1,
              maximum: HORIZON_MAX,
              description: 'Intervals that the forecast has: 15 minutes, 24 hours or 7 days if absent.',
            }),
          ),
        }),
        response: {
          200: Type.Object({
            interval: Type.String(),
            ...PeriodShown,
            points: Type.Array(Type.Object({ at: Type.String(), ...FiguresShown.properties })),
            forecast: Type.Union([
              Type.Object({
                model: Type.Enum(['holt_winters', 'holt', 'mean']),
                based_on_intervals: Type.Integer(),
                probability: Type.Number({ description: 'With which a value is from `low` to `high`.' }),
                points: Type.Array(
                  Type.Object({
                    at: Type.String(),
                    total_attempts: Expected,
                    failed_attempts: Type.Union([Expected, Type.Null()]),
                  }),
                ),
              }),
              Type.Null(),
            ]),
            forecast_reason: Type.Union([Type.Object({ code: ForecastReason, message: Type.String() }), Type.Null()], {
              description: 'Why there is no forecast.',
            }),
          }),
        },
      },
    },
    async ({ query, caller }) => {
      const nowMs = clock.now();
      const { interval } = query;
      const period = readSeriesPeriod(query, interval, nowMs);
      const webhookIds = await webhooksOf(deps, caller, query.webhook_id);
      const { ranges } = period;
      const counts = await readCounts(db, caller, { webhookIds, eventType: query.event_type, ranges, by: interval });
      const points = pointsOf(counts, period.points);
      const horizon = query.horizon ?? HORIZON_DEFAULT[interval];
      return {
        interval,
        ...showPeriod(period),
        points,
        ...forecastOf(points, period.points, { interval, horizon, nowMs }),
      };
    },
  );
}
