import { sql } from 'kysely';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { bySystem } from '../audit/auditor.ts';
import { createAuditLog } from '../audit/log.ts';
import { ensurePartitions } from '../db/partitions.ts';
import { type DatabaseHandle, openDatabase } from '../db/pool.ts';
import { systemClock } from '../kernel/clock.ts';
import { createIdSource, firstIdAt } from '../kernel/ids.ts';
import { createLogger } from '../kernel/logger.ts';
import { createTestDatabase, type TestDatabase } from '../testing/database.ts';
import { ManualClock } from '../testing/manual-clock.ts';
import { insertTenant } from './queries.ts';
import { closeEnvironment, closeTenant, REMOVED_IN_BATCHES, removeSome } from './removal.ts';
import { DEFAULT_SETTINGS } from './types.ts';

const TABLES = [
  ...['tenants', 'environments', 'api_keys', 'event_types', 'webhooks', 'webhook_secrets', 'webhook_totals'],
  ...[
    'templates',
    'template_versions',
    'lanes',
    'circuits',
    'parked_keys',
    'portal_revocations',
    'replay_jobs',
    'retention_cursors',
    'erasure_jobs',
  ],
  ...['api_key_old_secrets', 'jwt_issuers', 'rate_limits', 'daily_usage', 'audit_chains', 'audit_log'],
  ...['events', 'event_keys', 'deliveries', 'attempts', 'dead_letters', 'idempotent_requests'],
  ...['rollups_minute', 'rollups_hour', 'rollups_day'],
  ...['alert_rules', 'alert_states', 'alert_incidents', 'stream_entries', 'stream_listeners'],
  ...['announcements', 'announcement_paces'],
];
const RECORD_TABLES = [
  ...['events', 'event_keys', 'deliveries', 'attempts', 'dead_letters', 'idempotent_requests'],
  ...['rollups_minute', 'rollups_hour', 'rollups_day', 'announcements', 'announcement_paces'],
];

const newId = createIdSource();
const audit = createAuditLog({ newId });
let database: TestDatabase;
let handle: DatabaseHandle;
const clock = new ManualClock(Date.now());
const logger = createLogger('silent');

beforeAll(async () => {
  database = await createTestDatabase();
  handle = openDatabase({ connection: database.connection, logger });
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
    sql`INSERT INTO api_key_old_secrets (tenant_id, key_id, key_hash, expires_at)
        VALUES (${tenantId}, ${keyId}, ${Buffer.from(id)}, now())`,
    sql`INSERT INTO jwt_issuers (id, tenant_id, name, issuer, audience, jwks_url, clock_skew_seconds, max_lifetime_seconds,
          claims, default_environment, created_at, updated_at)
        VALUES (${id}, ${tenantId}, 'n', 'i', 'a', 'https://example.com', 0, 1, '{}', 'production', now(), now())`,
    sql`INSERT INTO rate_limits (tenant_id, subject, arrival_at) VALUES (${tenantId}, ${id}, now())`,
    sql`INSERT INTO daily_usage (tenant_id, day, used) VALUES (${tenantId}, now(), 1) ON CONFLICT DO NOTHING`,
    sql`INSERT INTO event_types (tenant_id, environment_id, name, group_name, description, created_at, updated_at)
        VALUES (${scope}, ${id}, 'g', 'd', now(), now())`,
    sql`INSERT INTO webhooks (tenant_id, environment_id, id, name, url, events, status, http_method, created_at, updated_at)
        VALUES (${scope}, ${webhookId}, 'w', 'https://example.com', '{*}', 'active', 'POST', now(), now())`,
    sql`INSERT INTO webhook_secrets (tenant_id, webhook_id, id, kind, secret_box, created_at)
        VALUES (${tenantId}, ${webhookId}, ${newId()}, 'symmetric', 'x', now())`,
    sql`INSERT INTO webhook_totals (tenant_id, webhook_id, last_triggered_at)
        VALUES (${tenantId}, ${webhookId}, now())`,
    sql`INSERT INTO templates (tenant_id, environment_id, id, name, version, last_version, created_at, updated_at)
        VALUES (${scope}, ${webhookId}, ${id}, 1, 1, now(), now())`,
    sql`INSERT INTO template_versions (tenant_id, template_id, version, content, created_at)
        VALUES (${tenantId}, ${webhookId}, 1, '{}', now())`,
    sql`INSERT INTO lanes (tenant_id, webhook_id, paced_until) VALUES (${tenantId}, ${webhookId}, now())`,
    sql`INSERT INTO circuits (tenant_id, environment_id, webhook_id, state, opened_at, reopens_at, reason)
        VALUES (${scope}, ${webhookId}, 'open', now(), now(), 'r')`,
    sql`INSERT INTO parked_keys (tenant_id, webhook_id, ordering_key, delivery_id, parked_at)
        VALUES (${tenantId}, ${webhookId}, 'k', ${newId()}, now())`,
    sql`INSERT INTO portal_revocations (tenant_id, environment_id, owner, number, revoked_at)
        VALUES (${scope}, ${id}, 1, now())`,
    sql`INSERT INTO replay_jobs (tenant_id, environment_id, id, trigger, until_at, status, estimated, estimate_is_exact,
          cursor_id, next_chunk_at, created_at)
        VALUES (${scope}, ${id}, 'replays', now(), 'completed', 0, true, ${id}, now(), now())`,
    sql`INSERT INTO retention_cursors (tenant_id, environment_id, day, cursor_id)
        VALUES (${scope}, DATE '2026-01-01' + ${count}::int, ${id})`,
    sql`INSERT INTO erasure_jobs (tenant_id, environment_id, id, path, value_hash, until_at, status, stage, cursor_id,
          next_step_at, created_at)
        VALUES (${scope}, ${id}, '{a}', 'x', now(), 'completed', 'vacuum', ${id}, now(), now())`,
    sql`INSERT INTO alert_rules (tenant_id, environment_id, id, name, metric, threshold, period_seconds, action, scope,
          is_active, next_evaluation_at, created_at, updated_at)
        VALUES (${scope}, ${id}, ${id}, 'dead_letters', 1, 60, 'alert_operations_team', 'environment', true, now(), now(), now())`,
    sql`INSERT INTO alert_states (tenant_id, environment_id, rule_id, subject_id, breaching_since)
        VALUES (${scope}, ${id}, ${id}, now())`,
    sql`INSERT INTO alert_incidents (tenant_id, environment_id, id, rule_id, rule_name, metric, threshold, period_seconds,
          action, status, value, worst_value, last_value, fired_at)
        VALUES (${scope}, ${id}, ${id}, 'a', 'dead_letters', 1, 60, 'alert_operations_team', 'firing', 1, 1, 1, now())`,
    sql`INSERT INTO stream_entries (tenant_id, environment_id, id, type, for_owner, data)
        VALUES (${scope}, ${id}, 'alert.fired', false, '{}')`,
    sql`INSERT INTO stream_listeners (tenant_id, environment_id, until) VALUES (${scope}, now()) ON CONFLICT DO NOTHING`,
    sql`INSERT INTO announcements (tenant_id, environment_id, type, webhook_id, webhook_name, webhook_url, occurred_at, details)
        VALUES (${scope}, 'delivery.dead', ${webhookId}, 'w', 'https://example.com', now(), '{}')`,
    sql`INSERT INTO announcement_paces (tenant_id, environment_id, subject_id, since, told, omitted)
        VALUES (${scope}, ${webhookId}, now(), 1, 0)`,
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
    ...['rollups_minute', 'rollups_hour', 'rollups_day'].map(
      (
        table,
      ) => sql`INSERT INTO ${sql.table(table)} (tenant_id, environment_id, webhook_id, event_type, at, keys, counts)
        VALUES (${scope}, ${webhookId}, 'a.b', now(), '{0}', '{1}')`,
    ),
  ]) {
    await statement.execute(handle.db);
  }
  await handle.db.transaction().execute((trx) =>
    audit.record(trx, bySystem({ tenantId, environmentId }), {
      action: 'thing.made',
      resourceType: 'thing',
      resourceId: id,
    }),
  );
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

/** Steps until nothing is left to do now; gives their number. */
async function removeAll(batchRows: number): Promise<number> {
  for (let steps = 0; ; steps += 1) {
    if (!(await removeSome({ db: handle.db, clock, logger, batchRows }))) return steps;
  }
}

const close = (tenantId: string) =>
  handle.db.transaction().execute((trx) => closeTenant(trx, tenantId, new Date(clock.now())));

async function removalsOf(tenantId: string): Promise<number[]> {
  const rows = await handle.db.selectFrom('removals').selectAll().where('tenant_id', '=', tenantId).execute();
  return rows.map(({ removed }) => removed);
}

test('a deleted tenant leaves no row, also of environments that went before it, and no other tenant loses one', async () => {
  const gone = await seedTenant('gone');
  const stays = await seedTenant('stays');
  const before = await countRows(TABLES, stays.tenantId);
  expect(before).toEqual({
    ...all(TABLES, 21),
    tenants: 1,
    environments: 3,
    audit_chains: 1,
    daily_usage: 1,
    stream_listeners: 3,
  });
  // An environment whose row is gone and whose records were left behind.
  await handle.db
    .deleteFrom('environments')
    .where('tenant_id', '=', gone.tenantId)
    .where('name', '=', 'staging')
    .execute();
  await close(gone.tenantId);
  // With the commit it can do nothing any more; what it did is still there.
  expect(await countRows(TABLES, gone.tenantId)).toMatchObject({
    ...all(['tenants', 'environments', 'api_keys', 'webhooks', 'event_types', 'lanes', 'audit_chains'], 0),
    ...all([...RECORD_TABLES, 'audit_log'], 21),
  });
  await removeAll(2);
  expect(await countRows(TABLES, gone.tenantId)).toEqual(all(TABLES, 0));
  expect(await countRows(TABLES, stays.tenantId)).toEqual(before);
});

test('what is stored for a tenant after its removal, because it was under way, is removed too', async () => {
  const { tenantId, environments } = await seedTenant('late');
  await close(tenantId);
  await removeAll(1_000);
  const id = newId();
  await sql`INSERT INTO events (tenant_id, environment_id, id, event_type, occurred_at, priority, delivery_count, is_test)
    VALUES (${tenantId}, ${environments.get('staging')}, ${id}, 'a.b', now(), 0, 1, false)`.execute(handle.db);
  clock.advance(119_000);
  expect(await removeAll(1_000)).toBe(0);
  clock.advance(1_000);
  await removeAll(1_000);
  expect(await countRows(TABLES, tenantId)).toEqual(all(TABLES, 0));
  // Not even the note that there was something to remove is left.
  expect(await removalsOf(tenantId)).toEqual([]);
});

test('a step removes so many rows and no more, and two nodes at once count each row once', async () => {
  const { tenantId } = await seedTenant('steps');
  await close(tenantId);
  await removeSome({ db: handle.db, clock, logger, batchRows: 3 });
  expect(await countRows(['events'], tenantId)).toEqual({ events: 18 });
  expect(await removalsOf(tenantId)).toEqual([3]);
  await Promise.all([removeAll(2), removeAll(2)]);
  expect(await removalsOf(tenantId)).toEqual([RECORD_TABLES.length * 21 + 21 + 21]);
});

test('the records of one environment go without those of another', async () => {
  const { tenantId, environments } = await seedTenant('partly');
  const staging = environments.get('staging') as string;
  await handle.db
    .transaction()
    .execute((trx) => closeEnvironment(trx, { tenantId, environmentId: staging }, new Date(clock.now())));
  // Counted just when the environment was deleted.
  await sql`INSERT INTO webhook_totals (tenant_id, webhook_id, last_triggered_at)
    VALUES (${tenantId}, ${newId()}, now())`.execute(handle.db);
  await removeAll(3);
  expect(await countRows(RECORD_TABLES, tenantId, staging)).toEqual(all(RECORD_TABLES, 0));
  expect(await countRows(RECORD_TABLES, tenantId)).toEqual(all(RECORD_TABLES, 14));
  // The audit log is the tenant's, and keeps what was done there.
  expect(await countRows(['audit_log', 'webhooks', 'webhook_totals', 'environments'], tenantId)).toEqual({
    audit_log: 21,
    webhooks: 14,
    webhook_totals: 14,
    environments: 2,
  });
});

test('every table that names a tenant goes with its row or is removed from in batches', async () => {
  const { rows } = await sql<{ name: string; cascades: boolean }>`
    WITH RECURSIVE cascading AS (
      SELECT 'tenants'::regclass::oid AS id
      UNION
      SELECT f.conrelid FROM pg_constraint f JOIN cascading c ON f.confrelid = c.id
      WHERE f.contype = 'f' AND f.confdeltype = 'c'
    )
    SELECT c.relname AS name, c.oid IN (SELECT id FROM cascading) AS cascades
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id'
    WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relnamespace = 'public'::regnamespace`.execute(
    handle.db,
  );
  // Each of them has rows in the tests above.
  const seeded = TABLES.filter((name) => name !== 'tenants');
  expect(rows.map(({ name }) => name).sort()).toEqual([...seeded, 'removals'].sort());
  const left = rows.filter(({ cascades }) => !cascades).map(({ name }) => name);
  // A trigger ends the chain of audit entries with the tenant.
  expect(left.sort()).toEqual([...REMOVED_IN_BATCHES, 'audit_chains', 'removals'].sort());
});
