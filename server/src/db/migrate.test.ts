import type pg from 'pg';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { createIdSource } from '../kernel/ids.ts';
import { createTestDatabase, type TestDatabase } from '../testing/database.ts';
import { loadMigrations, type Migration, migrate } from './migrate.ts';
import { ensurePartitions } from './partitions.ts';

let database: TestDatabase;
let pool: pg.Pool;
beforeAll(async () => {
  database = await createTestDatabase();
  pool = database.openPool();
});
afterAll(async () => {
  await pool.end();
  await database.drop();
});

const MIGRATIONS = loadMigrations();

async function rowsOf<Row extends object>(sql: string, values: unknown[] = []): Promise<Row[]> {
  return (await pool.query<Row>(sql, values)).rows;
}

const empty = () => pool.query('DROP SCHEMA public CASCADE; CREATE SCHEMA public');

/** Everything in the schema by which two states of a database can be told apart. */
async function schema(): Promise<string[]> {
  const rows = await rowsOf<{ text: string }>(`
    SELECT format('column %s.%s %s', table_name, column_name, data_type) AS text FROM information_schema.columns WHERE table_schema = 'public'
    UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'
    UNION ALL SELECT format('constraint %s %s', conrelid::regclass, pg_get_constraintdef(oid)) FROM pg_constraint WHERE connamespace = 'public'::regnamespace
    UNION ALL SELECT format('migration %s', version) FROM schema_migrations
    ORDER BY text`);
  return rows.map(({ text }) => text);
}

async function columnsOf(table: string): Promise<string[]> {
  const sql = "SELECT column_name FROM information_schema.columns WHERE table_schema = 'public' AND table_name = $1";
  return (await rowsOf<{ column_name: string }>(sql, [table])).map(({ column_name }) => column_name);
}

describe('an empty database', () => {
  beforeEach(empty);

  test('gets all tables, webhooks and the attempts that are their log among them, and each migration is on record', async () => {
    const result = await migrate(pool);
    const versions = MIGRATIONS.map(({ version }) => version);
    expect(result).toEqual({ applied: versions, version: versions.at(-1) });
    const recorded = await rowsOf<{ version: number }>('SELECT version FROM schema_migrations ORDER BY version');
    expect(recorded.map(({ version }) => version)).toEqual(versions);
    expect(await columnsOf('webhooks')).toEqual(
      expect.arrayContaining(['id', 'tenant_id', 'name', 'url', 'events', 'status', 'retry_policy', 'timeout_seconds']),
    );
    expect(await columnsOf('webhook_secrets')).toContain('secret_box');
    expect(await columnsOf('webhook_totals')).toEqual(expect.arrayContaining(['delivered', 'dead']));
    expect(await columnsOf('attempts')).toEqual(
      expect.arrayContaining(['tenant_id', 'webhook_id', 'event_type', 'number', 'response_status', 'response_body']),
    );
    expect(await migrate(pool)).toEqual({ applied: [], version: versions.at(-1) });
  });

  test('with dead letters of before gives them the response status of their deliveries', async () => {
    await migrate(
      pool,
      MIGRATIONS.filter(({ version }) => version < 18),
    );
    await ensurePartitions(pool, Date.now());
    const newId = createIdSource();
    const [tenant, environment] = [newId(), newId()];
    const lost = newId();
    const statuses = new Map([
      [newId(), 404],
      [newId(), null],
    ]);
    for (const [id, status] of statuses) {
      await pool.query(
        `INSERT INTO deliveries (tenant_id, environment_id, id, event_id, webhook_id, event_type, status, trigger, priority,
           attempt_count, response_status) VALUES ($1, $2, $3, $3, $3, 't', 'dead', 'scheduled', 0, 1, $4)`,
        [tenant, environment, id, status],
      );
    }
    for (const id of [...statuses.keys(), lost]) {
      await pool.query(
        `INSERT INTO dead_letters (tenant_id, environment_id, delivery_id, event_id, webhook_id, event_type, reason,
           attempt_count, dead_at) VALUES ($1, $2, $3, $3, $3, 't', 'gone', 1, now())`,
        [tenant, environment, id],
      );
    }
    await migrate(pool);
    const letters = await rowsOf<{ delivery_id: string; response_status: number | null }>(
      'SELECT delivery_id, response_status FROM dead_letters',
    );
    const found = new Map(letters.map(({ delivery_id, response_status }) => [delivery_id, response_status]));
    expect(found).toEqual(new Map([...statuses, [lost, null]]));
  });

  test('is migrated once by programs that start at the same time', async () => {
    const results = await Promise.all([migrate(pool), migrate(pool), migrate(pool)]);
    expect(results.map(({ applied }) => applied.length).sort((a, b) => a - b)).toEqual([0, 0, MIGRATIONS.length]);
  });

  test('that a newer program has migrated is refused, and left as it is', async () => {
    await migrate(pool);
    await pool.query("INSERT INTO schema_migrations (version, name) VALUES (9999, 'from-the-future')");
    const before = await schema();
    await expect(migrate(pool)).rejects.toThrow(/version 9999, newer than this program/);
    expect(await schema()).toEqual(before);
  });
});

describe('a migration that fails', () => {
  const [first, ...others] = MIGRATIONS as [Migration, ...Migration[]];

  test.each([
    ['a statement that is wrong', 'ALTER TABLE webhooks ADD broken text; SELECT no_such_column FROM webhooks'],
    ['rows that do not fit', 'UPDATE webhooks SET name = NULL; ALTER TABLE webhooks ADD CHECK (name IS NULL)'],
    [
      'a record that cannot be made',
      'ALTER TABLE webhooks ADD broken text; ALTER TABLE schema_migrations ADD CHECK (version < 2)',
    ],
    ['a table that is there already', 'DROP TABLE attempts; CREATE TABLE webhooks (id uuid)'],
  ])('with %s leaves the database as it was, and the right one goes on from there', async (_what, sql) => {
    await empty();
    await migrate(pool, [first]);
    await makeWebhook();
    const before = await schema();
    const broken = { version: 2, name: '0002-broken', sql };
    await expect(migrate(pool, [first, broken])).rejects.toThrow(
      'Migration 0002-broken failed; nothing of it was kept.',
    );
    expect(await schema()).toEqual(before);
    expect(await rowsOf('SELECT name FROM webhooks')).toEqual([{ name: 'Webhook' }]);
    expect((await migrate(pool)).applied).toEqual(others.map(({ version }) => version));
    expect(await rowsOf('SELECT name FROM webhooks')).toEqual([{ name: 'Webhook' }]);
  });
});

const newUuid = createIdSource();
const tenantId = newUuid();
const environmentId = newUuid();
const webhookId = newUuid();

const WEBHOOK = `INSERT INTO webhooks (tenant_id, id, environment_id, name, url, events, status, http_method, created_at, updated_at)
  VALUES ($1, $2, $3, 'Webhook', 'https://example.com', '{*}', 'active', 'POST', now(), now())`;
const SECRET = `INSERT INTO webhook_secrets (tenant_id, webhook_id, id, kind, secret_box, created_at)
  VALUES ($1, $2, $3, 'symmetric', $4, now())`;
/** A box begins with its format and the id of its key. */
const BOX = Buffer.alloc(40, 1);

async function makeWebhook(): Promise<void> {
  await pool.query(
    `INSERT INTO tenants (id, slug, name, created_at, updated_at) VALUES ($1, 'acme', 'Acme', now(), now())`,
    [tenantId],
  );
  await pool.query(`INSERT INTO environments (tenant_id, id, name, created_at) VALUES ($1, $2, 'production', now())`, [
    tenantId,
    environmentId,
  ]);
  await pool.query(WEBHOOK, [tenantId, webhookId, environmentId]);
}

test('foreign keys refuse what belongs to nothing, and what belongs to a webhook goes with it', async () => {
  await empty();
  await migrate(pool);
  await makeWebhook();
  const violated = { code: '23503' };
  await expect(pool.query(WEBHOOK, [tenantId, newUuid(), newUuid()])).rejects.toMatchObject(violated);
  await expect(pool.query(WEBHOOK, [newUuid(), newUuid(), environmentId])).rejects.toMatchObject(violated);
  // Of another tenant's webhook it is refused as well: keys hold the tenant.
  for (const [tenant, webhook] of [
    [tenantId, newUuid()],
    [newUuid(), webhookId],
  ]) {
    await expect(pool.query(SECRET, [tenant, webhook, newUuid(), BOX])).rejects.toMatchObject(violated);
  }
  await pool.query(SECRET, [tenantId, webhookId, newUuid(), BOX]);
  await pool.query('DELETE FROM webhooks WHERE tenant_id = $1 AND id = $2', [tenantId, webhookId]);
  expect(await rowsOf('SELECT FROM webhook_secrets')).toEqual([]);
  await pool.query(WEBHOOK, [tenantId, webhookId, environmentId]);
  await pool.query('DELETE FROM tenants WHERE id = $1', [tenantId]);
  expect(await rowsOf('SELECT FROM webhooks')).toEqual([]);
});

describe('among many rows', () => {
  beforeAll(async () => {
    await empty();
    await migrate(pool);
    await ensurePartitions(pool, Date.now());
    // Ids of now, which grow; webhooks take turns.
    await pool.query(
      `INSERT INTO attempts (tenant_id, environment_id, id, delivery_id, event_id, webhook_id, event_type, number, trigger, url,
         http_method, request_headers, envelope, response_truncated, duration_ms)
       SELECT $1, $2, (substr($3::text, 1, 24) || lpad(to_hex(n), 12, '0'))::uuid,
         (substr($4::text, 1, 24) || lpad(to_hex(n / 4), 12, '0'))::uuid, $4::uuid,
         (substr($5::text, 1, 24) || lpad(to_hex(n % 200), 12, '0'))::uuid, 'a.b', 1, 'scheduled', 'https://example.com',
         'POST', '{}', 'standard', false, 5
       FROM generate_series(1, 20000) n`,
      [tenantId, environmentId, newUuid(), webhookId, webhookId],
    );
    await pool.query('ANALYZE');
  });

  test.each([
    ["a webhook's newest log rows", 'webhook_id = $3 ORDER BY id DESC LIMIT 51', 'webhook_id_tenant_id_id_idx'],
    ["a delivery's attempts", 'delivery_id = $3', 'pkey'],
  ])('%s are found by an index', async (_what, where, index) => {
    const plan = await rowsOf<{ 'QUERY PLAN': string }>(
      `EXPLAIN SELECT * FROM attempts WHERE tenant_id = $1 AND environment_id = $2 AND ${where}`,
      [tenantId, environmentId, webhookId],
    );
    const text = plan.map((row) => row['QUERY PLAN']).join('\n');
    expect(text).toMatch(new RegExp(`Index Scan (?:Backward )?(?:using|on) attempts\\w+${index}`));
    // Days without rows may be read in any way.
    expect(text).not.toMatch(/Seq Scan.* rows=(?!1 )|Sort/);
  });
});
