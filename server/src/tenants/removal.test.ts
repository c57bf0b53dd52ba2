import { sql } from 'kysely';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ensurePartitions } from '../db/partitions.ts';
import { type DatabaseHandle, openDatabase } from '../db/pool.ts';
import { systemClock } from '../kernel/clock.ts';
import { createIdSource, firstIdAt } from '../kernel/ids.ts';
import { createLogger } from '../kernel/logger.ts';
import { createTestDatabase, type TestDatabase } from '../testing/database.ts';
import { insertTenant } from './queries.ts';
import { removeRecords, removeTenant } from './removal.ts';
import { DEFAULT_SETTINGS } from './types.ts';

const TABLES = [
  ...['tenants', 'environments', 'api_keys', 'event_types', 'webhooks', 'webhook_secrets', 'webhook_totals'],
  ...['lanes', 'circuits', 'parked_keys'],
  ...['events', 'event_keys', 'deliveries', 'attempts', 'dead_letters', 'idempotent_requests'],
];
const RECORD_TABLES = ['events', 'event_keys', 'deliveries', 'attempts', 'dead_letters', 'idempotent_requests'];

const newId = createIdSource();
let database: TestDatabase;
let handle: DatabaseHandle;

beforeAll(async () => {
  database = await createTestDatabase();
  handle = openDatabase({ connection: database.connection, logger: createLogger('silent') });
  await ensurePartitions(handle.pool, Date.now());
});

afterAll(async () => {
  await handle.close();
  await database.drop();
});

interface Seeded {
  tenantId: string;
  /** By name. */
  environments: Map<string, string>;
}

/** A tenant with seven rows of every kind in each of its environments, on two days' partitions. */
async function seedTenant(slug: string): Promise<Seeded> {
  const tenant = await handle.db
    .transaction()
    .execute((trx) => insertTenant(trx, { slug, name: slug, settings: DEFAULT_SETTINGS }, newId, new Date()));
  if (tenant === undefined) throw new Error('the slug was taken');
  const rows = await handle.db.selectFrom('environments').selectAll().where('tenant_id', '=', tenant.id).execute();
  for (const row of rows) {
    for (let count = 0; count < 7; count += 1) await seedRows(tenant.id, row.id, count);
  }
  return { tenantId: tenant.id, environments: new Map(rows.map((row) => [row.name, row.id])) };
}

async function seedRows(tenantId: string, environmentId: string, count: number): Promise<void> {
  const [webhookId, keyId] = [newId(), newId()];
  const tomorrow = firstIdAt(systemClock.now() + 86_400_000).slice(0, 13);
  const id = count % 2 === 0 ? newId() : tomorrow + newId().slice(13);
  const scope = sql`${tenantId}, ${environmentId}`;
  for (const statement of [
    sql`INSERT INTO api_keys (tenant_id, environment_id, id, name, role, key_hash, key_hint, created_at)
        VALUES (${scope}, ${keyId}, 'k', 'viewer', ${Buffer.from(keyId)}, 'ph', now())`,
    sql`INSERT INTO event_types (tenant_id, environment_id, name, group_name, description, created_at, updated_at)
        VALUES (${scope}, ${id}, 'g', 'd', now(), now())`,
    sql`INSERT INTO webhooks (tenant_id, environment_id, id, name, url, events, status, http_method, created_at, updated_at)
        VALUES (${scope}, ${webhookId}, 'w', 'https://example.com', '{*}', 'active', 'POST', now(), now())`,
    sql`INSERT INTO webhook_secrets (tenant_id, webhook_id, id, kind, secret_box, created_at)
        VALUES (${tenantId}, ${webhookId}, ${newId()}, 'symmetric', 'x', now())`,
    sql`INSERT INTO webhook_totals (tenant_id, webhook_id, last_triggered_at)
        VALUES (${tenantId}, ${webhookId}, now())`,
    sql`INSERT INTO lanes (tenant_id, webhook_id, paced_until) VALUES (${tenantId}, ${webhookId}, now())`,
    sql`INSERT INTO circuits (tenant_id, environment_id, webhook_id, state, opened_at, reopens_at, reason)
        VALUES (${scope}, ${webhookId}, 'open', now(), now(), 'r')`,
    sql`INSERT INTO parked_keys (tenant_id, webhook_id, ordering_key, delivery_id, parked_at)
        VALUES (${tenantId}, ${webhookId}, 'k', ${newId()}, now())`,
    sql`INSERT INTO events (tenant_id, environment_id, id, event_type, occurred_at, priority, delivery_count, is_test)
        VALUES (${scope}, ${id}, 'a.b', now(), 0, 1, false)`,
    sql`INSERT INTO event_keys (tenant_id, environment_id, kind, key, event_id, body_hash, created_at)
        VALUES (${scope}, 'event_id', ${id}, ${id}, 'x', now())`,
    sql`INSERT INTO deliveries (tenant_id, environment_id, id, event_id, webhook_id, event_type, status, trigger, priority, attempt_count)
        VALUES (${scope}, ${id}, ${id}, ${webhookId}, 'a.b', 'dead', 'scheduled', 0, 1)`,
    sql`INSERT INTO attempts (tenant_id, environment_id, id, delivery_id, event_id, webhook_id, event_type, number, trigger,
          url, http_method, request_headers, envelope, response_truncated, duration_ms)
        VALUES (${scope}, ${id}, ${id}, ${id}, ${webhookId}, 'a.b', 1, 'scheduled', 'https://example.com', 'POST', '{}', 'standard', false, 1)`,
    sql`INSERT INTO dead_letters (tenant_id, environment_id, delivery_id, event_id, webhook_id, event_type, reason, attempt_count, dead_at)
        VALUES (${scope}, ${id}, ${id}, ${webhookId}, 'a.b', 'exhausted', 1, now())`,
    sql`INSERT INTO idempotent_requests (tenant_id, environment_id, key, request_hash, created_at)
        VALUES (${scope}, ${id}, 'x', now())`,
  ]) {
    await statement.execute(handle.db);
  }
}

/** Rows a table of a tenant, or of one of its environments. */
async function countRows(tables: string[], tenantId: string, environmentId?: string): Promise<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (const table of tables) {
    const column = table === 'tenants' ? sql.ref('id') : sql.ref('tenant_id');
    const inEnvironment = environmentId === undefined ? sql`` : sql`AND environment_id = ${environmentId}`;
    const result = await sql<{ count: number }>`SELECT count(*) AS count FROM ${sql.table(table)}
      WHERE ${column} = ${tenantId} ${inEnvironment}`.execute(handle.db);
    counts[table] = result.rows[0]?.count ?? -1;
  }
  return counts;
}

const all = (tables: string[], count: number) => Object.fromEntries(tables.map((table) => [table, count]));

test('a removed tenant leaves no row, also of environments that went before it, and no other tenant loses one', async () => {
  const gone = await seedTenant('gone');
  const stays = await seedTenant('stays');
  const before = await countRows(TABLES, stays.tenantId);
  expect(before).toEqual({ ...all(TABLES, 21), tenants: 1, environments: 3 });
  // An environment whose row is gone and whose records were left behind.
  await handle.db
    .deleteFrom('environments')
    .where('tenant_id', '=', gone.tenantId)
    .where('name', '=', 'staging')
    .execute();
  const closed: Record<string, number>[] = [];
  const counting: Promise<void>[] = [];
  await removeTenant({
    db: handle.db,
    tenantId: gone.tenantId,
    batchRows: 2,
    onClosed: () => {
      counting.push(
        countRows(['tenants', 'api_keys', 'webhooks'], gone.tenantId).then((counts) => void closed.push(counts)),
      );
    },
  });
  await Promise.all(counting);
  expect(await countRows(TABLES, gone.tenantId)).toEqual(all(TABLES, 0));
  expect(await countRows(TABLES, stays.tenantId)).toEqual(before);
  // Its keys and webhooks went before its records.
  expect(closed[0]).toMatchObject({ api_keys: 0, webhooks: 0 });
});

test('the records of one environment go without those of another', async () => {
  const { tenantId, environments } = await seedTenant('partly');
  const staging = environments.get('staging') as string;
  await removeRecords({ db: handle.db, tenantId, environmentId: staging, batchRows: 3 });
  expect(await countRows(RECORD_TABLES, tenantId, staging)).toEqual(all(RECORD_TABLES, 0));
  expect(await countRows(RECORD_TABLES, tenantId)).toEqual(all(RECORD_TABLES, 14));
  expect(await countRows(['webhooks'], tenantId)).toEqual({ webhooks: 21 });
});
