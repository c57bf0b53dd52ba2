import { Type } from 'typebox';
import { DeliveryStats } from '../delivery/shown.ts';
import { filterText } from '../http/filters.ts';
import type { HttpServer } from '../http/server.ts';
import type { AnalyticsDeps } from './deps.ts';
import { figuresOf, sumOf } from './figures.ts';
import { PeriodQuery, readPeriod } from './period.ts';
import { countDeadLetters, readQueue } from './queue.ts';
import { readCounts } from './read-counts.ts';
import {
  FAILURES_MAX,
  Failure,
  FiguresShown,
  PeriodShown,
  QueueShown,
  showFailures,
  showFigures,
  showPeriod,
  showQueue,
  showTypes,
  TYPES_MAX,
  TypeFigures,
} from './shown.ts';
import { registerTrendsRoute } from './trends-route.ts';
import { registerWebhookFiguresRoutes } from './webhook-routes.ts';
import { countWebhooks, reachedIds, webhooksOf } from './webhooks.ts';

/** Event types that an overview has. */
const TYPES_IN_OVERVIEW = 10;

const read = { permission: 'read', portal: 'read' } as const;
const tags = ['Analytics'];

/** Counts, rates and response times, and what is to be expected of them. A portal token sees those of its owner's webhooks. */
export function registerAnalyticsRoutes(app: HttpServer, deps: AnalyticsDeps): void {
  const { db, clock } = deps;
  app.addSchema(FiguresShown);
  app.addSchema(QueueShown);
  app.addSchema(DeliveryStats);

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

  registerTrendsRoute(app, deps);

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
      const webhookIds = await webhooksOf(deps, caller, query.webhook_id);
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
      const webhookIds = await webhooksOf(deps, caller, query.webhook_id);
      const { event_type: eventType } = query;
      const counts = await readCounts(db, caller, { webhookIds, eventType, ranges: period.ranges });
      return { ...showPeriod(period), ...showFailures(figuresOf(counts.get('') ?? new Map())) };
    },
  );

  registerWebhookFiguresRoutes(app, deps);
}
