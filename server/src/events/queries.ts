import { type Selectable, sql } from 'kysely';
import type { Database } from '../db/pool.ts';
import type { Tables } from '../db/tables.ts';
import { containing } from '../delivery/queries.ts';
import type { Reach, Scope } from '../http/caller.ts';
import type { PageRequest } from '../http/pagination.ts';
import { firstIdAt, parseId } from '../kernel/ids.ts';
import type { FilteredContent } from '../routing/filters/filtered-event.ts';
import { isWithin } from '../webhooks/owner.ts';

/** An event without its payload: lists do not carry megabytes. */
export type EventRow = Omit<Selectable<Tables['events']>, 'data' | 'metadata'>;

export interface EventFilter {
  eventType?: string | undefined;
  sinceMs?: number | undefined;
  untilMs?: number | undefined;
  /** Part of the type or of the publisher's id. */
  q?: string | undefined;
  /** `q` is looked for in the publisher's ids too. */
  qInEventIds: boolean;
  webhookId?: string | undefined;
  status?: string | undefined;
}

const COLUMNS = [
  'tenant_id',
  'environment_id',
  'id',
  'external_id',
  'event_type',
  'occurred_at',
  'ordering_key',
  'priority',
  'deliver_at',
  'delivery_count',
  'is_test',
] as const;

/** Newest first, one more than the page holds. `webhookId` and `status` ask for events with such a delivery. */
export function listEvents(db: Database, scope: Scope, filter: EventFilter, page: PageRequest): Promise<EventRow[]> {
  const like = containing(filter.q ?? '');
  return db
    .selectFrom('events as e')
    .select(COLUMNS.map((column) => `e.${column}` as const))
    .where('e.tenant_id', '=', scope.tenantId)
    .where('e.environment_id', '=', scope.environmentId)
    .$if(filter.eventType !== undefined, (query) => query.where('e.event_type', '=', filter.eventType ?? ''))
    .$if(filter.sinceMs !== undefined, (query) => query.where('e.id', '>=', firstIdAt(filter.sinceMs ?? 0)))
    .$if(filter.untilMs !== undefined, (query) => query.where('e.id', '<', firstIdAt(filter.untilMs ?? 0)))
    .$if(filter.q !== undefined, (query) =>
      query.where(({ or, eb }) =>
        or([eb('e.event_type', 'ilike', like), ...(filter.qInEventIds ? [eb('e.external_id', 'ilike', like)] : [])]),
      ),
    )
    .$if(filter.webhookId !== undefined || filter.status !== undefined, (query) =>
      query.where(({ exists, selectFrom }) =>
        exists(
          selectFrom('deliveries as d')
            .select('d.id')
            .where('d.tenant_id', '=', scope.tenantId)
            .whereRef('d.event_id', '=', 'e.id')
            .$if(filter.webhookId !== undefined, (inner) => inner.where('d.webhook_id', '=', filter.webhookId ?? ''))
            .$if(filter.status !== undefined, (inner) => inner.where(sql<string>`d.status`, '=', filter.status ?? '')),
        ),
      ),
    )
    .$if(page.beforeId !== undefined, (query) => query.where('e.id', '<', page.beforeId ?? ''))
    .orderBy('e.id', 'desc')
    .limit(page.limit + 1)
    .execute();
}

/** To a caller with an owner, an event that went to no webhook of the owner is not there. */
export function findEvent(db: Database, reach: Reach, id: string): Promise<Selectable<Tables['events']> | undefined> {
  return db
    .selectFrom('events')
    .selectAll()
    .where('tenant_id', '=', reach.tenantId)
    .where('environment_id', '=', reach.environmentId)
    .where('id', '=', id)
    .$if(reach.owner !== undefined, (query) =>
      query.where(({ exists, selectFrom }) =>
        exists(
          selectFrom('deliveries as d')
            .select('d.id')
            .where('d.tenant_id', '=', reach.tenantId)
            .where('d.event_id', '=', id)
            .where(isWithin(reach, 'd.webhook_id')),
        ),
      ),
    )
    .executeTakeFirst();
}

/** What filters may ask of an event; undefined once its payload is erased. */
export function filteredContent(row: Selectable<Tables['events']>): FilteredContent | undefined {
  const { data, metadata } = row;
  if (data === null) return undefined;
  return { type: row.event_type, eventId: row.external_id, occurredAtMs: row.occurred_at.getTime(), data, metadata };
}

/** UUID of an event by its TypeID or the publisher's own id; undefined where neither is known. */
export async function findEventId(db: Database, scope: Scope, id: string): Promise<string | undefined> {
  if (id.includes('\0')) return undefined;
  const own = await db
    .selectFrom('event_keys')
    .select('event_id')
    .where('tenant_id', '=', scope.tenantId)
    .where('environment_id', '=', scope.environmentId)
    .where('kind', '=', 'event_id')
    .where('key', '=', id)
    .executeTakeFirst();
  return own?.event_id ?? parseId('event', id);
}

/** Deliveries of an event, in the order they were made. */
export function deliveriesOf(db: Database, reach: Reach, eventId: string) {
  return db
    .selectFrom('deliveries')
    .selectAll()
    .where('tenant_id', '=', reach.tenantId)
    .where('environment_id', '=', reach.environmentId)
    .where('event_id', '=', eventId)
    .where(isWithin(reach, 'webhook_id'))
    .orderBy('id')
    .limit(DELIVERIES_SHOWN_MAX)
    .execute();
}

/** Deliveries shown with an event; more are in `GET /api/v1/deliveries?event_id=`. */
const DELIVERIES_SHOWN_MAX = 250;

const DAY_MS = 86_400_000;

/** How long keys are remembered. */
const KEY_LIFETIMES_MS = { idempotency_key: DAY_MS, event_id: 30 * DAY_MS } as const;

/** Keys that a statement removes at most: those of a busy hour would take longer than a statement may. */
const PURGED_AT_ONCE = 5_000;

/** Forgets keys whose time is over, of all tenants; gives their number. */
export async function purgeEventKeys(db: Database, nowMs: number): Promise<number> {
  let purged = 0;
  for (const [kind, lifetimeMs] of Object.entries(KEY_LIFETIMES_MS)) {
    const before = new Date(nowMs - lifetimeMs);
    for (let removed = PURGED_AT_ONCE; removed === PURGED_AT_ONCE; purged += removed) {
      const result = await sql`DELETE FROM event_keys WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM event_keys WHERE kind = ${kind} AND created_at < ${before} LIMIT ${PURGED_AT_ONCE}))`.execute(
        db,
      );
      removed = Number(result.numAffectedRows ?? 0);
    }
  }
  return purged;
}
