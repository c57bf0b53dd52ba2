import { type Selectable, type SqlBool, sql } from 'kysely';
import type { Recording } from '../audit/log.ts';
import { changeText } from '../db/notify.ts';
import type { Database } from '../db/pool.ts';
import type { Tables } from '../db/tables.ts';
import type { Reach, Scope } from '../http/caller.ts';
import type { PageRequest } from '../http/pagination.ts';
import { notFound } from '../kernel/errors.ts';
import { firstIdAt } from '../kernel/ids.ts';
import { uncounted, uncountedFiltered } from '../webhooks/counts.ts';
import { isWithin } from '../webhooks/owner.ts';
import { statusesAllowing } from './transitions.ts';

export type DeliveryRow = Selectable<Tables['deliveries']>;
export type DeadLetterRow = Selectable<Tables['dead_letters']>;

/** An attempt, with what its body is built from. */
export type AttemptRow = Selectable<Tables['attempts']> & {
  external_id: string | null;
  occurred_at: Date | null;
  data: Buffer | null;
  metadata: Buffer | null;
};

export interface DeliveryFilter {
  status?: DeliveryRow['status'] | undefined;
  webhookId?: string | undefined;
  eventId?: string | undefined;
  eventType?: string | undefined;
  responseStatus?: number | undefined;
  sinceMs?: number | undefined;
  untilMs?: number | undefined;
  /** Part of the event type. */
  q?: string | undefined;
}

/** Newest first, one more than the page holds. */
export function listDeliveries(
  db: Database,
  reach: Reach,
  filter: DeliveryFilter,
  page: PageRequest,
): Promise<DeliveryRow[]> {
  const found = db
    .selectFrom('deliveries')
    .selectAll()
    .where('tenant_id', '=', reach.tenantId)
    .$if(filter.status !== undefined, (query) => query.where('status', '=', filter.status ?? 'pending'))
    .$if(filter.webhookId !== undefined, (query) => query.where('webhook_id', '=', filter.webhookId ?? ''))
    .$if(filter.eventId !== undefined, (query) => query.where('event_id', '=', filter.eventId ?? ''))
    .$if(filter.eventType !== undefined, (query) => query.where('event_type', '=', filter.eventType ?? ''))
    .$if(filter.responseStatus !== undefined, (query) =>
      query.where('response_status', '=', filter.responseStatus ?? 0),
    )
    .$if(filter.sinceMs !== undefined, (query) => query.where('id', '>=', firstIdAt(filter.sinceMs ?? 0)))
    .$if(filter.untilMs !== undefined, (query) => query.where('id', '<', firstIdAt(filter.untilMs ?? 0)))
    .$if(filter.q !== undefined, (query) => query.where('event_type', 'ilike', containing(filter.q ?? '')))
    .$if(page.beforeId !== undefined, (query) => query.where('id', '<', page.beforeId ?? ''))
    .orderBy('id', 'desc')
    .limit(page.limit + 1);
  if (reach.owner === undefined) return found.where('environment_id', '=', reach.environmentId).execute();
  return webhooksOf(db, reach)
    .innerJoinLateral(
      () => found.where(OF_THIS_WEBHOOK).as('d'),
      (join) => join.onTrue(),
    )
    .selectAll('d')
    .orderBy('d.id', 'desc')
    .limit(page.limit + 1)
    .execute();
}

/**
 * The webhooks of the caller's owner. Lists take the newest rows of each and then the newest of all: an owner with few
 * among the millions of an environment must not wait until these are read. Measured: 20 deliveries beside 600,000 of
 * another owner's are listed in 5 ms. A webhook belongs to one environment.
 */
function webhooksOf(db: Database, reach: Reach) {
  return db
    .selectFrom('webhooks as w')
    .where('w.tenant_id', '=', reach.tenantId)
    .where('w.environment_id', '=', reach.environmentId)
    .where('w.owner', '=', reach.owner ?? '');
}

const OF_THIS_WEBHOOK = sql<SqlBool>`webhook_id = w.id`;

/** A LIKE pattern for texts that hold this one, whatever they mean to LIKE. */
export function containing(text: string): string {
  return `%${text.replaceAll(/[\\%_]/g, '\\$&')}%`;
}

export function findDelivery(db: Database, reach: Reach, id: string): Promise<DeliveryRow | undefined> {
  return db
    .selectFrom('deliveries')
    .selectAll()
    .where('tenant_id', '=', reach.tenantId)
    .where('environment_id', '=', reach.environmentId)
    .where('id', '=', id)
    .where(isWithin(reach, 'webhook_id'))
    .executeTakeFirst();
}

/** There is nothing to send of the event any more. */
export async function payloadIsErased(db: Database, scope: Scope, eventId: string): Promise<boolean> {
  const kept = await db
    .selectFrom('events')
    .select('id')
    .where('tenant_id', '=', scope.tenantId)
    .where('environment_id', '=', scope.environmentId)
    .where('id', '=', eventId)
    .where('data', 'is not', null)
    .executeTakeFirst();
  return kept === undefined;
}

/** All attempts of a delivery, the first one first. */
export function attemptsOf(db: Database, scope: Scope, deliveryId: string): Promise<AttemptRow[]> {
  return attempts(db, scope).where('a.delivery_id', '=', deliveryId).orderBy('a.number').execute();
}

/** A webhook's attempts, newest first, one more than the page holds. */
export function listAttempts(
  db: Database,
  reach: Reach,
  filter: { webhookId: string; success?: boolean | undefined },
  page: PageRequest,
): Promise<AttemptRow[]> {
  return attempts(db, reach)
    .where('a.webhook_id', '=', filter.webhookId)
    .where(isWithin(reach, 'a.webhook_id'))
    .$if(filter.success !== undefined, (query) => query.where('a.error_class', filter.success ? 'is' : 'is not', null))
    .$if(page.beforeId !== undefined, (query) => query.where('a.id', '<', page.beforeId ?? ''))
    .orderBy('a.id', 'desc')
    .offset(page.skip ?? 0)
    .limit(page.limit + 1)
    .execute();
}

function attempts(db: Database, scope: Scope) {
  return db
    .selectFrom('attempts as a')
    .leftJoin('events as e', (join) =>
      join
        .onRef('e.tenant_id', '=', 'a.tenant_id')
        .onRef('e.environment_id', '=', 'a.environment_id')
        .onRef('e.id', '=', 'a.event_id'),
    )
    .selectAll('a')
    .select(['e.external_id', 'e.occurred_at', 'e.data', 'e.metadata'])
    .where('a.tenant_id', '=', scope.tenantId)
    .where('a.environment_id', '=', scope.environmentId);
}

export function listDeadLetters(
  db: Database,
  reach: Reach,
  filter: Omit<DeliveryFilter, 'status'>,
  page: PageRequest,
): Promise<DeadLetterRow[]> {
  const found = db
    .selectFrom('dead_letters')
    .selectAll()
    .where('tenant_id', '=', reach.tenantId)
    .$if(filter.webhookId !== undefined, (query) => query.where('webhook_id', '=', filter.webhookId ?? ''))
    .$if(filter.eventId !== undefined, (query) => query.where('event_id', '=', filter.eventId ?? ''))
    .$if(filter.eventType !== undefined, (query) => query.where('event_type', '=', filter.eventType ?? ''))
    .$if(filter.responseStatus !== undefined, (query) =>
      query.where('response_status', '=', filter.responseStatus ?? 0),
    )
    .$if(filter.sinceMs !== undefined, (query) => query.where('delivery_id', '>=', firstIdAt(filter.sinceMs ?? 0)))
    .$if(filter.untilMs !== undefined, (query) => query.where('delivery_id', '<', firstIdAt(filter.untilMs ?? 0)))
    .$if(filter.q !== undefined, (query) => query.where('event_type', 'ilike', containing(filter.q ?? '')))
    .$if(page.beforeId !== undefined, (query) => query.where('delivery_id', '<', page.beforeId ?? ''))
    .orderBy('delivery_id', 'desc')
    .limit(page.limit + 1);
  if (reach.owner === undefined) return found.where('environment_id', '=', reach.environmentId).execute();
  return webhooksOf(db, reach)
    .innerJoinLateral(
      () => found.where(OF_THIS_WEBHOOK).as('d'),
      (join) => join.onTrue(),
    )
    .selectAll('d')
    .orderBy('d.delivery_id', 'desc')
    .limit(page.limit + 1)
    .execute();
}

/** Waiting deliveries are counted up to here: a count of a million rows would cost more than it tells. */
const WAITING_COUNTED_MAX = 10_000;

export async function webhookStats(db: Database, tenantId: string, webhookId: string) {
  const totals = await db
    .selectFrom('webhooks')
    .leftJoin('webhook_totals as totals', (join) =>
      join.onRef('totals.tenant_id', '=', 'webhooks.tenant_id').onRef('totals.webhook_id', '=', 'webhooks.id'),
    )
    .leftJoin(uncounted(tenantId), (join) => join.onRef('uncounted.webhook_id', '=', 'webhooks.id'))
    .leftJoin(uncountedFiltered(tenantId), (join) => join.onRef('uncounted_filtered.webhook_id', '=', 'webhooks.id'))
    .select([
      sql<number>`coalesce(totals.filtered, 0) + coalesce(uncounted_filtered.filtered, 0)`.as('filtered'),
      sql<number>`coalesce(totals.delivered, 0) + coalesce(uncounted.delivered, 0)`.as('delivered'),
      sql<number>`coalesce(totals.dead, 0) + coalesce(uncounted.dead, 0)`.as('dead'),
      sql<number>`coalesce(totals.attempts, 0) + coalesce(uncounted.attempts, 0)`.as('attempts'),
      sql<number>`coalesce(totals.response_time_ms_sum, 0) + coalesce(uncounted.response_time_ms, 0)`.as(
        'response_time_ms_sum',
      ),
      sql<Date | null>`greatest(totals.last_triggered_at, uncounted.last_at)`.as('last_triggered_at'),
    ])
    .where('webhooks.tenant_id', '=', tenantId)
    .where('webhooks.id', '=', webhookId)
    .executeTakeFirstOrThrow(() => notFound('webhook'));
  const waiting = await db
    .selectFrom((query) =>
      query
        .selectFrom('deliveries')
        .select('id')
        .where('tenant_id', '=', tenantId)
        .where('webhook_id', '=', webhookId)
        .where('due_at', 'is not', null)
        .limit(WAITING_COUNTED_MAX)
        .as('counted'),
    )
    .select(({ fn }) => fn.countAll<number>().as('count'))
    .executeTakeFirstOrThrow();
  return { totals, waiting: waiting.count };
}

/**
 * Makes a delivery due now by a person's wish. Only one that nobody has in hand can be: undefined otherwise. Every node
 * is told in the same transaction.
 */
export function retryNow(
  db: Database,
  scope: Reach,
  id: string,
  nowMs: number,
  onRetry?: Recording<DeliveryRow>,
): Promise<DeliveryRow | undefined> {
  return db.transaction().execute(async (trx) => {
    const row = await trx
      .updateTable('deliveries')
      .set({
        status: sql`CASE WHEN attempt_count > 0 THEN 'failed' ELSE 'pending' END`,
        status_reason: null,
        trigger: 'manual',
        due_at: new Date(nowMs),
        completed_at: null,
      })
      .where('tenant_id', '=', scope.tenantId)
      .where('environment_id', '=', scope.environmentId)
      .where('id', '=', id)
      .where('status', 'in', statusesAllowing('retry'))
      .where('lease_node', 'is', null)
      .where('trigger', '<>', 'test')
      .where(isWithin(scope, 'webhook_id'))
      .returningAll()
      .executeTakeFirst();
    if (row === undefined) return undefined;
    await trx
      .deleteFrom('dead_letters')
      .where('tenant_id', '=', scope.tenantId)
      .where('environment_id', '=', scope.environmentId)
      .where('delivery_id', '=', id)
      .execute();
    const change = changeText({
      topic: 'deliveries_due',
      tenantId: scope.tenantId,
      environmentId: scope.environmentId,
    });
    await sql`SELECT pg_notify('posthorn_changes', ${change})`.execute(trx);
    await onRetry?.(trx, row);
    return row;
  });
}
