import { sql } from 'kysely';
import type { Database } from '../db/pool.ts';
import { acceptedAtMs } from '../delivery/first-attempts.ts';
import type { Scope } from '../http/caller.ts';
import { timeOfId } from '../kernel/ids.ts';

/** Deliveries that wait. */
export interface Queue {
  /** They wait for an attempt: in their row, in the memory of a node, or parked behind another; those under way too. */
  waiting: number;
  /** Their webhook is paused or disabled, or their tenant is suspended. */
  held: number;
  /** false: there may be more of either; counting ended early. */
  exact: boolean;
  /**
   * For how long the one that has waited longest could have been sent by now, in milliseconds: a first attempt since it was
   * accepted, a later one since it was due. Null: none could.
   */
  oldestMs: number | null;
}

export interface QueueQuery {
  /** Only what waits for these; absent: for any webhook of the environment. */
  webhookIds?: readonly string[] | undefined;
  nowMs: number;
  /** Counting ends there (10,000): a count of a million would cost more than it tells. */
  countedMax?: number;
}

const COUNTED_MAX = 10_000;

/** Rows, the newest first, among which those in the hands of nodes are looked for. */
const LOOKED_AT_MAX = 20_000;

/** Looks at what waits at the moment. Its cost is that of the webhooks for which something waits, and of counting. */
export async function readQueue(db: Database, scope: Scope, query: QueueQuery): Promise<Queue> {
  const { nowMs, countedMax = COUNTED_MAX } = query;
  const [rows, inHand] = [await waitingRows(db, scope, query, countedMax), await rowsInHand(db, scope, query)];
  const times = [
    rows.first_due === null ? null : acceptedAtMs(rows.first_due.getTime()),
    rows.later_due?.getTime() ?? null,
    inHand.oldest === null ? null : timeOfId(inHand.oldest),
  ].filter((time) => time !== null);
  return {
    waiting: rows.due + rows.parked + inHand.count,
    held: rows.held,
    exact: rows.due < countedMax && rows.parked + rows.held < countedMax && inHand.all,
    oldestMs: times.length === 0 ? null : Math.max(0, nowMs - Math.min(...times)),
  };
}

interface WaitingRows {
  due: number;
  parked: number;
  held: number;
  /** A century before the oldest first attempt was accepted. */
  first_due: Date | null;
  later_due: Date | null;
}

/** Hops from webhook to webhook in the index of waiting rows, as `WAITING_LANES` does, where it is not told which to look at. */
async function waitingRows(
  db: Database,
  { tenantId, environmentId }: Scope,
  { webhookIds, nowMs }: QueueQuery,
  countedMax: number,
): Promise<WaitingRows> {
  const now = new Date(nowMs);
  const lanes =
    webhookIds !== undefined
      ? sql`lane AS (SELECT * FROM unnest(${webhookIds}::uuid[]) w (webhook_id))`
      : sql`hop AS (
          (
            SELECT tenant_id, environment_id, webhook_id FROM deliveries
            WHERE due_at IS NOT NULL ORDER BY webhook_id, tenant_id LIMIT 1
          )
          UNION ALL
          SELECT n.* FROM hop CROSS JOIN LATERAL (
            SELECT d.tenant_id, d.environment_id, d.webhook_id FROM deliveries d
            WHERE d.due_at IS NOT NULL AND (d.webhook_id, d.tenant_id) > (hop.webhook_id, hop.tenant_id)
            ORDER BY d.webhook_id, d.tenant_id LIMIT 1
          ) n
        ),
        lane AS (SELECT webhook_id FROM hop WHERE tenant_id = ${tenantId} AND environment_id = ${environmentId})`;
  const ofLane = sql`d.tenant_id = ${tenantId} AND d.webhook_id = lane.webhook_id AND d.environment_id = ${environmentId}`;
  const result = await sql<WaitingRows>`
    WITH RECURSIVE ${lanes},
    due AS (
      SELECT d.* FROM lane CROSS JOIN LATERAL (
        SELECT FROM deliveries d WHERE ${ofLane} AND d.due_at < 'infinity' LIMIT ${countedMax}
      ) d LIMIT ${countedMax}
    ),
    stopped AS (
      SELECT d.* FROM lane CROSS JOIN LATERAL (
        SELECT d.status FROM deliveries d WHERE ${ofLane} AND d.due_at = 'infinity' LIMIT ${countedMax}
      ) d LIMIT ${countedMax}
    )
    SELECT
      (SELECT count(*) FROM due) AS due,
      (SELECT count(*) FROM stopped WHERE status <> 'held') AS parked,
      (SELECT count(*) FROM stopped WHERE status = 'held') AS held,
      (
        SELECT min(d.due_at) FROM lane CROSS JOIN LATERAL (
          SELECT d.due_at FROM deliveries d WHERE ${ofLane} AND d.due_at < '2000-01-01Z' ORDER BY d.due_at LIMIT 1
        ) d
      ) AS first_due,
      (
        SELECT min(d.due_at) FROM lane CROSS JOIN LATERAL (
          SELECT d.due_at FROM deliveries d WHERE ${ofLane} AND d.due_at >= '2000-01-01Z' AND d.due_at <= ${now}
          ORDER BY d.due_at LIMIT 1
        ) d
      ) AS later_due`.execute(db);
  return result.rows[0] as WaitingRows;
}

/**
 * What nodes have in hand is in no index. It is among the rows since the oldest that any of them has, which are looked at from
 * the newest one on, until there are too many.
 */
async function rowsInHand(db: Database, { tenantId, environmentId }: Scope, { webhookIds }: QueueQuery) {
  const since = await sql<{ id: string | null }>`
    SELECT oldest_leased_id AS id FROM nodes ORDER BY oldest_leased_id LIMIT 1`.execute(db);
  const oldestId = since.rows[0]?.id;
  if (oldestId === undefined || oldestId === null) return { count: 0, oldest: null, all: true };
  const rows = sql`SELECT id, lease_node, attempt_count FROM deliveries
    WHERE tenant_id = ${tenantId} AND environment_id = ${environmentId} AND id >= ${oldestId}`;
  const newest =
    webhookIds === undefined
      ? sql`${rows} ORDER BY id DESC LIMIT ${LOOKED_AT_MAX}`
      : sql`SELECT d.* FROM unnest(${webhookIds}::uuid[]) w (webhook_id) CROSS JOIN LATERAL (
          ${rows} AND webhook_id = w.webhook_id ORDER BY id DESC LIMIT ${LOOKED_AT_MAX}
        ) d LIMIT ${LOOKED_AT_MAX}`;
  const result = await sql<{ looked_at: number; count: number; oldest: string | null }>`
    WITH newest AS MATERIALIZED (${newest})
    SELECT
      count(*) AS looked_at,
      count(*) FILTER (WHERE lease_node IS NOT NULL) AS count,
      (SELECT id FROM newest WHERE lease_node IS NOT NULL AND attempt_count = 0 ORDER BY id LIMIT 1) AS oldest
    FROM newest`.execute(db);
  const { looked_at: lookedAt, count, oldest } = result.rows[0] ?? { looked_at: 0, count: 0, oldest: null };
  return { count, oldest, all: lookedAt < LOOKED_AT_MAX };
}

/** Deliveries of an environment, or of one webhook of it, that lie given up; counted up to `countedMax` (10,000). */
export async function countDeadLetters(
  db: Database,
  { tenantId, environmentId }: Scope,
  { webhookId, countedMax = COUNTED_MAX }: { webhookId?: string; countedMax?: number } = {},
): Promise<number> {
  const ofWebhook = webhookId === undefined ? sql`` : sql`AND webhook_id = ${webhookId}`;
  const result = await sql<{ count: number }>`
    SELECT count(*) AS count FROM (
      SELECT FROM dead_letters WHERE tenant_id = ${tenantId} AND environment_id = ${environmentId} ${ofWebhook}
      LIMIT ${countedMax}
    ) counted`.execute(db);
  return result.rows[0]?.count ?? 0;
}
