import { Type } from 'typebox';
import { webhookStats } from '../delivery/queries.ts';
import { DeliveryStats } from '../delivery/shown.ts';
import type { Reach } from '../http/caller.ts';
import { PageOf, PageQuery, readPage, toPage } from '../http/pagination.ts';
import type { HttpServer } from '../http/server.ts';
import { formatId } from '../kernel/ids.ts';
import { WEBHOOK_STATUSES } from '../webhooks/settings.ts';
import type { AnalyticsDeps } from './deps.ts';
import { figuresOf, percent, sumOf } from './figures.ts';
import { type Period, PeriodQuery, readPeriod } from './period.ts';
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
import { listReached, requireWebhook } from './webhooks.ts';

const config = { permission: 'read', portal: 'read' } as const;
const tags = ['Analytics'];

/** Figures of webhooks: of each in a list, and of one. */
export function registerWebhookFiguresRoutes(app: HttpServer, deps: AnalyticsDeps): void {
  const { db, clock } = deps;

  app.get(
    '/api/v1/analytics/webhooks',
    {
      config,
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
      config,
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
      const webhookId = await requireWebhook(deps, caller, params.id);
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
      config,
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
      const webhookId = await requireWebhook(deps, caller, params.id);
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
