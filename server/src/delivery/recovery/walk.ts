import { type RawBuilder, sql } from 'kysely';
import type { Database } from '../../db/pool.ts';
import type { Scope } from '../../http/caller.ts';
import { firstIdAt } from '../../kernel/ids.ts';
import { isOfOwner } from '../../webhooks/owner.ts';
import { containing } from '../queries.ts';
import { meansDeadOnly, type RecoveryFilter } from './filter.ts';

/**
 * Rows that a statement looks at, whether they match or not. It bounds the statement where few of a million deliveries
 * match: the next one goes on behind them.
 */
const LOOK_ROWS_MAX = 5_000;

/** The next part of a walk over the deliveries that a filter means, the oldest first. */
export interface Stretch {
  /** Those that match, in order. */
  ids: string[];
  /** Everything up to here was looked at. */
  cursor: string;
  /** There is nothing behind the cursor. */
  isLast: boolean;
}

/** Where a walk begins. */
export function firstCursor(filter: RecoveryFilter): string {
  return firstIdAt(filter.sinceMs ?? 0);
}

/** Looks at up to 5,000 deliveries behind `afterId`, and gives at most `idsMax` of those that match. */
export async function nextStretch(
  db: Database,
  scope: Scope,
  filter: RecoveryFilter,
  afterId: string,
  idsMax: number,
): Promise<Stretch> {
  const found = await sql<{ id: string }>`
    SELECT id FROM (${inRange(scope, filter, afterId, LOOK_ROWS_MAX)}) AS looked
    WHERE ${ofScope(scope, filter)} ORDER BY id LIMIT ${idsMax}`.execute(db);
  const ids = found.rows.map(({ id }) => id);
  const last = ids.at(-1);
  if (last !== undefined && ids.length === idsMax) return { ids, cursor: last, isLast: false };
  const end = await sql<{ id: string }>`
    SELECT id FROM (${inRange(scope, filter, afterId, LOOK_ROWS_MAX)}) AS looked
    ORDER BY id OFFSET ${LOOK_ROWS_MAX - 1}`.execute(db);
  const cursor = end.rows[0]?.id;
  return { ids, cursor: cursor ?? last ?? afterId, isLast: cursor === undefined };
}

/** How many deliveries a filter means. */
export interface Estimate {
  count: number;
  /** They were counted. Otherwise there are about so many. */
  isExact: boolean;
}

/** Looked at by a count, which takes up to 0.1 s (measured); beyond it the planner's statistics speak. */
const COUNT_ROWS_MAX = 100_000;

export async function estimate(
  db: Database,
  scope: Scope,
  filter: RecoveryFilter,
  rowsMax = COUNT_ROWS_MAX,
): Promise<Estimate> {
  const counted = await sql<{ looked: number; matching: number }>`
    SELECT count(*) AS looked, count(*) FILTER (WHERE ${ofScope(scope, filter)}) AS matching
    FROM (${inRange(scope, filter, firstCursor(filter), rowsMax)}) AS looked`.execute(db);
  const { looked = 0, matching = 0 } = counted.rows[0] ?? {};
  if (looked < rowsMax) return { count: matching, isExact: true };
  return { count: Math.max(matching, await plannedRows(db, scope, filter)), isExact: false };
}

/**
 * The planner's guess, from statistics alone: nothing is read. The environment, webhook or event stands without its tenant,
 * which it implies: the planner takes them for independent and would count the tenant's share twice.
 */
async function plannedRows(db: Database, scope: Scope, filter: RecoveryFilter): Promise<number> {
  const { table, id, status, owner } = source(scope, filter);
  const plan = await sql<{ 'QUERY PLAN': [{ Plan: { 'Plan Rows': number } }] }>`
    EXPLAIN (FORMAT JSON) SELECT FROM ${table}
    WHERE ${owner} AND ${id} > ${firstCursor(filter)} AND ${id} < ${firstIdAt(filter.untilMs)}
      AND ${matches(scope, filter, status)}`.execute(db);
  return plan.rows[0]?.['QUERY PLAN'][0].Plan['Plan Rows'] ?? 0;
}

/** The deliveries, or dead letters, of the range in order, `limit` of them at most. */
function inRange(scope: Scope, filter: RecoveryFilter, afterId: string, limit: number): RawBuilder<unknown> {
  const { table, id, status, owner } = source(scope, filter);
  return sql`SELECT ${id} AS id, environment_id, webhook_id, event_id, event_type, response_status, ${status} AS status
    FROM ${table}
    WHERE tenant_id = ${scope.tenantId} AND ${owner} AND ${id} > ${afterId} AND ${id} < ${firstIdAt(filter.untilMs)}
    ORDER BY ${id} LIMIT ${limit}`;
}

/**
 * Where they are looked for. An event or webhook belongs to one environment; naming both would let the planner walk the
 * whole environment for the few rows of one event or webhook.
 */
function source(scope: Scope, filter: RecoveryFilter) {
  const letters = meansDeadOnly(filter);
  return {
    table: sql.table(letters ? 'dead_letters' : 'deliveries'),
    id: sql.ref(letters ? 'delivery_id' : 'id'),
    status: letters ? sql`'dead'` : sql`status`,
    owner: narrowest(scope, filter),
  };
}

function narrowest(scope: Scope, { eventId, webhookId }: RecoveryFilter): RawBuilder<unknown> {
  if (eventId !== undefined) return sql`event_id = ${eventId}`;
  if (webhookId !== undefined) return sql`webhook_id = ${webhookId}`;
  return sql`environment_id = ${scope.environmentId}`;
}

function ofScope(scope: Scope, filter: RecoveryFilter): RawBuilder<unknown> {
  return sql`environment_id = ${scope.environmentId} AND ${matches(scope, filter, sql`status`)}`;
}

function matches(scope: Scope, filter: RecoveryFilter, status: RawBuilder<unknown>): RawBuilder<unknown> {
  const conditions = [sql`true`];
  if (filter.eventId !== undefined && filter.webhookId !== undefined) {
    conditions.push(sql`webhook_id = ${filter.webhookId}`);
  }
  if (filter.eventType !== undefined) conditions.push(sql`event_type = ${filter.eventType}`);
  if (filter.responseStatus !== undefined) conditions.push(sql`response_status = ${filter.responseStatus}`);
  if (filter.q !== undefined) conditions.push(sql`event_type ILIKE ${containing(filter.q)}`);
  if (filter.owner !== undefined) conditions.push(isOfOwner(scope, filter.owner, 'webhook_id'));
  if (filter.statuses !== undefined) conditions.push(sql`${status} = ANY (${[...filter.statuses]}::text[])`);
  return sql.join(conditions, sql` AND `);
}
