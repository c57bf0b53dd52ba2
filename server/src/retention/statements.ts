import type pg from 'pg';
import { URL_WITHOUT_PATH } from '../delivery/sql/url-without-path.ts';
import { firstIdAt } from '../kernel/ids.ts';

/**
 * The statements of retention. They name a day's partitions, so that they open no other day; names come from
 * `listPartitions`. Each looks at a bounded number of rows, from a cursor on, and gives the next one: undefined when the
 * day has no more of them.
 */

export interface Scope {
  tenantId: string;
  environmentId: string;
}

export interface Looked {
  cursor: string | undefined;
  /** Rows that were changed or removed. */
  changed: number;
  /** Rows that stay as they are because a delivery still waits. */
  spared: number;
}

/** Deliveries that wait for a time or are in hand: what they need is not taken from them. */
const STILL_NEEDED = `(d.due_at < 'infinity' OR d.lease_node IS NOT NULL)`;

/** The environments with rows in a partition. It hops from one to the next in the primary key. */
export async function environmentsIn(client: pg.ClientBase, partition: string): Promise<Scope[]> {
  const found = await client.query<{ tenant_id: string; environment_id: string }>(`
    WITH RECURSIVE hop AS (
      (SELECT tenant_id, environment_id FROM ${partition} ORDER BY tenant_id, environment_id LIMIT 1)
      UNION ALL
      SELECT n.* FROM hop CROSS JOIN LATERAL (
        SELECT p.tenant_id, p.environment_id FROM ${partition} p
        WHERE (p.tenant_id, p.environment_id) > (hop.tenant_id, hop.environment_id)
        ORDER BY p.tenant_id, p.environment_id LIMIT 1
      ) n
    )
    SELECT tenant_id, environment_id FROM hop`);
  return found.rows.map((row) => ({ tenantId: row.tenant_id, environmentId: row.environment_id }));
}

/**
 * Blanks what events carried, and what templates made of it. One of which a delivery waits or is held keeps it. A publish makes an event's deliveries with
 * it, so they are in the partitions of its day and of the next one (`deliveries`).
 */
export async function blankPayloads(
  client: pg.ClientBase,
  partitions: { events: string; deliveries: readonly string[] },
  scope: Scope,
  cursor: string,
  rows: number,
): Promise<Looked> {
  const kept = partitions.deliveries.map(
    (deliveries) => `AND NOT EXISTS (SELECT FROM ${deliveries} d WHERE d.event_id = e.id AND d.tenant_id = e.tenant_id
      AND (d.due_at IS NOT NULL OR d.lease_node IS NOT NULL))`,
  );
  return look(
    client,
    `WITH looked AS MATERIALIZED (
      SELECT id, data IS NOT NULL OR metadata IS NOT NULL AS has FROM ${partitions.events}
      WHERE tenant_id = $1 AND environment_id = $2 AND id > $3 ORDER BY id LIMIT $4
    ),
    changed AS (
      UPDATE ${partitions.events} e SET data = NULL, metadata = NULL FROM looked
      WHERE e.tenant_id = $1 AND e.environment_id = $2 AND e.id = looked.id AND looked.has ${kept.join(' ')}
      RETURNING e.id
    ),
    shaped AS (
      UPDATE attempts a SET request_body = NULL, request_headers = '{}', url = ${URL_WITHOUT_PATH} FROM changed
      WHERE a.tenant_id = $1 AND a.environment_id = $2 AND a.event_id = changed.id AND a.request_body IS NOT NULL
    )
    SELECT count(*) AS looked, (SELECT id FROM looked ORDER BY id DESC LIMIT 1) AS cursor,
      (SELECT count(*) FROM changed) AS changed,
      count(*) FILTER (WHERE has) - (SELECT count(*) FROM changed) AS spared
    FROM looked`,
    [scope.tenantId, scope.environmentId, cursor, rows],
    rows,
  );
}

/** Removes deliveries with their dead letters, also those that are held or parked. */
export async function removeDeliveries(
  client: pg.ClientBase,
  deliveries: string,
  scope: Scope,
  cursor: string,
  rows: number,
): Promise<Looked> {
  return look(
    client,
    `WITH looked AS MATERIALIZED (
      SELECT id FROM ${deliveries} WHERE tenant_id = $1 AND environment_id = $2 AND id > $3 ORDER BY id LIMIT $4
    ),
    changed AS (
      DELETE FROM ${deliveries} d USING looked
      WHERE d.tenant_id = $1 AND d.environment_id = $2 AND d.id = looked.id AND NOT coalesce(${STILL_NEEDED}, false)
      RETURNING d.id
    ),
    letters AS (
      DELETE FROM dead_letters l USING changed
      WHERE l.tenant_id = $1 AND l.environment_id = $2 AND l.delivery_id = changed.id
    )
    SELECT count(*) AS looked, (SELECT id FROM looked ORDER BY id DESC LIMIT 1) AS cursor,
      (SELECT count(*) FROM changed) AS changed, count(*) - (SELECT count(*) FROM changed) AS spared
    FROM looked`,
    [scope.tenantId, scope.environmentId, cursor, rows],
    rows,
  );
}

/** Removes events; one of which a delivery is still there keeps its row. */
export async function removeEvents(
  client: pg.ClientBase,
  partitions: { events: string; deliveries: readonly string[] },
  scope: Scope,
  cursor: string,
  rows: number,
): Promise<Looked> {
  const kept = partitions.deliveries.map(
    (deliveries) => `AND NOT EXISTS (SELECT FROM ${deliveries} d WHERE d.event_id = e.id AND d.tenant_id = e.tenant_id
      AND ${STILL_NEEDED})`,
  );
  return look(
    client,
    `WITH looked AS MATERIALIZED (
      SELECT id FROM ${partitions.events} WHERE tenant_id = $1 AND environment_id = $2 AND id > $3 ORDER BY id LIMIT $4
    ),
    changed AS (
      DELETE FROM ${partitions.events} e USING looked
      WHERE e.tenant_id = $1 AND e.environment_id = $2 AND e.id = looked.id ${kept.join(' ')}
      RETURNING e.id
    )
    SELECT count(*) AS looked, (SELECT id FROM looked ORDER BY id DESC LIMIT 1) AS cursor,
      (SELECT count(*) FROM changed) AS changed, count(*) - (SELECT count(*) FROM changed) AS spared
    FROM looked`,
    [scope.tenantId, scope.environmentId, cursor, rows],
    rows,
  );
}

/** Removes attempts: nothing depends on them. */
export async function removeAttempts(
  client: pg.ClientBase,
  attempts: string,
  scope: Scope,
  rows: number,
): Promise<Looked> {
  const removed = await client.query(
    `DELETE FROM ${attempts} WHERE ctid = ANY (ARRAY(
       SELECT ctid FROM ${attempts} WHERE tenant_id = $1 AND environment_id = $2 LIMIT $3))`,
    [scope.tenantId, scope.environmentId, rows],
  );
  const changed = removed.rowCount ?? 0;
  return { cursor: changed < rows ? undefined : firstIdAt(0), changed, spared: 0 };
}

/** Removes the dead letters of deliveries of a day. */
export async function removeDeadLetters(
  client: pg.ClientBase,
  scope: Scope,
  range: IdRange,
  rows: number,
): Promise<Looked> {
  const removed = await client.query(
    `DELETE FROM dead_letters WHERE ctid = ANY (ARRAY(
       SELECT ctid FROM dead_letters
       WHERE tenant_id = $1 AND environment_id = $2 AND delivery_id >= $3 AND delivery_id < $4 LIMIT $5))`,
    [scope.tenantId, scope.environmentId, range.from, range.to, rows],
  );
  const changed = removed.rowCount ?? 0;
  return { cursor: changed < rows ? undefined : firstIdAt(0), changed, spared: 0 };
}

/** Ids of a day: from one, and before the other. */
export interface IdRange {
  from: string;
  to: string;
}

/**
 * Keys that wait for a dead delivery of these go on: it can be delivered no more. Gives the environments to tell, for one
 * tenant (and environment) or for all. An ordering key's rows are few, whatever the day has.
 */
export async function unparkKeysOf(client: pg.ClientBase, range: IdRange, scope: Scope | undefined): Promise<Scope[]> {
  const removed = await client.query<{ tenant_id: string; environment_id: string }>(
    `DELETE FROM parked_keys k USING webhooks w
     WHERE k.delivery_id >= $1 AND k.delivery_id < $2
       AND w.tenant_id = k.tenant_id AND w.id = k.webhook_id
       AND ($3::uuid IS NULL OR k.tenant_id = $3 AND w.environment_id = $4)
     RETURNING k.tenant_id, w.environment_id`,
    [range.from, range.to, scope?.tenantId ?? null, scope?.environmentId ?? null],
  );
  return removed.rows.map((row) => ({ tenantId: row.tenant_id, environmentId: row.environment_id }));
}

/** Whether a delivery of a day waits for a time, or a node may have one in hand: then the day cannot go. */
export async function dayIsNeeded(client: pg.ClientBase, deliveries: string, range: IdRange): Promise<boolean> {
  const found = await client.query<{ needed: boolean }>(
    `SELECT EXISTS (SELECT FROM ${deliveries} WHERE due_at < 'infinity')
       OR EXISTS (SELECT FROM nodes WHERE oldest_leased_id < $1) AS needed`,
    [range.to],
  );
  return found.rows[0]?.needed === true;
}

/** The environments with deliveries of a day that are held or parked, and go with it. */
export async function environmentsWaitingIn(client: pg.ClientBase, deliveries: string): Promise<Scope[]> {
  const found = await client.query<{ tenant_id: string; environment_id: string }>(
    `SELECT DISTINCT tenant_id, environment_id FROM ${deliveries} WHERE due_at IS NOT NULL`,
  );
  return found.rows.map((row) => ({ tenantId: row.tenant_id, environmentId: row.environment_id }));
}

async function look(client: pg.ClientBase, text: string, values: unknown[], rows: number): Promise<Looked> {
  const result = await client.query<{ looked: string; cursor: string | null; changed: string; spared: string }>(
    text,
    values,
  );
  const [row] = result.rows;
  const looked = Number(row?.looked ?? 0);
  return {
    cursor: looked < rows ? undefined : (row?.cursor ?? undefined),
    changed: Number(row?.changed ?? 0),
    spared: Number(row?.spared ?? 0),
  };
}
