import type { Client } from 'pg';
import { ALL_TYPES, ALL_WEBHOOKS } from '../src/analytics/series.ts';
import { formatId } from '../src/kernel/ids.ts';
import { distributionOf } from './figures.ts';
import type { Options } from './options.ts';
import { checkRecords, posthornOf, publishSingle, type Running, type ScenarioResult } from './running.ts';
import { tenths, whole } from './table.ts';

const TENANT = 'bench-analytics';
const DAYS = 30;
const ATTEMPTS = 10_000_000;
const GOAL_MS = 200;
const REQUESTS = 60;

/** Writes what is counted of a month, and asks each analytics route for it. */
export async function runAnalytics(running: Running, options: Options, result: ScenarioResult): Promise<void> {
  const posthorn = posthornOf(running);
  const { webhooks, types } = options.sizes.counted;
  await posthorn.api.createTenants([TENANT]);
  const ids = await posthorn.api.createWebhooks(
    Array.from({ length: webhooks }, () => ({
      tenant: TENANT,
      eventType: 'bench.event',
      url: `http://127.0.0.1:${running.sinkPort}/w/0`,
    })),
  );
  const rows = await posthorn.database((client) => writeCounts(client, types));
  result.figures.push({ what: `rows of ${whole(ATTEMPTS)} attempts in ${DAYS} days`, measured: whole(rows) });
  // What was just recorded lies in tallies and parts.
  await publishSingle(running, Math.min(options.seconds, 2), 'publishes before', result);
  const webhook = formatId('webhook', ids[0] ?? '');
  for (const path of [
    'overview?window=30d',
    'overview?window=24h',
    'trends?interval=day&window=29d',
    'trends?interval=hour&window=29d',
    'trends?interval=minute&window=24h',
    `trends?interval=hour&window=29d&webhook_id=${webhook}`,
    'event-types?window=30d',
    'errors?window=30d',
    'webhooks?window=30d&limit=50',
    `webhooks/${webhook}?window=30d`,
  ]) {
    const shown = path.replace(webhook, '{id}');
    const tookUs = new Float64Array(REQUESTS);
    for (let request = 0; request < REQUESTS; request++) {
      const startMs = performance.now();
      const answer = await posthorn.api.get(TENANT, `/api/v1/analytics/${path}`);
      tookUs[request] = (performance.now() - startMs) * 1_000;
      if (request === 0 && path === 'overview?window=30d') checkTotal(Number(answer.total_attempts), result);
    }
    const { p50 = Number.NaN, p99 = Number.NaN } = distributionOf(tookUs) ?? {};
    result.figures.push({
      what: `${shown}, p50 and p99`,
      measured: `${tenths(p50)} ms, ${tenths(p99)} ms`,
      goal: `${GOAL_MS} ms`,
      met: p99 <= GOAL_MS,
    });
  }
  if (running.single !== undefined) await checkRecords(running, running.single, result);
}

/** Rows are whole attempts, so some are rounded away or up. */
function checkTotal(attempts: number, result: ScenarioResult): void {
  if (Math.abs(attempts / ATTEMPTS - 1) > 0.1) result.faults.push(`${attempts} attempts are shown of ${ATTEMPTS}`);
}

/**
 * Rows as they would be: of each webhook and event type (where there is less than an attempt to a row, of so many of them), and
 * of what these add up to. Each row has as many response times as attempts, a hundred at most, and 2 % answers with 500.
 */
async function writeCounts(client: Client, types: number): Promise<number> {
  const webhooks = `(SELECT w.id, false AS every FROM webhooks w JOIN tenants t ON t.id = w.tenant_id AND t.slug = '${TENANT}'
    UNION ALL SELECT '${ALL_WEBHOOKS}', true)`;
  const names = `(SELECT 'type.' || n AS name, false AS every FROM generate_series(1, ${types}) n UNION ALL SELECT '${ALL_TYPES}', true)`;
  let rows = 0;
  for (const [table, length, count] of [
    ['rollups_minute', 'minute', 3 * 1_440],
    ['rollups_hour', 'hour', DAYS * 24],
    ['rollups_day', 'day', DAYS],
  ] as const) {
    const all = `${ATTEMPTS / DAYS} * extract(epoch FROM interval '1 ${length}') / 86400`;
    const written = await client.query(
      `WITH series AS (
         SELECT w.id AS webhook_id, n.name AS event_type, ${all}
           / CASE WHEN w.every THEN 1 ELSE (SELECT count(*) - 1 FROM ${webhooks} x) END
           / CASE WHEN n.every THEN 1 ELSE ${types} END AS attempts
         FROM ${webhooks} w, ${names} n
       ),
       filled AS MATERIALIZED (
         SELECT s.*, f.keys, f.counts FROM series s CROSS JOIN LATERAL (
           SELECT array_agg(key) AS keys, array_agg(n) AS counts FROM (
             SELECT -1::smallint AS key, ceil(attempts * 40)::bigint AS n
             UNION ALL SELECT 1200, ceil(attempts * 0.98)::bigint
             UNION ALL SELECT 8500, ceil(attempts * 0.02)::bigint WHERE attempts > 20
             UNION ALL SELECT (10 + n)::smallint, ceil(attempts / least(100, ceil(attempts)))::bigint
               FROM generate_series(1, least(100, ceil(attempts))::int) n
           ) k
         ) f
       )
       INSERT INTO ${table} (tenant_id, environment_id, webhook_id, event_type, at, keys, counts)
       SELECT e.tenant_id, e.id, f.webhook_id, f.event_type, at, f.keys, f.counts
       FROM generate_series(
           date_bin('1 ${length}', now(), '2000-01-01Z') - interval '${count - 1} ${length}', now(), '1 ${length}'
         ) at, filled f, environments e JOIN tenants t ON t.id = e.tenant_id
       WHERE t.slug = '${TENANT}' AND e.name = 'production' AND random() < f.attempts`,
    );
    rows += written.rowCount ?? 0;
    await client.query(`VACUUM (ANALYZE) ${table}`);
  }
  return rows;
}
