import { Type } from 'typebox';
import type { Database } from '../db/pool.ts';
import { webhookStats } from '../delivery/queries.ts';
import { DeliveryStats, ErrorClassShown } from '../delivery/shown.ts';
import type { Reach } from '../http/caller.ts';
import { filterText } from '../http/filters.ts';
import { PageOf, PageQuery, readPage, toPage } from '../http/pagination.ts';
import type { HttpServer } from '../http/server.ts';
import type { Clock } from '../kernel/clock.ts';
import { notFound } from '../kernel/errors.ts';
import { formatId, parseId } from '../kernel/ids.ts';
import type { WebhookDirectory } from '../webhooks/directory.ts';
import { findWithin } from '../webhooks/owner.ts';
import { WEBHOOK_STATUSES } from '../webhooks/settings.ts';
import { type Counts, type Figures, figuresOf, percent, sumOf } from './figures.ts';
import { type Period, PeriodQuery, readPeriod, readSeriesPeriod } from './period.ts';
import { countDeadLetters, readQueue } from './queue.ts';
import { readCounts } from './read-counts.ts';
import { FiguresShown, PeriodShown, QueueShown, showFigures, showPeriod, showQueue } from './shown.ts';
import { forecastOf, pointsOf } from './trends.ts';
import { countWebhooks, listReached, reachedIds } from './webhooks.ts';

export interface AnalyticsDeps {
  db: Database;
  clock: Clock;
  webhooks: WebhookDirectory;
}

/** Event types that an overview has, and that a list of them has; failures of a list. */
const TYPES_IN_OVERVIEW = 10;
const TYPES_MAX = 500;
const FAILURES_MAX = 100;

const HORIZON_MAX = 168;
const HORIZON_DEFAULT = { minute: 15, hour: 24, day: 7 } as const;

const read = { permission: 'read', portal: 'read' } as const;
const tags = ['Analytics'];

const share = Type.Number({ description: 'Percent of all attempts of this time.' });
const TypeFigures = Type.Object({ event_type: Type.String(), share, ...FiguresShown.properties });
const Failure = Type.Object({
  error_class: ErrorClassShown,
  response_status: Type.Union([Type.Integer(), Type.Null()]),
  attempts: Type.Integer(),
  share: Type.Number({ description: 'Percent of all failed attempts of this time.' }),
});
const ForecastReason = Type.Enum(['no_attempts', 'too_few_intervals']);
const Expected = Type.Object({ value: Type.Number(), low: Type.Number(), high: Type.Number() });

/** Counts, rates and response times, and what is to be expected of them. A portal token sees those of its owner's webhooks. */
export function registerAnalyticsRoutes(app: HttpServer, deps: AnalyticsDeps): void {
  const { db, clock } = deps;
  app.addSchema(FiguresShown);
  app.addSchema(QueueShown);
  app.addSchema(DeliveryStats);

  /** @throws AppError 404 for a webhook that is not the caller's. */
  const requireWebhook = async (reach: Reach, text: string): Promise<string> => {
    const id = parseId('webhook', text);
    if (id === undefined || (await findWithin(deps, reach, id)) === undefined) throw notFound('webhook');
    return id;
  };

  /** What a request looks at: one webhook, all of an owner's, or (undefined) whatever there was. */
  const webhooksOf = async (reach: Reach, webhookId: string | undefined): Promise<string[] | undefined> =>
    webhookId === undefined ? reachedIds(db, reach) : [await requireWebhook(reach, webhookId)];

  app.get(
    '/api/v1/analytics/overview',
    {
      config: read,
      schema: {
        tags,
        summary: 'How deliveries went in a time, and what waits now',
        querystring: Type.Object(PeriodQuery),
        response: {
          200: Type.Object({
            ...PeriodShown,
            ...FiguresShown.properties,
            ...QueueShown.properties,
            dead_letters: Type.Integer({ description: 'Deliveries that lie given up now; counted up to 10,000.' }),
            webhooks: Type.Object({
              total: Type.Integer(),
              active: Type.Integer(),
              paused: Type.Integer(),
              disabled: Type.Integer(),
              circuits_open: Type.Integer({ description: 'Webhooks whose circuit is open or being tried.' }),
            }),
            event_types: Type.Array(TypeFigures, {
              description: `The ${TYPES_IN_OVERVIEW} with the most attempts.`,
            }),
          }),
        },
      },
    },
    async ({ query, caller }) => {
      const nowMs = clock.now();
      const period = readPeriod(query, nowMs);
      const webhookIds = await reachedIds(db, caller);
      const types = await readCounts(db, caller, { webhookIds, ranges: period.ranges, by: 'event_type' });
      return {
        ...showPeriod(period),
        ...showFigures(figuresOf(sumOf(types.values()))),
        ...showQueue(await readQueue(db, caller, { webhookIds, nowMs })),
        dead_letters: await countDeadLetters(db, caller, { webhookIds }),
        webhooks: await countWebhooks(db, caller),
        event_types: showTypes(types).slice(0, TYPES_IN_OVERVIEW),
      };
    },
  );

  app.get(
    '/api/v1/analytics/trends',
    {
      config: read,
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
      const webhookIds = await webhooksOf(caller, query.webhook_id);
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

  app.get(
    '/api/v1/analytics/event-types',
    {
      config: read,
      schema: {
        tags,
        summary: 'Figures by event type, the most attempts first',
        querystring: Type.Object({ ...PeriodQuery, webhook_id: Type.Optional(Type.String()) }),
        response: {
          200: Type.Object({ ...PeriodShown, data: Type.Array(TypeFigures, { description: `${TYPES_MAX} at most.` }) }),
        },
      },
    },
    async ({ query, caller }) => {
      const period = readPeriod(query, clock.now());
      const webhookIds = await webhooksOf(caller, query.webhook_id);
      const types = await readCounts(db, caller, { webhookIds, ranges: period.ranges, by: 'event_type' });
      return { ...showPeriod(period), data: showTypes(types).slice(0, TYPES_MAX) };
    },
  );

  app.get(
    '/api/v1/analytics/errors',
    {
      config: read,
      schema: {
        tags,
        summary: 'Failed attempts by error class and response status, the most frequent first',
        querystring: Type.Object({
          ...PeriodQuery,
          webhook_id: Type.Optional(Type.String()),
          event_type: filterText(),
        }),
        response: {
          200: Type.Object({
            ...PeriodShown,
            total_attempts: Type.Integer(),
            failed_attempts: Type.Integer(),
            failure_rate: Type.Union([Type.Number(), Type.Null()]),
            by_error_class: Type.Record(Type.String(), Type.Integer()),
            by_response_status: Type.Record(Type.String(), Type.Integer(), {
              description: 'Failed attempts that were answered, by the status.',
            }),
            data: Type.Array(Failure, { description: `${FAILURES_MAX} at most.` }),
          }),
        },
      },
    },
    async ({ query, caller }) => {
      const period = readPeriod(query, clock.now());
      const webhookIds = await webhooksOf(caller, query.webhook_id);
      const { event_type: eventType } = query;
      const counts = await readCounts(db, caller, { webhookIds, eventType, ranges: period.ranges });
      return { ...showPeriod(period), ...showFailures(figuresOf(counts.get('') ?? new Map())) };
    },
  );

  app.get(
    '/api/v1/analytics/webhooks',
    {
      config: read,
      schema: {
        tags,
        summary: 'Figures by webhook, the newest webhook first',
        querystring: Type.Object({ ...PageQuery, ...PeriodQuery }),
        response: {
          200: Type.Object({
            ...PeriodShown,
            ...PageOf(
              Type.Object({
                webhook_id: Type.String(),
                name: Type.String(),
                status: Type.Enum([...WEBHOOK_STATUSES]),
                ...FiguresShown.properties,
              }),
            ).properties,
          }),
        },
      },
    },
    async ({ query, caller }) => {
      const period = readPeriod(query, clock.now());
      const page = readPage(query);
      const rows = await listReached(db, caller, page);
      const webhookIds = rows.map(({ id }) => id);
      const counts = await readCounts(db, caller, { webhookIds, ranges: period.ranges, by: 'webhook' });
      const shown = toPage(
        rows,
        page.limit,
        (row) => row.id,
        ({ id, name, status }) => ({
          webhook_id: formatId('webhook', id),
          name,
          status,
          ...showFigures(figuresOf(counts.get(id) ?? new Map())),
        }),
      );
      return { ...showPeriod(period), ...shown };
    },
  );

  app.get(
    '/api/v1/analytics/webhooks/:id',
    {
      config: read,
      schema: {
        tags,
        summary: 'How deliveries to a webhook went in a time, by event type, and what waits now',
        params: Type.Object({ id: Type.String() }),
        querystring: Type.Object(PeriodQuery),
        response: {
          200: Type.Object({
            webhook_id: Type.String(),
            ...PeriodShown,
            ...FiguresShown.properties,
            ...QueueShown.properties,
            dead_letters: Type.Integer({ description: 'Deliveries that lie given up now; counted up to 10,000.' }),
            event_types: Type.Array(TypeFigures, { description: `${TYPES_MAX} at most.` }),
            errors: Type.Array(Failure, { description: `${FAILURES_MAX} at most.` }),
          }),
        },
      },
    },
    async ({ params, query, caller }) => {
      const nowMs = clock.now();
      const webhookId = await requireWebhook(caller, params.id);
      const period = readPeriod(query, nowMs);
      return {
        webhook_id: formatId('webhook', webhookId),
        ...(await figuresOfWebhook(caller, webhookId, period, nowMs)),
      };
    },
  );

  const figuresOfWebhook = async (reach: Reach, webhookId: string, period: Period, nowMs: number) => {
    const webhookIds = [webhookId];
    const types = await readCounts(db, reach, { webhookIds, ranges: period.ranges, by: 'event_type' });
    const figures = figuresOf(sumOf(types.values()));
    return {
      ...showPeriod(period),
      ...showFigures(figures),
      ...showQueue(await readQueue(db, reach, { webhookIds, nowMs })),
      dead_letters: await countDeadLetters(db, reach, { webhookIds }),
      event_types: showTypes(types).slice(0, TYPES_MAX),
      errors: showFailures(figures).data,
    };
  };

  app.get(
    '/api/v1/webhooks/:id/stats',
    {
      config: read,
      schema: {
        tags: ['Deliveries'],
        summary: "A webhook's statistics: since it was made, and in a time",
        params: Type.Object({ id: Type.String() }),
        querystring: Type.Object(PeriodQuery),
        response: {
          200: Type.Object({
            ...DeliveryStats.properties,
            period: Type.Object({ ...PeriodShown, ...FiguresShown.properties }),
          }),
        },
      },
    },
    async ({ params, query, caller }) => {
      const webhookId = await requireWebhook(caller, params.id);
      const period = readPeriod(query, clock.now());
      const { totals, waiting } = await webhookStats(db, caller.tenantId, webhookId);
      const counts = await readCounts(db, caller, { webhookIds: [webhookId], ranges: period.ranges });
      const { delivered, dead, attempts, response_time_ms_sum } = totals;
      const ended = delivered + dead;
      return {
        webhook_id: formatId('webhook', webhookId),
        total_deliveries: ended,
        successful_deliveries: delivered,
        failed_deliveries: dead,
        filtered_deliveries: totals.filtered,
        waiting_deliveries: waiting,
        success_rate: percent(delivered, ended),
        total_attempts: attempts,
        failed_attempts: attempts - delivered,
        average_response_time_ms: attempts === 0 ? null : Math.round(response_time_ms_sum / attempts),
        last_triggered_at: totals.last_triggered_at?.toISOString() ?? null,
        period: { ...showPeriod(period), ...showFigures(figuresOf(counts.get('') ?? new Map())) },
      };
    },
  );
}

function showTypes(types: ReadonlyMap<string, Counts>) {
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

function showFailures({ attempts, failed, failureRate, byErrorClass, failures }: Figures) {
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
