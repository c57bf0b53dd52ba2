import { keysOfCodes } from '../../delivery/attempt-codes.ts';
import { ALL_TYPES, ALL_WEBHOOKS, LEVELS, type Level } from '../series.ts';

const NAMES = ['tenant_id', 'environment_id', 'webhook_id', 'event_type', 'at'];
const names = NAMES.join(', ');
const namesOf = (table: string) => NAMES.map((name) => `${table}.${name}`).join(', ');
const sameNames = (one: string, other: string) =>
  NAMES.map((name) => `${one}.${name} = ${other}.${name}`).join(' AND ');

/**
 * Adds parts to the rollups; gives how many rows of them it took. $1: rows at most.
 *
 * Only one in the cluster may do it at a time: a row is read, added to in memory and written, which takes a tenth of the time
 * of adding in the row itself when it counts a hundred buckets. What was counted for an environment that is gone is dropped.
 */
export const ADD_PARTS = {
  name: 'add-parts',
  text: `
WITH taken AS (
  DELETE FROM rollup_parts WHERE id IN (SELECT id FROM rollup_parts ORDER BY id LIMIT $1) RETURNING parts
),
coded AS (
  SELECT ${namesOf('p')}, u.code, u.n FROM taken, unnest(taken.parts) p CROSS JOIN LATERAL unnest(p.codes, p.counts) u (code, n)
  WHERE EXISTS (SELECT FROM environments e WHERE e.tenant_id = p.tenant_id AND e.id = p.environment_id)
),
part AS MATERIALIZED (SELECT ${names}, key, sum(n) AS n FROM (${keysOfCodes('coded')}) k GROUP BY ${names}, key),
counted AS MATERIALIZED (
  SELECT p.tenant_id, p.environment_id, s.webhook_id, s.event_type, p.at, p.key, sum(p.n) AS n
  FROM part p CROSS JOIN LATERAL (VALUES
    (p.webhook_id, p.event_type),
    (p.webhook_id, '${ALL_TYPES}'),
    ('${ALL_WEBHOOKS}'::uuid, p.event_type),
    ('${ALL_WEBHOOKS}'::uuid, '${ALL_TYPES}')
  ) s (webhook_id, event_type)
  GROUP BY p.tenant_id, p.environment_id, s.webhook_id, s.event_type, p.at, p.key
),${Object.keys(LEVELS)
    .map((level) => addedTo(level as Level))
    .join(',')}
SELECT count(*)::int AS rows FROM taken`,
} as const;

/** `date_bin` and not `date_trunc`, which asks the session for its time zone. */
function addedTo(level: Level): string {
  const { table } = LEVELS[level];
  return `
${level}_counted AS MATERIALIZED (
  SELECT tenant_id, environment_id, webhook_id, event_type, date_bin('1 ${level}', at, '2000-01-01Z') AS at, key, sum(n) AS n
  FROM counted GROUP BY 1, 2, 3, 4, 5, 6
),
${level}_added AS (
  INSERT INTO ${table} (${names}, keys, counts)
  SELECT ${names}, array_agg(key), array_agg(n) FROM (
    SELECT ${names}, key, sum(n)::bigint AS n FROM (
      SELECT ${names}, key, n FROM ${level}_counted
      UNION ALL
      SELECT ${namesOf('r')}, u.key, u.n
      FROM (SELECT DISTINCT ${names} FROM ${level}_counted) c
      JOIN ${table} r ON ${sameNames('r', 'c')}
      CROSS JOIN LATERAL unnest(r.keys, r.counts) u (key, n)
    ) both_sides
    GROUP BY ${names}, key
  ) summed
  GROUP BY ${names}
  ON CONFLICT (${names}) DO UPDATE SET keys = excluded.keys, counts = excluded.counts
)`;
}
