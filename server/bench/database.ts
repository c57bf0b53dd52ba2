import { readFileSync, readlinkSync, realpathSync } from 'node:fs';
import path from 'node:path';
import { Client } from 'pg';
import { dataAround, SEQUENCE_DIGITS } from './publish-request.ts';

/** What the rows say of a webhook's deliveries. */
export interface DeliveryRecords {
  delivered: number;
  /** Neither delivered nor given up: pending, failed (a retry follows) or held. */
  waiting: number;
  /** Ended otherwise. */
  givenUp: number;
  attempts: number;
}

const CONNECT_MS_MAX = 5_000;

/** Connects to the embedded PostgreSQL of a data folder, past Posthorn. */
export async function withDatabase<T>(folder: string, work: (client: Client) => Promise<T>): Promise<T> {
  const cluster = clusterOf(folder);
  // Lines of postmaster.pid: process id, data directory, start time, port, socket directory.
  const [, , , port = '', sockets = ''] = readFileSync(path.join(cluster, 'postmaster.pid'), 'utf8').split('\n');
  const client = new Client({
    host: path.resolve(cluster, sockets),
    port: Number(port),
    user: 'posthorn',
    database: 'posthorn',
    connectionTimeoutMillis: CONNECT_MS_MAX,
  });
  // The query under way fails with the same reason.
  client.on('error', () => {});
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

/** Process id of a PostgreSQL that runs in the data folder although no Posthorn does; none, or one. */
export function leftOverPostgres(folder: string): number[] {
  try {
    const cluster = clusterOf(folder);
    const pid = Number(readFileSync(path.join(cluster, 'postmaster.pid'), 'utf8').split('\n')[0]);
    // The number may belong to another process by now; PostgreSQL's working directory is its cluster.
    return readlinkSync(`/proc/${pid}/cwd`) === cluster ? [pid] : [];
  } catch {
    return [];
  }
}

function clusterOf(folder: string): string {
  return path.join(realpathSync(folder), 'postgres');
}

/** Deliveries of these webhooks that a process holds in memory. */
export async function countInHand(client: Client, webhookIds: readonly string[]): Promise<number> {
  const result = await client.query<{ count: string }>(
    'SELECT count(*) FROM deliveries WHERE webhook_id = ANY ($1) AND lease_node IS NOT NULL',
    [webhookIds],
  );
  return Number(result.rows[0]?.count);
}

/** By webhook id; webhooks without deliveries are absent. It reads the rows themselves, whatever statistics say. */
export async function recordsOf(client: Client, webhookIds: readonly string[]): Promise<Map<string, DeliveryRecords>> {
  const result = await client.query<Record<keyof DeliveryRecords | 'webhook_id', string>>(
    `SELECT webhook_id, count(*) FILTER (WHERE status = 'delivered') AS delivered,
       count(*) FILTER (WHERE status IN ('pending', 'failed', 'held')) AS waiting,
       count(*) FILTER (WHERE status NOT IN ('delivered', 'pending', 'failed', 'held')) AS "givenUp",
       sum(attempt_count) AS attempts
     FROM deliveries WHERE webhook_id = ANY ($1::uuid[]) GROUP BY webhook_id`,
    [webhookIds],
  );
  return new Map(
    result.rows.map((row) => [
      row.webhook_id,
      {
        delivered: Number(row.delivered),
        waiting: Number(row.waiting),
        givenUp: Number(row.givenUp),
        attempts: Number(row.attempts),
      },
    ]),
  );
}

/** What the deliveries that were not delivered are at, the most frequent first, for a reader who looks for the reason. */
export async function describeUndelivered(client: Client, webhookIds: readonly string[]): Promise<string> {
  const result = await client.query<{ state: string; count: string }>(
    `SELECT concat_ws(' ', status, CASE WHEN lease_node IS NOT NULL THEN 'in hand' END,
         'after', attempt_count, 'attempts', error_class) AS state, count(*)
     FROM deliveries WHERE webhook_id = ANY ($1::uuid[]) AND status <> 'delivered'
     GROUP BY state ORDER BY count(*) DESC LIMIT 8`,
    [webhookIds],
  );
  return result.rows.map(({ state, count }) => `${count} ${state}`).join(', ') || 'none';
}

export interface Backlog {
  /** Slug. */
  tenant: string;
  eventType: string;
  /** Number of the measurement, for the events' markers. */
  run: number;
  /** Webhooks whose deliveries are to be delivered in the end: event n goes to number n modulo theirs. They are paused. */
  resumed: readonly string[];
  /** How many events go to those: the first ones. */
  resumedDeliveries: number;
  /** The rest goes to these by turns: paused ones, whose deliveries are held, and failing ones, whose wait for a retry. */
  paused: readonly string[];
  failing: readonly string[];
  deliveries: number;
}

const ROWS_AT_ONCE = 50_000;

/**
 * Writes events with a waiting delivery each, as an hour of outages would leave them: publishing so many takes minutes.
 * The failed ones have one attempt behind them and are due between one hour and eleven from now; the rows of those
 * attempts are not made. Tables are vacuumed and a checkpoint is made at the end, as would have happened in that hour.
 */
export async function writeBacklog(client: Client, backlog: Backlog): Promise<void> {
  const { resumed, paused, failing, deliveries } = backlog;
  const { before, after } = dataAround(backlog.run);
  for (let from = 0; from < deliveries; from += ROWS_AT_ONCE) {
    await client.query(WRITE_WAITING, [
      from,
      Math.min(from + ROWS_AT_ONCE, deliveries) - 1,
      deliveries,
      backlog.tenant,
      backlog.eventType,
      before,
      after,
      [...resumed, ...paused, ...failing],
      resumed.length,
      backlog.resumedDeliveries,
      resumed.length + paused.length,
    ]);
  }
  await client.query('VACUUM (ANALYZE) events, deliveries');
  await client.query('CHECKPOINT');
}

/**
 * $1 first, $2 last, $3 all, $4 tenant, $5 event type, $6 and $7 data around the event's number, $8 webhooks,
 * $9 webhooks that are resumed, $10 events that go to those, $11 webhooks that are paused.
 */
const WRITE_WAITING = `
WITH scope AS (
  SELECT e.tenant_id, e.id AS environment_id FROM tenants t JOIN environments e ON e.tenant_id = t.id
  WHERE t.slug = $4 AND e.name = 'production'
),
numbered AS MATERIALIZED (
  SELECT
    n, uuidv7(age) AS event_id, uuidv7(age) AS delivery_id, now() + age AS occurred_at,
    CASE WHEN n < $10 THEN n % $9 ELSE $9 + n % (array_length($8::uuid[], 1) - $9) END AS webhook
  FROM generate_series($1::int, $2::int) AS n
  CROSS JOIN LATERAL (SELECT make_interval(secs => -3600 * (1 - n::float8 / $3::int)) AS age) AS a
),
stored AS (
  INSERT INTO events
    (tenant_id, environment_id, id, event_type, occurred_at, data, priority, delivery_count, is_test)
  SELECT tenant_id, environment_id, event_id, $5, occurred_at,
    convert_to($6 || lpad(n::text, ${SEQUENCE_DIGITS}, '0') || $7, 'UTF8'), 0, 1, false
  FROM numbered, scope
)
INSERT INTO deliveries
  (tenant_id, environment_id, id, event_id, webhook_id, event_type, status, trigger, priority, attempt_count, due_at)
SELECT tenant_id, environment_id, delivery_id, event_id, ($8::uuid[])[webhook + 1], $5,
  CASE WHEN webhook < $11 THEN 'held' ELSE 'failed' END, 'scheduled', 0, CASE WHEN webhook < $11 THEN 0 ELSE 1 END,
  CASE WHEN webhook < $11 THEN 'infinity' ELSE now() + make_interval(secs => 3600 + 36000 * n::float8 / $3::int) END
FROM numbered, scope`;

/** Whether a process removes records whose time is over. */
export async function retentionIsWorking(client: Client): Promise<boolean> {
  // The lock of retention/round.ts.
  const result = await client.query(`SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 7678004`);
  return (result.rowCount ?? 0) > 0;
}

/** Writes a day of events that were delivered so many days ago, with deliveries and attempts. */
export async function writeOldDay(client: Client, tenant: string, daysAgo: number, events: number): Promise<void> {
  const day = new Date(Math.floor(Date.now() / 86_400_000) * 86_400_000 - daysAgo * 86_400_000);
  const name = day.toISOString().slice(0, 10).replaceAll('-', '');
  const idAt = (timeMs: number) => {
    const hex = timeMs.toString(16).padStart(12, '0');
    return `${hex.slice(0, 8)}-${hex.slice(8)}-0000-0000-000000000000`;
  };
  for (const table of ['events', 'deliveries', 'attempts']) {
    await client.query(`CREATE TABLE ${table}_${name} PARTITION OF ${table}
      FOR VALUES FROM ('${idAt(day.getTime())}') TO ('${idAt(day.getTime() + 86_400_000)}')`);
  }
  const { before, after } = dataAround(0);
  for (let from = 0; from < events; from += ROWS_AT_ONCE) {
    await client.query(WRITE_ENDED, [
      tenant,
      day,
      Math.min(ROWS_AT_ONCE, events - from),
      `${before}${'0'.repeat(SEQUENCE_DIGITS)}${after}`,
    ]);
  }
  await client.query(`VACUUM (ANALYZE) events_${name}, deliveries_${name}, attempts_${name}`);
  await client.query('CHECKPOINT');
}

/** $1 tenant, $2 the day's beginning, $3 events, $4 their data. */
const WRITE_ENDED = `
WITH scope AS (
  SELECT e.tenant_id, e.id AS environment_id FROM tenants t JOIN environments e ON e.tenant_id = t.id
  WHERE t.slug = $1 AND e.name = 'production'
),
numbered AS MATERIALIZED (
  SELECT uuidv7($2::timestamptz - clock_timestamp() + interval '1 hour' + make_interval(secs => n * 0.1)) AS id
  FROM generate_series(1, $3::int) AS n
),
stored AS (
  INSERT INTO events
    (tenant_id, environment_id, id, event_type, occurred_at, data, priority, delivery_count, is_test)
  SELECT tenant_id, environment_id, numbered.id, 'bench.old', $2, convert_to($4, 'UTF8'), 0, 1, false
  FROM numbered, scope
),
delivered AS (
  INSERT INTO deliveries
    (tenant_id, environment_id, id, event_id, webhook_id, event_type, status, trigger, priority, attempt_count)
  SELECT tenant_id, environment_id, numbered.id, numbered.id, environment_id, 'bench.old', 'delivered', 'scheduled', 0, 1
  FROM numbered, scope
)
INSERT INTO attempts
  (tenant_id, environment_id, id, delivery_id, event_id, webhook_id, event_type, number, trigger, url, http_method,
   request_headers, envelope, response_status, response_truncated, duration_ms)
SELECT tenant_id, environment_id, numbered.id, numbered.id, numbered.id, environment_id, 'bench.old', 1, 'scheduled',
  'http://127.0.0.1/', 'POST', '{}', 'standard', 200, false, 1
FROM numbered, scope`;
