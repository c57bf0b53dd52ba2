import { type RawBuilder, sql } from 'kysely';
import type { Database } from '../db/pool.ts';
import { countCodes } from '../delivery/attempt-codes.ts';
import type { Scope } from '../http/caller.ts';
import type { Counts } from './figures.ts';
import { ALL_TYPES, ALL_WEBHOOKS, LEVELS, type Level, type Range } from './series.ts';

export interface CountsQuery {
  /** Only attempts to these; absent: to all, also to those that are gone. */
  webhookIds?: readonly string[] | undefined;
  eventType?: string | undefined;
  ranges: readonly Range[];
  /** Absent: all together, under an empty name. `webhook` needs `webhookIds`. A level: by the times (ms) at which they begin. */
  by?: 'event_type' | 'webhook' | Level;
}

/**
 * Reads how often each key was seen, by group. What is not added to the rollups yet is added, so the figures are as fresh as
 * the last commit: under load that is some ten thousand attempts, and else next to nothing.
 */
export async function readCounts(db: Database, scope: Scope, query: CountsQuery): Promise<Map<string, Counts>> {
  const { webhookIds, eventType, ranges, by } = query;
  if (ranges.length === 0 || webhookIds?.length === 0) return new Map();
  const group = groupOf(by);
  const mine = sql`tenant_id = ${scope.tenantId} AND environment_id = ${scope.environmentId}`;
  const ofWebhooks = webhookIds === undefined ? sql`` : sql`AND webhook_id = ANY (${webhookIds}::uuid[])`;
  const ofType = eventType === undefined ? sql`` : sql`AND event_type = ${eventType}`;
  const single = sql`${mine} ${ofWebhooks} ${ofType} AND (${sql.join(ranges.map(within), sql` OR `)})`;

  const webhook = webhookIds === undefined ? sql`AND webhook_id = ${ALL_WEBHOOKS}` : ofWebhooks;
  const type = by === 'event_type' && eventType === undefined ? sql`AND event_type <> ${ALL_TYPES}` : undefined;
  const typed = type ?? sql`AND event_type = ${eventType ?? ALL_TYPES}`;
  const added = ranges.map(
    (range) => sql`
      SELECT ${group} AS name, u.key, u.n FROM ${sql.table(LEVELS[range.level].table)}, unnest(keys, counts) u (key, n)
      WHERE ${mine} ${webhook} ${typed} AND ${within(range)}`,
  );
  const result = await sql<{ name: string; keys: string; counts: string }>`
    WITH noted AS (SELECT n.* FROM webhook_tallies, unnest(seen) n WHERE ${single}),
    parted AS (SELECT p.* FROM rollup_parts, unnest(parts) p WHERE ${single})
    SELECT name, array_to_string(array_agg(key), ',') AS keys, array_to_string(array_agg(n), ',') AS counts FROM (
      SELECT name, key, sum(n) AS n FROM (
        ${sql.join(added, sql` UNION ALL `)}
        UNION ALL
        SELECT ${group} AS name, u.key, u.n FROM parted, unnest(keys, counts) u (key, n)
        UNION ALL
        SELECT ${group} AS name, key, n FROM (${sql.raw(countCodes('noted'))}) counted
      ) seen GROUP BY name, key
    ) summed GROUP BY name`.execute(db);
  return new Map(result.rows.map((row) => [row.name, countsOf(row.keys, row.counts)]));
}

function groupOf(by: CountsQuery['by']): RawBuilder<unknown> {
  switch (by) {
    case undefined:
      return sql`''`;
    case 'event_type':
      return sql`event_type`;
    case 'webhook':
      return sql`webhook_id::text`;
    default:
      return sql.raw(`(extract(epoch FROM date_bin('1 ${by}', at, '2000-01-01Z')) * 1000)::bigint::text`);
  }
}

/** Parts and tallies name minutes, and so they are in the range of whichever level. */
function within({ fromMs, toMs }: Range): RawBuilder<unknown> {
  return sql`at >= ${new Date(fromMs)} AND at < ${new Date(toMs)}`;
}

function countsOf(keys: string, counts: string): Counts {
  const seen = counts.split(',');
  return new Map(keys.split(',').map((key, place) => [Number(key), Number(seen[place])]));
}
