import type pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openEnginePool } from '../../db/pool.ts';
import { systemClock } from '../../kernel/clock.ts';
import { createIdSource, firstIdAt } from '../../kernel/ids.ts';
import { createLogger } from '../../kernel/logger.ts';
import { createTestDatabase, type TestDatabase } from '../../testing/database.ts';
import { eventually } from '../../testing/eventually.ts';
import { DeliveryRows } from '../rows.ts';
import { LaneOwners } from './lane-owners.ts';
import { NodeRegistry } from './node-registry.ts';

let database: TestDatabase;
let pool: pg.Pool;
let registry: NodeRegistry;
const newId = createIdSource();
const lane = { tenantId: newId(), environmentId: newId(), webhookId: newId() };
beforeAll(async () => {
  database = await createTestDatabase();
  pool = openEnginePool({ connection: database.connection, logger: createLogger('silent') });
  registry = new NodeRegistry(pool, systemClock);
  const now = new Date();
  const { tenantId, environmentId, webhookId } = lane;
  await pool.query("INSERT INTO tenants (id, slug, name, created_at, updated_at) VALUES ($1, 't', 'T', $2, $2)", [
    tenantId,
    now,
  ]);
  await pool.query("INSERT INTO environments (tenant_id, id, name, created_at) VALUES ($1, $2, 'e', $3)", [
    tenantId,
    environmentId,
    now,
  ]);
  await pool.query(
    `INSERT INTO webhooks (tenant_id, environment_id, id, name, url, events, status, http_method, created_at, updated_at)
     VALUES ($1, $2, $3, 'w', 'https://e.example', '{*}', 'active', 'POST', $4, $4)`,
    [tenantId, environmentId, webhookId, now],
  );
});
afterAll(async () => {
  await pool.end();
  await database.drop();
});

const ownerOf = async () => (await pool.query('SELECT node_id FROM lanes')).rows[0]?.node_id;

test('a lane that could not be given up is not taken again before it is free, and then given up by the next try', async () => {
  const owners = new LaneOwners(pool, systemClock);
  const nodeId = await registry.join();
  owners.becomeNode(nodeId);
  const wanted = [{ lane, paceIntervalMs: 0 }];
  expect(await owners.acquire(wanted)).toHaveLength(1);
  await pool.query('ALTER TABLE lanes RENAME TO lanes_away');
  await expect(owners.release([{ lane, pacedUntilMs: 0 }])).rejects.toThrow();
  await pool.query('ALTER TABLE lanes_away RENAME TO lanes');
  expect(await owners.acquire(wanted)).toEqual([]);
  expect(await ownerOf()).toBe(nodeId);
  expect(await owners.release([])).toEqual([lane]);
  expect(await ownerOf()).toBe(null);
  expect(await owners.acquire(wanted)).toHaveLength(1);
});

test('whoever buries a dead node waits for its claim, and frees what that leased', async () => {
  const dead = await registry.join();
  await pool.query("UPDATE nodes SET heartbeat_at = now() - interval '1 minute' WHERE id = $1", [dead]);
  const claim = await pool.connect();
  await claim.query('BEGIN');
  await claim.query('SELECT FROM nodes WHERE id = $1 FOR KEY SHARE', [dead]);
  let freeing = false;
  const buried = registry.bury(dead, false, async () => {
    freeing = true;
    return 7;
  });
  await eventually(
    async () =>
      (await pool.query("SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"))
        .rowCount,
    (waiting) => waiting === 1,
  );
  expect(freeing).toBe(false);
  await claim.query('COMMIT');
  claim.release();
  expect(await buried).toBe(7);
  expect(await registry.bury(dead, false, async () => 1)).toBe(0);
});

test('a node that was buried leases nothing', async () => {
  const rows = new DeliveryRows(pool);
  const nodeId = await registry.join();
  const { tenantId, environmentId, webhookId } = lane;
  await pool.query('CREATE TABLE deliveries_all PARTITION OF deliveries DEFAULT');
  await pool.query(
    `INSERT INTO deliveries (tenant_id, environment_id, id, event_id, webhook_id, event_type, status, trigger, priority,
       attempt_count, due_at) VALUES ($1, $2, $3, $4, $5, 'a', 'pending', 'scheduled', 0, 0, now())`,
    [tenantId, environmentId, newId(), newId(), webhookId],
  );
  const room = [{ lane, room: 5, first: 5, later: 5, bytes: 1_000, ordered: false }];
  rows.nodeId = nodeId + 1_000;
  expect(await rows.claim(room, Date.now() + 1_000)).toEqual([]);
  rows.nodeId = nodeId;
  expect(await rows.claim(room, Date.now() + 1_000)).toHaveLength(1);
  expect(await rows.freeLeasesOf(nodeId, firstIdAt(0), Date.now())).toBe(1);
});
