import { type RawBuilder, sql } from 'kysely';
import type { Database } from '../db/pool.ts';
import { countCodes, keysOfCodes } from '../delivery/attempt-codes.ts';
import type { Scope } from '../http/caller.ts';
import { type Counts, sumOf } from './figures.ts';
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
  const asked = sql`${mine} ${ofWebhooks} ${ofType} AND (${sql.join(ranges.map(within), sql` OR `)})`;

  const webhook = webhookIds === undefined ? sql`AND webhook_id = ${ALL_WEBHOOKS}` : ofWebhooks;
  const type = by === 'event_type' && eventType === undefined ? sql`AND event_type <> ${ALL_TYPES}` : undefined;
  const typed = type ?? sql`AND event_type = ${eventType ?? ALL_TYPES}`;
  const added = (columns: RawBuilder<unknown>, more: RawBuilder<unknown>) =>
    sql.join(
      ranges.map(
        ({ level, ...range }) => sql`SELECT ${group} AS name, ${columns} FROM ${sql.table(LEVELS[level].table)} ${more}
          WHERE ${mine} ${webhook} ${typed} AND ${within(range)}`,
      ),
      sql` UNION ALL `,
    );
  // A row that is a group by itself is not taken apart: that would be most of the time where there are a thousand.
  const single = (webhookIds === undefined || webhookIds.length === 1) && ranges.every(({ level }) => level === by);
  const each = sql`, unnest(keys, counts) u (key, n)`;
  const result = await sql<{ name: string; keys: string; counts: string }>`
    WITH noted AS (SELECT n.* FROM webhook_tallies, unnest(seen) n WHERE ${asked}),
    parted AS (SELECT p.* FROM rollup_parts, unnest(parts) p WHERE ${asked}),
    coded AS (
      ${sql.raw(countCodes('noted'))}
      UNION ALL
      SELECT tenant_id, environment_id, webhook_id, event_type, at, u.code, u.n FROM parted, unnest(codes, counts) u (code, n)
    )
    SELECT name, array_to_string(array_agg(key), ',') AS keys, array_to_string(array_agg(n), ',') AS counts FROM (
      SELECT name, key, sum(n) AS n FROM (
        ${single ? sql`` : sql`${added(sql`u.key, u.n`, each)} UNION ALL`}
        SELECT ${group} AS name, key, n FROM (${sql.raw(keysOfCodes('coded'))}) latest
      ) seen GROUP BY name, key
    ) summed GROUP BY name
    ${single ? sql`UNION ALL ${added(sql`array_to_string(keys, ','), array_to_string(counts, ',')`, sql``)}` : sql``}
  `.execute(db);
  const groups = new Map<string, Counts>();
  for (const { name, keys, counts } of result.rows) {
    const [known, read] = [groups.get(name), countsOf(keys, counts)];
    groups.set(name, known === undefined ? read : sumOf([known, read]));
  }
  return groups;
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
function within({ fromMs, toMs }: Pick<Range, 'fromMs' | 'toMs'>): RawBuilder<unknown> {
  return sql`at >= ${new Date(fromMs)} AND at < ${new Date(toMs)}`;
}

function countsOf(keys: string, counts: string): Counts {
  const seen = counts.split(',');
  return new Map(keys.split(',').map((key, place) => [Number(key), Number(seen[place])]));
}
